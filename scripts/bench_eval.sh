#!/usr/bin/env bash
# Throughput of danlu eval against lm-evaluation-harness with transformers: the same model folder, the same items, in
# pairs that take turns. Prints a row of Markdown a task and way of running: requests per second of both, and the median
# of the pairs' ratios.
#   scripts/bench_eval.sh MODEL [PAIRS] [LIMIT]
# DANLU names the binary, PEER a Python with lm-eval, torch and transformers. THREADS: 2. CPU=1 counts processor time in
# the place of wall time, for machines that are shared; danlu's then includes loading and compiling.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export THREADS=${THREADS:-2}
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=$THREADS MKL_NUM_THREADS=$THREADS
exec "${PEER:-python3}" "$here/bench_eval.py" "${DANLU:-danlu}" "$1" "${2:-3}" "${3:-40}"
