#!/usr/bin/env bash
# Carries out a built-in pipeline, killing it (kill -9) once in each stage as soon as that has come some way, and lets the
# last start come to its end. Prints the seconds of all starts together.
#
#   scripts/pipeline_killed.sh DANLU RECIPE FOLDER STAGE...
set -euo pipefail
danlu=$1 recipe=$2 out=$3
shift 3
SECONDS=0

# begun STAGE: it has logged a few steps, or collected some answers.
begun() {
  [ -f "$out/$1/answers/progress.json" ] || { [ -f "$out/$1/metrics.jsonl" ] && [ "$(wc -l <"$out/$1/metrics.jsonl")" -ge 5 ]; }
}

for stage in "$@"; do
  "$danlu" --quiet train "$recipe" output_dir="$out" >/dev/null &
  run=$!
  until begun "$stage"; do
    kill -0 $run || { echo "$recipe ended before stage $stage" >&2; exit 1; }
    sleep 0.2
  done
  kill -9 $run
  wait $run || true
done 2>/dev/null
"$danlu" --quiet train "$recipe" output_dir="$out" >/dev/null
echo "$SECONDS"
