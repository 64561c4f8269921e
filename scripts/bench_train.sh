#!/usr/bin/env bash
# Times training steps of danlu and of a peer in turns and prints, as a Markdown table, the medians of the paired ratios.
#
#   PEER_PYTHON  the peer's Python (default python3)
#   PEER_SCRIPT  its benchmark: SCRIPT MODEL BATCH SEQ MODE THREADS prints a line of JSON with tokens_per_s and
#                peak_rss_bytes; MODE is fp32 or bf16, or, from the environment, PEER_MODE
#   DANLU        the program (default: built from this tree)
#   DANLU_FLAGS  further flags of danlu bench train
#   PAIRS        pairs of runs (default 5)      THREADS  threads of each (default 2)      STEPS  timed steps (default 5)
#
# usage: bench_train.sh MODEL:BATCH:SEQ:DTYPE...     e.g. smollm2-135m:2:512:bf16 stories15m-v4k:8:256:bf16
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PEER_PYTHON:-python3}
script=${PEER_SCRIPT:?PEER_SCRIPT: path of the peer\'s benchmark}
threads=${THREADS:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${DANLU:-}" ]; then
	DANLU=$work/danlu
	(cd "$root" && CGO_ENABLED=0 go build -o "$DANLU" ./cmd/danlu)
fi
echo '| work | danlu tokens/s | peer tokens/s | ratio, median of pairs (all) | danlu GB | peer GB | memory ratio |'
echo '|---|---|---|---|---|---|---|'
for item in "$@"; do
	IFS=: read -r model batch seq dtype <<<"$item"
	mode=${PEER_MODE:-${dtype/f32/fp32}}
	: >"$work/pairs"
	for _ in $(seq "${PAIRS:-5}"); do
		own=$("$DANLU" bench train "$model" --batch "$batch" --seq "$seq" --dtype "$dtype" --steps "${STEPS:-5}" --threads "$threads" ${DANLU_FLAGS:-} --json)
		peer=$("$python" "$script" "$model" "$batch" "$seq" "$mode" "$threads" 2>/dev/null | tail -n 1)
		printf '[%s, %s]\n' "$own" "$peer" >>"$work/pairs"
	done
	"$python" - "$model, $batch x $seq, $dtype" "$work/pairs" <<'PY'
import json, statistics, sys
pairs = [json.loads(line) for line in open(sys.argv[2])]
median = lambda key, i: statistics.median(p[i][key] for p in pairs)
ratios = sorted(a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs)
memory = statistics.median(a["peak_rss_bytes"] / b["peak_rss_bytes"] for a, b in pairs)
print(f'| {sys.argv[1]} | {median("tokens_per_s", 0):.0f} | {median("tokens_per_s", 1):.0f} | {statistics.median(ratios):.2f} '
      f'({", ".join(f"{r:.2f}" for r in ratios)}) | {median("peak_rss_bytes", 0)/1e9:.2f} | {median("peak_rss_bytes", 1)/1e9:.2f} | {memory:.2f} |')
PY
done
