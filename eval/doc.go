// Package eval measures models on tasks: multiple choice by log-likelihood, generated answers, perplexity, instruction
// following, code, documents. A task is a YAML file in the format of lm-evaluation-harness, as far as that is
// declarative; its prompts, requests, filters, metrics and aggregations are that program's, so that scores are too.
//
//	library ──Resolve──▶ tasks ──requests──▶ Model ──answers──▶ filters ──▶ metrics ──▶ Report
//
// A Model answers requests: a generate.Runner in this process (Local), or an endpoint in the shape of OpenAI's API
// (Remote). Answers are kept under the hash of their request, so that a run that was cut off goes on where it was.
package eval
