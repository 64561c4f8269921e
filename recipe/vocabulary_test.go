package recipe

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/family"
	"danlu/format/safetensors"
	"danlu/quant"
	"danlu/tokenizer"
)

// matrix reads a matrix of a model folder's file as float32.
func matrix(t *testing.T, file, name string) (values []float32, rows, columns int) {
	t.Helper()
	f, err := safetensors.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	values = make([]float32, x.Len())
	if err := quant.Dequantize(x.DType, values, x.Data); err != nil {
		t.Fatal(err)
	}
	return values, x.Shape[0], x.Shape[1]
}

// grownModel trains a model for a step without moving its weights, with a vocabulary that has outgrown it.
func grownModel(t *testing.T, base string, words ...string) string {
	t.Helper()
	dir, _ := runRecipe(t, context.Background(), append([]string{"stage=pt", "model_name_or_path=" + base, "dataset=" + story(t), "cutoff_len=32", "max_steps=1", "learning_rate=0",
		"output_dir=" + t.TempDir()}, words...)...)
	return dir
}

// An adapter of a model whose vocabulary has grown learns the new rows, belongs to the model when that is grown again, and
// is merged with its vocabulary; the reference of pairs is the grown model.
func TestGrownVocabularyInAdapters(t *testing.T) {
	for _, tied := range []bool{false, true} {
		t.Run(fmt.Sprint("tied ", tied), func(t *testing.T) {
			base := tinyModel(t)
			if tied {
				base, _ = runRecipe(t, context.Background(), scratch("stage=pt", "dataset="+story(t), "cutoff_len=32", "max_steps=1", "output_dir="+t.TempDir())...)
			}
			rows := writeRows(t, preferences(8)...)
			grown := []string{"model_name_or_path=" + base, "add_special_tokens=<pill>", "finetuning_type=lora", "dataset=" + rows, "cutoff_len=64", "per_device_train_batch_size=4"}
			run, lines := runRecipe(t, context.Background(), append(grown, "stage=dpo", "max_steps=3", "learning_rate=1e-2", "output_dir="+t.TempDir())...)
			if first := lines[0]["loss"].(float64); !(math.Abs(first-math.Ln2) < 1e-4) {
				t.Errorf("the first loss is %v: policy and reference differ", first)
			}
			embed, n, columns := matrix(t, filepath.Join(run, "adapter_model.safetensors"), "base_model.model.model.embed_tokens.weight")
			head, _, _ := matrix(t, filepath.Join(run, "adapter_model.safetensors"), "base_model.model.lm_head.weight")
			if n != 4160 || slices.Equal(embed, head) != tied {
				t.Errorf("the adapter's embedding has %d rows; it is its head: %v", n, slices.Equal(embed, head))
			}
			if again, _ := runRecipe(t, context.Background(), append(grown, "stage=dpo", "max_steps=1", "learning_rate=0", "adapter_name_or_path="+run, "output_dir="+t.TempDir())...); again != "" {
				after, _, _ := matrix(t, filepath.Join(again, "adapter_model.safetensors"), "base_model.model.model.embed_tokens.weight")
				if !slices.Equal(after, embed) {
					t.Error("the rows changed on the way")
				}
			}
			out := filepath.Join(t.TempDir(), "merged")
			r, err := LoadExport("", []string{"model_name_or_path=" + base, "adapter_name_or_path=" + run, "export_dir=" + out})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Merge(r, ExportOptions{}); err != nil {
				t.Fatal(err)
			}
			tok, err := tokenizer.Load(out)
			if err != nil {
				t.Fatal(err)
			}
			if id, ok := tok.ID("<pill>"); !ok || id != 4096 {
				t.Errorf("the merged model's tokenizer has <pill> as %d, %v", id, ok)
			}
			merged, _, _ := matrix(t, filepath.Join(out, "model.safetensors"), "model.embed_tokens.weight")
			off := 0.0
			for i := range merged {
				off = max(off, math.Abs(float64(merged[i]-embed[i])))
			}
			if len(merged) != n*columns || !(off < 0.02) { // bfloat16
				t.Errorf("the merged rows are up to %v off the adapter's", off)
			}
			m, err := family.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if m.Model.Info().VocabSize != n {
				t.Errorf("the merged config has %d rows, want %d", m.Model.Info().VocabSize, n)
			}
		})
	}
}

