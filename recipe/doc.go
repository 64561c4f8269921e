// Package recipe reads training recipes and carries out their stages.
//
// A recipe is a flat YAML mapping with LLaMA-Factory's keys, defaults and meaning, plus the keys of this project; the
// fields of Model, Data, Method, Reinforce, Distill, Optim, Output, Generation and Export are the one table of keys
// that do something. A key is one of three things: implemented (a field), without meaning here (Load lists those that
// a recipe sets, for one line on standard error), or an error that names the nearest key.
//
// Run carries a recipe out. A stage is one file, stage_NAME.go, whose function reads as the same steps: tokenizer,
// template, dataset, model, objective, train, report. The steps are methods of job, each in the file of that name, so
// that a stage says only what is special to it: how a record becomes tokens (a data.Encoder) and what is minimised (a
// train.Objective). To add a stage:
//
//  1. Write stage_NAME.go with a function of type stage and `func init() { stages["NAME"] = ... }`.
//  2. Add its name to the oneof tag of Method.Stage and its keys to keys.go; refuse impossible pairs in check.go.
//  3. Values that its loss needs beside the tokens (a reference model's log-probabilities, advantages) are inputs that
//     the objective declares in its graph; training.prepare puts them into Batch.Extra under the same names, before
//     each step, and may replace the step's batches by new ones (answers drawn from the model).
//  4. A further model (reference, reward, critic) is opened by job.openModel and loaded into a store of its own.
//
// How much of a model is trained is the method's affair (finetuning_type): one function of type method in
// method_NAME.go, registered in the map methods.
package recipe
