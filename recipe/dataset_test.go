package recipe

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/data"
)

type letters struct{}

func (letters) Encode(text string) []int32 {
	ids := make([]int32, len(text))
	for i := range text {
		ids[i] = int32(text[i])
	}
	return ids
}

func TestRecipeToBatches(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.txt": strings.Repeat("some words of a line\n", 50), "b.txt": strings.Repeat("中文的一行\n", 50),
		"pairs.jsonl": `{"prompt": "q", "chosen": "a", "rejected": "b"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	r, err := parse("stage: pt\ndataset: a.txt,b.txt\ndataset_dir: "+dir+"\ncutoff_len: 32\nmix_strategy: interleave_over\ninterleave_by: tokens\nval_size: 0.1\n",
		"per_device_train_batch_size=2", "gradient_accumulation_steps=3")
	if err != nil {
		t.Fatal(err)
	}
	attrs, err := r.Datasets(false)
	if err != nil {
		t.Fatal(err)
	}
	store, err := data.Build(context.Background(), r.BuildOptions(attrs, &data.TextEncoder{Tokenizer: letters{}, BOS: 1, EOS: 2}, "letters", false))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	train, val, err := data.Mix(store, r.MixOptions(attrs))
	if err != nil {
		t.Fatal(err)
	}
	if val.Len() != 10 {
		t.Errorf("validation: want 10 rows, got %d", val.Len())
	}
	for _, s := range train.Mix {
		if s.TokenShare < 0.49 || s.TokenShare > 0.51 {
			t.Errorf("share: %s", s)
		}
	}
	l, err := data.NewLoader(train, r.LoaderOptions(0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	step, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	if len(step.Batches) != 3 || step.Batches[0].B != 2 || step.Batches[0].T != 32 || step.Tokens != 6*32 || step.Scored == 0 {
		t.Errorf("step: %d batches, %d tokens, %d scored", len(step.Batches), step.Tokens, step.Scored)
	}
}

func TestDatasetsHaveToSuitTheStage(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"pairs.jsonl": `{"prompt": "q", "chosen": "a", "rejected": "b"}`, "sft.jsonl": `{"instruction": "q", "output": "a"}`,
		data.InfoFile: `{"hub": {"hf_hub_url": "a/b"}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ stage, dataset, want string }{
		{"dpo", "sft.jsonl", "no preference pairs"}, {"sft", "pairs.jsonl", "holds preference pairs"}, {"kto", "sft.jsonl", "kto_tag"}, {"sft", "hub", "lies on a hub"}, {"sft", "sft.jsonl", ""}, {"rm", "pairs.jsonl", ""},
	} {
		r, err := parse("dataset: " + c.dataset + "\nstage: " + c.stage + "\ndataset_dir: " + dir + "\n")
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Datasets(false)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s with %s: want %q, got %v", c.stage, c.dataset, c.want, err)
		}
	}
}
