#!/usr/bin/env bash
# Proofs that the stages and recipes learn something, on fixed seeds: from small models trained here, in the given folder
# (default: a temporary one). Fails when one of them misses its mark. Takes about an hour on two cores.
#
#   scripts/nightly.sh [DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-$(mktemp -d)}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
danlu=$dir/danlu
CGO_ENABLED=0 go build -trimpath -o "$danlu" ./cmd/danlu
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
  train stage=rft finetuning_type=full model_name_or_path="$1" dataset=corpus:held-out-english-questions:400 output_dir="$dir/score" cutoff_len=64 \
    num_generations=1 max_completion_length=48 reward_funcs=stated_answer temperature=0
  number "$dir/score/all_results.json" pass@1
}

# probe RECIPE MODEL PROBE REWARD [mean|std|full]: what a pipeline's report says of the model that a stage left.
probe() {
  python3 -c 'import json, sys
folder, model, probe, reward, what = sys.argv[1:]
print(json.load(open(folder + "/pipeline.json"))["marks"][model][probe]["rewards"][reward][what])' "$dir/$1" "$2" "$3" "$4" "${5:-mean}"
}

# less A B: A - B.
less() { awk -v a="$1" -v b="$2" 'BEGIN { print a - b }'; }

# recipe NAME: a built-in pipeline, with its time.
recipe() {
  SECONDS=0
  "$danlu" --quiet train "$1" output_dir="$dir/$1" >/dev/null
  mark "$1: seconds" "$SECONDS" "<=" 600
}

echo "== quickstart: its time and what it learned"
rm -rf "$dir/quickstart"
SECONDS=0
(cd "$dir" && ./danlu --quiet quickstart)
mark "quickstart: seconds" "$SECONDS" "<=" 180
if DANLU_QUICKSTART=$dir/quickstart go test -count=1 -v -run TestFinishedRun ./recipe/quickstart; then echo "ok    quickstart: marks"; else echo "MISS  quickstart: marks"; status=1; fi

echo "== R1-Zero: the first checkpoint of the quickstart's base that adds now and then, GRPO by rule rewards alone"
"$danlu" recipe show quickstart | sed -e '/- name: chat/,$d' >"$dir/base.yaml"
(cd "$dir" && "$danlu" --quiet train base.yaml base.dataset=corpus:documents:30000 base.output_dir="$dir/base" max_steps=600 save_steps=25 save_total_limit=null report_to=none \
  overwrite_output_dir=true sample_prompts=null seed=1 >/dev/null)
for step in $(seq 100 25 600); do
  start=$dir/base/checkpoint-$step
  before=$(score "$start")
  if awk -v x="$before" 'BEGIN { exit !(x >= 0.2) }'; then break; fi
done
mark "checkpoint-$step: held-out additions" "$before" "<=" 0.4
SECONDS=0
train stage=grpo finetuning_type=full model_name_or_path="$start" dataset=corpus:english-questions:4000 output_dir="$dir/grpo" cutoff_len=64 \
  per_device_train_batch_size=128 num_generations=8 max_completion_length=36 reward_funcs=stated_answer scale_rewards=none adam_beta2=0.99 max_grad_norm=0.2 \
  learning_rate=2e-4 warmup_steps=10 lr_scheduler_type=linear max_steps=500 logging_steps=10 save_strategy=no bf16=true
took=$SECONDS
mark "GRPO: held-out additions" "$(score "$dir/grpo")" ">=" 0.9
mark "GRPO: seconds" "$took" "<=" 900

echo "== reward model and DPO on pairs whose lengths say nothing"
pairs=(dataset=corpus:english-pairs:4000 eval_dataset=corpus:held-out-english-pairs:200 eval_strategy=epoch cutoff_len=96 per_device_train_batch_size=16
  per_device_eval_batch_size=16 num_train_epochs=1 lr_scheduler_type=constant logging_steps=20 save_strategy=no bf16=true)
