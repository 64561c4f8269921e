#!/usr/bin/env bash
# Training time and memory against sentencepiece and Hugging Face tokenizers: needs a Python with those two.
#   PYTHON=python3 DANLU_GOLDENS=... scripts/bench_tokenizer_train.sh [ROUNDS] [MB] [mixed|varied]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -r "$bin"' EXIT
CGO_ENABLED=0 go build -o "$bin/danlu" ./cmd/danlu
"${PYTHON:-python3}" scripts/bench_tokenizer_train.py "$bin/danlu" "${DANLU_GOLDENS:?set it to the reference-data folder}" "${1:-3}" "${2:-64}" "${3:-mixed}"
