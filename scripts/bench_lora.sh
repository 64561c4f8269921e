#!/usr/bin/env bash
# Times LoRA steps (rank 16 on all linear layers, SmolLM2-135M, 2 x 512, bfloat16) of danlu and of PEFT in turns, with the
# frozen weights as danlu keeps them by default, and quantized (QLoRA; the peer is the same LoRA step). The variables are
# those of bench_train.sh, and WORK, MODEL:BATCH:SEQ:DTYPE of another step; PEER_SCRIPT's MODE is lora-bf16.
#
# usage: bench_lora.sh [bf16|nf4|nf4_double|f32...]     (default: bf16 nf4_double)
set -euo pipefail
train=$(dirname "$0")/bench_train.sh
export PEER_MODE=lora-bf16
for frozen in ${@:-bf16 nf4_double}; do
	echo "frozen weights: $frozen"
	DANLU_FLAGS="--lora 16 --frozen $frozen" "$train" "${WORK:-smollm2-135m:2:512:bf16}"
done
