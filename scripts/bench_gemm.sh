#!/usr/bin/env bash
# Times matrix products of danlu and of torch.matmul in turns and prints, as a Markdown table, the medians of the paired
# ratios. Products are X·Wᵀ; danlu converts float32 factors while it packs and gives float32, torch gets factors of the
# type and gives the type.
#
#   PEER_PYTHON  a Python with torch (default python3)      DANLU  the program (default: built from this tree)
#   PAIRS        pairs of runs (default 5)                  THREADS  threads of each (default 2)
#
# usage: bench_gemm.sh [MxKxN...]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PEER_PYTHON:-python3}
threads=${THREADS:-2}
[ $# -gt 0 ] || set -- 1024x1024x1024 2048x576x1536 2048x576x49152
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${DANLU:-}" ]; then
	DANLU=$work/danlu
	(cd "$root" && CGO_ENABLED=0 go build -o "$DANLU" ./cmd/danlu)
fi
cat >"$work/peer.py" <<'PY'
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
kind = {"f32": torch.float32, "bf16": torch.bfloat16}[sys.argv[2]]
rates = []
for size in sys.argv[3:]:
    m, k, n = map(int, size.split("x"))
    x, w = torch.rand(m, k).sub(0.5).to(kind), torch.rand(n, k).sub(0.5).to(kind)
    best, start = 0, time.perf_counter()
    while best == 0 or time.perf_counter() - start < 0.5:
        t = time.perf_counter()
        torch.matmul(x, w.t())
        best = max(best, 2 * m * n * k / (time.perf_counter() - t) / 1e9)
    rates.append(best)
print(json.dumps(rates))
PY
echo '| product | danlu GFLOP/s | torch GFLOP/s | ratio, median of pairs (all) |'
echo '|---|---|---|---|'
for dtype in f32 bf16; do
	: >"$work/pairs"
	for _ in $(seq "${PAIRS:-5}"); do
		own=$("$DANLU" bench gemm --dtype "$dtype" --mkn "$(IFS=,; echo "$*")" --threads "$threads" --json)
		peer=$("$python" "$work/peer.py" "$threads" "$dtype" "$@" | tail -n 1)
		printf '[%s, %s]\n' "$own" "$peer" >>"$work/pairs"
	done
	"$python" - "$dtype" "$work/pairs" "$@" <<'PY'
import json, statistics, sys
pairs = [json.loads(line) for line in open(sys.argv[2])]
for i, size in enumerate(sys.argv[3:]):
    own, peer = [p[0]["gflops"][i] for p in pairs], [p[1][i] for p in pairs]
    ratios = sorted(a / b for a, b in zip(own, peer))
    print(f'| {sys.argv[1]} {size} | {statistics.median(own):.0f} | {statistics.median(peer):.0f} | '
          f'{statistics.median(ratios):.2f} ({", ".join(f"{r:.2f}" for r in ratios)}) |')
PY
done
