package main

import (
	"slices"
	"strings"
	"testing"
)

func TestRecipeFlags(t *testing.T) {
	for line, want := range map[string]string{
		"my.yaml learning_rate=1e-4":                                     "my.yaml learning_rate=1e-4",
		"--stage sft --do_train --model-name-or-path a/b --lr 3 --bf16":  "stage=sft do_train=true model_name_or_path=a/b --lr 3 bf16=true",
		"--save_only_model false --learning_rate=1e-4 --quiet --force":   "save_only_model=false learning_rate=1e-4 --quiet --force",
		"--trust_remote_code --deepspeed ds.json --use_muon --threads 2": "trust_remote_code=true deepspeed=ds.json use_muon=true --threads 2",
	} {
		if got := recipeFlags(strings.Fields(line)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: want %s, got %s", line, want, strings.Join(got, " "))
		}
	}
}
