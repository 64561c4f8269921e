#!/usr/bin/env bash
# Times danlu against llama.cpp on the same GGUF files, in interleaved pairs, and prints a table of medians and of the
# median of the paired ratios.
#
#   LLAMA_BENCH=path/to/llama-bench scripts/bench_infer.sh model.gguf...
#
# DANLU: the binary to time (built when unset). PAIRS: pairs for each file (5). PROMPT, DECODE: tokens (512, 64).
# THREADS: of both (2). FLAGS: more flags of danlu bench infer.
set -euo pipefail
: "${LLAMA_BENCH:?path of the llama-bench to compare with}"
pairs=${PAIRS:-5} prompt=${PROMPT:-512} decode=${DECODE:-64} threads=${THREADS:-2}
if [ -z "${DANLU:-}" ]; then
	DANLU=$(mktemp)
	trap 'rm -f "$DANLU"' EXIT
	(cd "$(dirname "$0")/.." && CGO_ENABLED=0 go build -trimpath -o "$DANLU" ./cmd/danlu)
fi

# median of the numbers on standard input, one a line
median() { sort -g | awk '{ x[NR] = $1 } END { print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'; }

# number KEY: the first number in the JSON list KEY on standard input
number() { sed -n "s/.*\"$1\":\[\([0-9.e+]*\).*/\1/p"; }

# peer FLAGS...: tokens per second of one llama-bench test
peer() { "$LLAMA_BENCH" -t "$threads" -r 1 -o json "$@" 2>/dev/null | sed -n 's/.*"avg_ts": \([0-9.]*\).*/\1/p'; }

echo "| file | llama.cpp prefill $prompt / decode $decode, tokens/s | danlu | ratio |"
echo "|---|---|---|---|"
for file in "$@"; do
	work=$(mktemp -d)
	for ((i = 0; i < pairs; i++)); do
		peer -m "$file" -p "$prompt" -n 0 >>"$work/p0"
		peer -m "$file" -p 0 -n "$decode" >>"$work/d0"
		# shellcheck disable=SC2086
		"$DANLU" bench infer "$file" -p "$prompt" -n "$decode" -t "$threads" --reps 1 --json ${FLAGS:-} >"$work/json"
		number prefill_tokens_per_s <"$work/json" >>"$work/p1"
		number decode_tokens_per_s <"$work/json" >>"$work/d1"
	done
	ratio() { paste "$work/$1" "$work/$2" | awk '{ print $2 / $1 }' | median; }
	printf '| %s | %.0f / %.0f | %.0f / %.0f | %.2f / %.2f |\n' "$(basename "$file")" "$(median <"$work/p0")" "$(median <"$work/d0")" \
		"$(median <"$work/p1")" "$(median <"$work/d1")" "$(ratio p0 p1)" "$(ratio d0 d1)"
	rm -r "$work"
done
