#!/usr/bin/env bash
# Times danlu and llama.cpp from their start to the first token on the screen, with files in the page cache, in interleaved
# pairs, and prints a table of medians and of the median of the paired ratios: danlu generate against llama-completion, and
# danlu chat against llama-cli, which reads its question from standard input.
#
#   LLAMA_BIN=folder/of/llama.cpp/programs scripts/bench_start.sh model.gguf...
#
# DANLU: the binary to time (built when unset). PAIRS: pairs for each file (5). THREADS: of both (2). PEER_FLAGS: more
# flags of llama.cpp's programs (--no-warmup, without which they start later).
set -euo pipefail
: "${LLAMA_BIN:?folder of the llama.cpp programs to compare with}"
pairs=${PAIRS:-5} threads=${THREADS:-2} flags=${PEER_FLAGS:---no-warmup}
if [ -z "${DANLU:-}" ]; then
	DANLU=$(mktemp)
	trap 'rm -f "$DANLU"' EXIT
	(cd "$(dirname "$0")/.." && CGO_ENABLED=0 go build -trimpath -o "$DANLU" ./cmd/danlu)
fi

# median of the numbers on standard input, one a line
median() { sort -g | awk '{ x[NR] = $1 } END { print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'; }

# first MARK COMMAND...: milliseconds until the command, asked a question, writes a word after MARK
first() {
	local mark=$1 seen='' start=${EPOCHREALTIME/./} end='' c
	shift
	exec 3< <("$@" 2>/dev/null <<<'Say hello.')
	while IFS= read -r -N 1 -u 3 c; do
		if [ -z "$end" ] && [[ $seen == *"$mark" && $c != [[:space:]] ]]; then
			end=${EPOCHREALTIME/./}
		elif [[ $seen != *"$mark" ]]; then
			seen+=$c
		fi
	done
	exec 3<&-
	: "${end:?$1: wrote no word}"
	echo $(((end - start) / 1000))
}

row() { # FILE NAME
	local work
	work=$(mktemp -d)
	for ((i = 0; i < pairs; i++)); do
		peer "$1" >>"$work/peer"
		own "$1" >>"$work/own"
	done
	printf '| %s %s | %.0f | %.0f | %.2f |\n' "$(basename "$1")" "$2" "$(median <"$work/peer")" "$(median <"$work/own")" \
		"$(paste "$work/peer" "$work/own" | awk '{ print $2 / $1 }' | median)"
	rm -r "$work"
}

echo '| file and verb | llama.cpp, ms to the first token | danlu | ratio |'
echo '|---|---|---|---|'
for file in "$@"; do
	cat "$file" >/dev/null
	# shellcheck disable=SC2086
	peer() { first '' "$LLAMA_BIN/llama-completion" -m "$1" -t "$threads" -n 4 -no-cnv --temp 0 --no-display-prompt $flags -p 'Once upon a time'; }
	own() { first '' "$DANLU" generate "$1" 'Once upon a time' --threads "$threads" --max-new 4 --temperature 0 --quiet; }
	row "$file" generate
	# shellcheck disable=SC2086
	peer() { first $'\n> ' "$LLAMA_BIN/llama-cli" -m "$1" -t "$threads" -n 4 --temp 0 --simple-io -st $flags; }
	own() { first '' "$DANLU" chat "$1" --threads "$threads" --max-new 4 --temperature 0 --quiet; }
	row "$file" chat
done
