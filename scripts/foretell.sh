#!/usr/bin/env bash
# Trains a few steps of several set-ups and prints, as a Markdown table, memory and step time beside what was foretold.
#
#   DANLU    the program (default: built from this tree)      THREADS  its threads (default 2)
#   SETUPS   MODEL:BATCH:SEQ, separated by blanks
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${DANLU:-}" ]; then
	DANLU=$work/danlu
	(cd "$root" && CGO_ENABLED=0 go build -o "$DANLU" ./cmd/danlu)
fi
setups=${SETUPS:-llama-tiny:8:256 glm-tiny:8:128 qwen3-moe-tiny:8:128 deepseek-v3-tiny:8:128 stories15m-v4k:8:256 smollm2-135m:2:512}
echo '| model | batch | kind | dtype | memory, MB | foretold | error | step, s | foretold | error |'
echo '|---|---|---|---|---|---|---|---|---|---|'
for setup in $setups; do
	IFS=: read -r model batch seq <<<"$setup"
	for kind in full lora qlora; do
		case $kind in
		full) flags=() ;;
		lora) flags=(--lora 16) ;;
		qlora) flags=(--lora 16 --frozen nf4_double) ;;
		esac
		for dtype in f32 bf16; do
			"$DANLU" bench train "$model" --batch "$batch" --seq "$seq" --dtype "$dtype" "${flags[@]}" --steps 5 --foretell --threads "${THREADS:-2}" --json |
				tr -d '{}"' | tr , '\n' | awk -F: -v row="| $model | $batch x $seq | $kind | $dtype" '
					$1 == "foretold_bytes" { told = $2 }
					$1 == "peak_rss_bytes" { peak = $2 }
					$1 == "foretold_step_s" { step = $2 }
					$1 == "tokens_per_s" { rate = $2 }
					END {
						took = '"$batch * $seq"' / rate
						printf "%s | %.1f | %.1f | %+.1f%% | %.3f | %.3f | %+.1f%% |\n", row, peak / 1e6, told / 1e6, 100 * (told / peak - 1), took, step, 100 * (step / took - 1)
					}'
		done
	done
done