func TestVocabularyRefuses(t *testing.T) {
	base := tinyModel(t)
	for _, c := range []struct{ words, want string }{
		{"add_tokens=x1y2 quantization_bit=4 finetuning_type=lora", "quantization_bit"},
		{"new_special_tokens_config=nowhere.yaml", "nowhere.yaml"},
		{"init_special_tokens=desc_init add_special_tokens=<x>", "new_special_tokens_config"},
		{"init_special_tokens=zeros", "one of noise_init"},
	} {
		_, err := attempt(t, "stage: pt\nfinetuning_type: full\nreport_to: none\n", append(strings.Fields(c.words), "model_name_or_path="+base, "dataset="+story(t), "output_dir="+t.TempDir())...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.words, c.want, err)
		}
	}
}

// New tokens get rows: the mean of all rows, of the rows of their old spelling or of their description's, noise on top.
func TestVocabularyGrows(t *testing.T) {
	base := tinyModel(t)
	old, err := tokenizer.Load(base)
	if err != nil {
		t.Fatal(err)
	}
	meanings := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(meanings, []byte("<happy>: a happy cat\n<mat>: 垫子\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model.embed_tokens.weight", "lm_head.weight"} {
		before, rows, n := matrix(t, filepath.Join(base, "model.safetensors"), name)
		mean := func(ids []int32) []float32 {
			sum := make([]float64, n)
			for _, id := range ids {
				for i := range sum {
					sum[i] += float64(before[int(id)*n+i])
				}
			}
			out := make([]float32, n)
			for i := range out {
				out[i] = float32(sum[i] / float64(len(ids)))
			}
			return out
		}
		all := make([]int32, rows)
		for i := range all {
			all[i] = int32(i)
		}
		for _, c := range []struct {
			what  string
			token string
			want  []float32
			noise bool
		}{
			{"add_tokens=炼丹炉 init_special_tokens=mean_init", "炼丹炉", mean(all), false},
			{"add_tokens=炼丹炉", "炼丹炉", mean(all), true},
			{"add_special_tokens=<pill> init_special_tokens=subword_init", "<pill>", mean(old.Encode("<pill>", tokenizer.Options{})), false},
			{"new_special_tokens_config=" + meanings + " init_special_tokens=desc_init", "<happy>", mean(old.Encode("a happy cat", tokenizer.Options{})), false},
			{"new_special_tokens_config=" + meanings + " init_special_tokens=desc_init_w_noise", "<mat>", mean(old.Encode("垫子", tokenizer.Options{})), true},
		} {
			dir := grownModel(t, base, strings.Fields(c.what)...)
			tok, err := tokenizer.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			id, ok := tok.ID(c.token)
			if text := "x" + c.token + "y"; !ok || int(id) < rows || !slices.Contains(tok.Encode(text, tokenizer.Options{ParseSpecial: true}), id) {
				t.Fatalf("%s: %s is token %d, %v", c.what, c.token, id, ok)
			}
			after, grown, _ := matrix(t, filepath.Join(dir, "model.safetensors"), name)
			if grown != rows+rowsMultiple || !slices.Equal(after[:rows*n], before) {
				t.Errorf("%s: %s: %d rows became %d, or old rows changed", c.what, name, rows, grown)
			}
			off := 0.0
			for i, v := range after[int(id)*n : (int(id)+1)*n] {
				off += math.Pow(float64(v-c.want[i]), 2)
			}
			off = math.Sqrt(off)
			// The noise of a row has length 1; stored in bfloat16.
			if !c.noise && off > 0.01 || c.noise && (off < 0.6 || off > 1.4) {
				t.Errorf("%s: %s: the new row is %v off the mean", c.what, name, off)
			}
			m, err := family.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if m.Model.Info().VocabSize != grown {
				t.Errorf("%s: the config has %d rows, the matrix %d", c.what, m.Model.Info().VocabSize, grown)
			}
			m.Close()
		}
	}
}
