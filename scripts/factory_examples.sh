#!/bin/sh
# Runs LLaMA-Factory's example recipes as they are, with only the model's path changed (and few steps), on its demo data.
#
#   scripts/factory_examples.sh FACTORY [MODEL [key=value ...]]
#
# FACTORY is a checkout of LLaMA-Factory (examples/ and data/); MODEL a model folder, by default a small one made here.
# Prints a line for each recipe and fails when one of those that must run does not. DANLU names the program.
set -eu
factory=$(cd "$1" && pwd)
shift
danlu=${DANLU:-danlu}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$factory"
if [ $# -gt 0 ]; then
	model=$1
	shift
else
	model=$work/model
	"$danlu" train stage=pt model_name_or_path=qwen3-tiny train_from_scratch=true dataset=c4_demo cutoff_len=256 max_steps=1 \
		output_dir="$model" report_to=none quiet=true
fi
failed=0
run() { # RECIPE [key=value ...]
	recipe=$1
	shift
	if "$danlu" train "$recipe" model_name_or_path="$model" output_dir="$work/out" max_steps=2 logging_steps=1 "$@" >"$work/log" 2>&1; then
		echo "ok    $recipe: $(grep -h '^done' "$work/log" | sed 's/;.*//')"
	else
		failed=1
		echo "FAIL  $recipe: $(tail -n 1 "$work/log")"
	fi
}
for recipe in examples/train_full/*_sft.yaml examples/train_lora/*.yaml examples/train_qlora/*.yaml examples/extras/pissa/*.yaml \
	examples/extras/loraplus/*.yaml examples/extras/muon/*.yaml; do
	case $recipe in
	*vl_* | *mossvl* | *_ray.yaml | *_aqlm.yaml) echo "skip  $recipe (pictures, a remote data set, or AQLM)"; continue ;;
	esac
	set -- template=chatml "$@"
	case $recipe in
	*_preprocess.yaml) run "$recipe" tokenized_path="$work/tokens" "$@" ;;
	*) run "$recipe" "$@" ;;
	esac
	shift
done
run examples/train_lora/qwen3_lora_sft.yaml template=chatml "$@" >/dev/null
for recipe in examples/merge_lora/qwen3_lora_sft.yaml; do
	if "$danlu" export "$recipe" model_name_or_path="$model" adapter_name_or_path="$work/out" export_dir="$work/merged" >"$work/log" 2>&1; then
		echo "ok    $recipe"
	else
		failed=1
		echo "FAIL  $recipe: $(tail -n 1 "$work/log")"
	fi
done
exit $failed
