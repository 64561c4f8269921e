#!/usr/bin/env bash
# Encoding speed against tiktoken, sentencepiece and Hugging Face tokenizers: needs a Python with those three.
#   PYTHON=python3 DANLU_GOLDENS=... scripts/bench_tokenizer.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -r "$bin"' EXIT
CGO_ENABLED=0 go build -o "$bin/danlu" ./cmd/danlu
"${PYTHON:-python3}" scripts/bench_tokenizer.py "$bin/danlu" "${DANLU_GOLDENS:?set it to the reference-data folder}" "${1:-5}"