train stage=rm finetuning_type=full model_name_or_path="$start" output_dir="$dir/rm" learning_rate=3e-4 "${pairs[@]}"
mark "reward model: held-out pairs" "$(number "$dir/rm/all_results.json" eval_accuracy)" ">=" 0.9
train stage=dpo finetuning_type=full model_name_or_path="$start" output_dir="$dir/dpo" learning_rate=1e-4 "${pairs[@]}"
mark "DPO: held-out pairs" "$(number "$dir/dpo/all_results.json" eval_rewards/accuracies)" ">=" 0.85

echo "== distillation against cross-entropy on the same tokens"
talk=(finetuning_type=full cutoff_len=192 per_device_train_batch_size=16 save_strategy=no)
student=("${talk[@]}" model_name_or_path=llama-tiny train_from_scratch=true dataset=corpus:conversations:300 optim=muon learning_rate=8e-3 lr_scheduler_type=linear
  warmup_steps=10 num_train_epochs=20 bf16=true)
chat() { "$danlu" --quiet train "$@" template=chatml report_to=none overwrite_output_dir=true seed=1 >/dev/null; }
# loss MODEL: on conversations that nobody was trained on; a step at rate 0 changes nothing.
loss() {
  chat stage=sft "${talk[@]}" model_name_or_path="$1" dataset=corpus:conversations:8 eval_dataset=corpus:held-out-conversations:200 eval_strategy=epoch max_steps=1 learning_rate=0 \
    output_dir="$dir/loss"
  number "$dir/loss/all_results.json" eval_loss
}
chat stage=sft "${student[@]}" output_dir="$dir/entropy"
chat stage=distill teacher_model="$dir/quickstart/chat" "${student[@]}" output_dir="$dir/distilled"
teacher=$(loss "$dir/quickstart/chat")
share=$(awk -v t="$teacher" -v c="$(loss "$dir/entropy")" -v d="$(loss "$dir/distilled")" 'BEGIN { print (d - t) / (c - t) }')
mark "distillation: share left of the gap to the teacher" "$share" "<=" 0.5

echo "== deepseek-r1, killed once in each stage"
took=$(scripts/pipeline_killed.sh "$danlu" deepseek-r1 "$dir/deepseek-r1" base cold_start reasoning sampling sft reward general)
mark "deepseek-r1: seconds" "$took" "<=" 1800
for stage in cold_start reasoning sft general; do echo "      after $stage: $(probe deepseek-r1 $stage sums accuracy)"; done
mark "deepseek-r1: gain over the cold start" "$(less "$(probe deepseek-r1 general sums accuracy)" "$(probe deepseek-r1 cold_start sums accuracy)")" ">=" 0.2
mark "deepseek-r1: replies with words of the other language" "$(less 1 "$(probe deepseek-r1 general sums language full)")" "<=" 0.01

echo "== the other recipes"
for name in alpaca vicuna belle yi baichuan chinese-llama llama2-chat glm deepseek-v3 deepseek-r1-zero r1-distill qwen3; do recipe $name; done
gain=$(less "$(probe llama2-chat ppo preference reward_model)" "$(probe llama2-chat sft preference reward_model)")
mark "PPO: mean reward gained, in deviations of the SFT policy's" "$(awk -v g="$gain" -v s="$(probe llama2-chat sft preference reward_model std)" 'BEGIN { print g / s }')" ">=" 1
mark "PPO: divergence, nats a token" "$(number "$dir/llama2-chat/ppo/all_results.json" objective/kl_per_token)" "<=" 0.1
mark "PPO: additions gained" "$(less "$(probe llama2-chat ppo sums stated_answer)" "$(probe llama2-chat sft sums stated_answer)")" ">=" 0
mark "feedback bootstrapping: additions gained" "$(less "$(probe glm bootstrap sums stated_answer)" "$(probe glm sft sums stated_answer)")" ">=" 0.1
exit $status
