#!/usr/bin/env bash
# Pairs of danlu on the plugin for processors with JAX: the same training step, one after the other.
#   scripts/bench_xla.sh [PAIRS] [f32|bf16]
# PYTHON names a Python with jax.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
pairs=${1:-5} dtype=${2:-f32} python=${PYTHON:-python3}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
go build -o "$tmp/danlu" ./cmd/danlu
for i in $(seq "$pairs"); do
  "$tmp/danlu" bench train smollm2-135m --engine xla:cpu --batch 2 --seq 512 --dtype "$dtype" --steps 3 --json >> "$tmp/danlu.jsonl"
  "$python" scripts/jax_train.py 2 512 "$dtype" 3 >> "$tmp/jax.jsonl"
  paste -d '\n' <(tail -1 "$tmp/danlu.jsonl") <(tail -1 "$tmp/jax.jsonl")
done
"$python" - "$tmp/danlu.jsonl" "$tmp/jax.jsonl" <<'PY'
import json, statistics, sys
a, b = ([json.loads(line)["tokens_per_s"] for line in open(f)] for f in sys.argv[1:])
print("danlu %.1f, jax %.1f tokens/s at best; median of the paired ratios %.3f" % (max(a), max(b), statistics.median(x / y for x, y in zip(a, b))))
PY
