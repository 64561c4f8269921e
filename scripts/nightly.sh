#!/usr/bin/env bash
# Proofs that alignment learns something, on fixed seeds: from a small model trained here, in the given folder (default: a
# temporary one). Fails when one of them misses its mark. Takes about half an hour on two cores.
#
#   scripts/nightly.sh [DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-$(mktemp -d)}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
danlu=$dir/danlu
CGO_ENABLED=0 go build -trimpath -o "$danlu" ./cmd/danlu
go run data/corpus/additions.go "$dir/data"
status=0

# train WORDS...: a stage on a plain prompt format, quietly.
train() { "$danlu" --quiet train "$@" template=empty report_to=none overwrite_output_dir=true seed=1 >/dev/null; }

# number FILE KEY: a number of a JSON file, the last one of that name.
number() { grep -o "\"$2\": *[-0-9.e]*" "$1" | tail -1 | sed 's/.*: *//'; }

# mark NAME GOT OP WANT
mark() {
  if awk -v a="$2" -v b="$4" "BEGIN { exit !(a $3 b) }"; then echo "ok    $1: $2 ($3 $4)"; else echo "MISS  $1: $2, want $3 $4"; status=1; fi
}

# score MODEL: the share of held-out additions that its most probable answers get right.
score() {
  train stage=rft finetuning_type=full model_name_or_path="$1" dataset="$dir/data/held_out.jsonl" output_dir="$dir/score" cutoff_len=64 \
    num_generations=1 max_completion_length=48 reward_funcs=stated_answer temperature=0
  number "$dir/score/all_results.json" pass@1
}

echo "== quickstart: its time and what it learned"
rm -rf "$dir/quickstart"
SECONDS=0
(cd "$dir" && ./danlu --quiet quickstart)
mark "quickstart: seconds" "$SECONDS" "<=" 180
if DANLU_QUICKSTART=$dir/quickstart go test -count=1 -v -run TestFinishedRun ./recipe/quickstart; then echo "ok    quickstart: marks"; else echo "MISS  quickstart: marks"; status=1; fi

echo "== a model that adds now and then"
base=$dir/base
if [ ! -d "$base/checkpoint-550" ]; then
  train stage=pt model_name_or_path=llama-tiny train_from_scratch=true dataset="$dir/data/corpus.jsonl" output_dir="$base" cutoff_len=256 \
    per_device_train_batch_size=16 max_steps=550 learning_rate=3e-3 lr_scheduler_type=constant save_steps=550 bf16=true
fi
start=$base/checkpoint-550
before=$(score "$start")
echo "held-out additions before: $before"

echo "== GRPO from the base model, rewards by rule alone"
SECONDS=0
train stage=grpo finetuning_type=full model_name_or_path="$start" dataset="$dir/data/questions.jsonl" output_dir="$dir/grpo" cutoff_len=64 \
  per_device_train_batch_size=128 num_generations=8 max_completion_length=36 reward_funcs=stated_answer adam_beta2=0.99 \
  learning_rate=1.5e-4 warmup_steps=10 lr_scheduler_type=constant_with_warmup max_steps=1200 logging_steps=10 save_strategy=no bf16=true
took=$SECONDS
mark "GRPO: held-out additions" "$(score "$dir/grpo")" ">=" 0.9
mark "GRPO: seconds" "$took" "<=" 900

echo "== reward model and DPO on pairs whose lengths say nothing"
pairs=(dataset="$dir/data/pairs.jsonl" eval_dataset="$dir/data/pairs_held_out.jsonl" eval_strategy=epoch cutoff_len=96 per_device_train_batch_size=16
  per_device_eval_batch_size=16 num_train_epochs=1 lr_scheduler_type=constant logging_steps=20 save_strategy=no bf16=true)
train stage=rm finetuning_type=full model_name_or_path="$start" output_dir="$dir/rm" learning_rate=3e-4 "${pairs[@]}"
mark "reward model: held-out pairs" "$(number "$dir/rm/all_results.json" eval_accuracy)" ">=" 0.9
train stage=dpo finetuning_type=full model_name_or_path="$start" output_dir="$dir/dpo" learning_rate=1e-4 "${pairs[@]}"
mark "DPO: held-out pairs" "$(number "$dir/dpo/all_results.json" eval_rewards/accuracies)" ">=" 0.85
exit $status
