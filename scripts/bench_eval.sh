#!/usr/bin/env bash
# Throughput of danlu eval against lm-evaluation-harness with transformers: the same model folder, the same items, in
# pairs that take turns. Prints a row of Markdown a task: requests per second, and the median of the pairs' ratios.
#   scripts/bench_eval.sh MODEL [PAIRS] [LIMIT]
# DANLU names the binary, PEER a Python with lm-eval, torch and transformers. THREADS: 2.
set -euo pipefail
model=$1 pairs=${2:-3} limit=${3:-40}
danlu=${DANLU:-danlu} peer=${PEER:-python3} threads=${THREADS:-2}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$work/hf TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=$threads MKL_NUM_THREADS=$threads
"$peer" "$here/eval_items.py" "$work/tasks"
tasks=x_endings,x_school

ours() { # label, flags
  "$danlu" eval "$model" --tasks "$tasks" --include-path "$work/tasks" --limit "$limit" --bootstrap-iters 0 --threads "$threads" --json -q "${@:2}" |
    "$peer" -c 'import json,sys
for t, e in json.load(sys.stdin)["efficiency"].items(): print(json.dumps({"who": sys.argv[1], "task": t, "rate": e["requests"] / e["seconds"]}))' "$1" >> "$work/rates"
}
theirs() { # label, dtype
  "$peer" "$here/eval_peer.py" "$model" --tasks "$tasks" --include-path "$work/tasks" --limit "$limit" --dtype "$2" --threads "$threads" 2>> "$work/log" |
    "$peer" -c 'import json,sys
for l in sys.stdin:
    if l.startswith("{"): r = json.loads(l); print(json.dumps({"who": sys.argv[1], "task": r["task"], "rate": r["requests_per_s"]}))' "$1" >> "$work/rates"
}
for ((i = 0; i < pairs; i++)); do
  ours f32 --dtype f32
  ours f32-apart --dtype f32 --no-shared-prefix
  ours bf16 --dtype bf16
  theirs peer-f32 float32
  theirs peer-bf16 bfloat16
done
"$peer" - "$work/rates" <<'PY'
import json, statistics, sys
rates = {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    rates.setdefault(r["task"], {}).setdefault(r["who"], []).append(r["rate"])
print("| task | danlu | lm-eval | requests/s, danlu | lm-eval | ratio |\n|---|---|---|---:|---:|---:|")
for task, by in rates.items():
    for mine, other in (("f32-apart", "peer-f32"), ("f32", "peer-f32"), ("bf16", "peer-f32"), ("bf16", "peer-bf16")):
        a, b = by[mine], by[other]
        ratio = statistics.median(x / y for x, y in zip(a, b))
        print(f"| {task} | {mine} | {other[5:]} | {statistics.median(a):.1f} | {statistics.median(b):.1f} | {ratio:.2f} |")
PY
