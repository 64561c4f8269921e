#!/usr/bin/env bash
# What the XLA engine does on a machine with an NVIDIA GPU: installs the plugin from what the machine has, runs the
# verify cases, times training beside PyTorch in the same run, and starts two processes on the one GPU.
#
#   scripts/cuda.sh [OUT]         results go to OUT (default: cuda-results)
#   DRY_RUN=1 scripts/cuda.sh     prints the commands and runs none
#
# WHEELS is a folder of wheels, for a machine without a network. PYTHON names a Python with torch and transformers for the
# peer; without it the peer is left out and the results say so. DANLU names a built binary; without it Go builds one.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-cuda-results} python=${PYTHON:-python3} goldens=${DANLU_GOLDENS:-testdata/goldens}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# run NAME COMMAND...: the command's output goes to OUT/NAME; a failure is noted and the rest goes on.
failed=0
run() {
  local name=$1; shift
  printf '%s: %s\n' "$name" "$*"
  [ -n "${DRY_RUN:-}" ] && return 0
  if "$@" > "$out/$name" 2> "$out/$name.err"; then tail -1 "$out/$name"; else
    failed=1; echo "  FAILED: $(tail -1 "$out/$name.err")"
  fi
}

danlu=${DANLU:-$out/danlu}
[ -n "${DANLU:-}" ] || run build env CGO_ENABLED=0 go build -o "$danlu" ./cmd/danlu

echo "== plugin"
# A plugin that is there already (DANLU_PJRT_CUDA, a Python package, an earlier run) is taken as it is.
if [ -n "${DRY_RUN:-}" ] || ! "$danlu" engine doctor cuda13 > "$out/doctor" 2>&1; then
  if [ -n "${WHEELS:-}" ]; then run install "$danlu" engine install cuda13 --from "$WHEELS"; else run install "$danlu" engine install cuda13; fi
fi
run doctor "$danlu" engine doctor cuda13 --json

echo "== verify"
run verify "$danlu" verify --engine xla:cuda13 --json "$goldens"/models/*/

echo "== training, bf16"
peer=
if [ -n "${DRY_RUN:-}" ] || "$python" -c 'import torch, transformers, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then peer=1; else echo "peer: no torch with CUDA: not measured"; fi
for shape in "smollm2-135m 8 1024" "smollm2-135m 32 1024" "qwen3-0.6b 4 1024" "qwen3-0.6b 16 1024"; do
  read -r model batch seq <<< "$shape"
  run "train-$model-$batch" "$danlu" bench train "$model" --engine xla:cuda13 --batch "$batch" --seq "$seq" --dtype bf16 --steps 10 --json
  [ -z "$peer" ] || for mode in eager compile; do
    run "torch-$model-$batch-$mode" "$python" scripts/torch_cuda.py "$model" "$batch" "$seq" "$mode"
  done
done

echo "== decode"
run infer "$danlu" bench infer smollm2-135m --engine xla:cuda13 -p 512 -n 128 --json

run summary "$python" scripts/torch_cuda.py summary "$out"
[ "$failed" = 0 ] || { echo "some commands failed: see $out/*.err"; exit 1; }
