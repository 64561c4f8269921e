package recipe

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"danlu/data"
	"danlu/dtype"
	"danlu/family"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/tensor"
	"danlu/train"
)

type sftGolden struct {
	LossMasks []struct {
		IDs      []int32 `json:"ids"`
		Variants map[string]struct {
			Labels []int32 `json:"labels"`
			Loss   float64 `json:"loss_f64"`
		} `json:"variants"`
	} `json:"loss_masks"`
	Packing struct {
		Padded float64 `json:"loss_padded"`
		Packed float64 `json:"loss_packed"`
	} `json:"packing"`
	NEFTune struct {
		Alpha float64 `json:"alpha"`
		Loss  float64 `json:"loss_f64"`
	} `json:"neftune"`
}

func TestGoldenSupervised(t *testing.T) {
	dir := numtest.Goldens(t, "training/sft")
	if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Skipf("SKIPPED: %s holds no model; set DANLU_GOLDENS to the whole reference data", dir)
	}
	var c sftGolden
	readGolden(t, filepath.Join(dir, "case.json"), &c)
	f := openTensors(t, filepath.Join(dir, "tensors.safetensors"))
	g := openGolden(t, dir)
	objective := train.CrossEntropy(0)
	check := func(name string, x *data.Batch, want float64, objective train.Objective) outcome {
		t.Helper()
		out := g.run(objective, x, 1/float64(x.Scored), "", nil)
		nearLoss(t, name, out.scalar("loss"), want, 1e-5, 3e-6)
		return out
	}
	var rows []data.Sequence
	for i, m := range c.LossMasks {
		for variant, v := range m.Variants {
			one := data.Sequence{IDs: m.IDs, Labels: v.Labels}
			out := check(fmt.Sprintf("mask %d %s", i, variant), data.PadBatch([]data.Sequence{one}, 0, 0), v.Loss, objective)
			if variant == "assistant_only" {
				rows = append(rows, one)
				if prefix := fmt.Sprintf("mask.%d.grad.", i); i == len(c.LossMasks)-1 {
					checkGrads(t, f, prefix, out.grads, 1e-5, 2e-5)
				}
			}
		}
	}
	padded := data.PadBatch(rows, 0, 0)
	checkGrads(t, f, "packing.grad.", check("padded", padded, c.Packing.Padded, objective).grads, 1e-5, 2e-5)
	checkGrads(t, f, "packing.grad.", check("packed", data.PackRow(rows, 0, 0), c.Packing.Packed, objective).grads, 1e-5, 2e-5)
	noise, err := f.Tensor("neftune.unit_noise")
	if err != nil {
		t.Fatal(err)
	}
	padded.Extra = map[string]*tensor.Tensor{"noise": noise}
	noisy := func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		b.EmbeddingNoise = func(b *nn.Build, x *graph.Value) *graph.Value {
			return nn.AddNoise(x, b.G.Input("noise", graph.Of(dtype.F32, x.Shape...)), c.NEFTune.Alpha)
		}
		return objective(b, m, targets, norm)
	}
	checkGrads(t, f, "neftune.grad.", check("neftune", padded, c.NEFTune.Loss, noisy).grads, 1e-5, 2e-5)
	numtest.Count(t, "training/sft", len(c.LossMasks)+3)
}

// Noise on the embeddings changes what is trained, in another way at each step, and nothing that is measured.
func TestNEFTune(t *testing.T) {
	data := writeRows(t, questions(8)...)
	run := func(words ...string) []map[string]any {
		_, lines := runRecipe(t, t.Context(), scratch(append([]string{"stage=sft", "dataset=" + data, "cutoff_len=64", "per_device_train_batch_size=8", "max_steps=2", "learning_rate=0",
			"disable_shuffling=true", "eval_dataset=" + data, "eval_strategy=steps", "eval_steps=1", "output_dir=" + t.TempDir()}, words...)...)...)
		return lines
	}
	plain, noisy, again := run(), run("neftune_noise_alpha=100"), run("neftune_noise_alpha=100")
	loss := func(lines []map[string]any, key string) (values []any) {
		for _, l := range lines {
			if v, ok := l[key]; ok {
				values = append(values, v)
			}
		}
		return values
	}
	a, b, c := loss(plain, "loss"), loss(noisy, "loss"), loss(again, "loss")
	if len(b) != 2 || a[0] == b[0] || b[0] == b[1] || b[0] != c[0] || b[1] != c[1] {
		t.Errorf("losses without noise %v, with %v, again %v", a, b, c)
	}
	if e, f := loss(plain, "eval_loss"), loss(noisy, "eval_loss"); len(e) == 0 || e[0] != f[0] {
		t.Errorf("validation losses %v without and %v with noise", e, f)
	}
}

// A model that has learned its answers by heart guesses all of their tokens.
func TestComputeAccuracy(t *testing.T) {
	data := writeRows(t, questions(6)...)
	_, lines := runRecipe(t, t.Context(), scratch("stage=sft", "dataset="+data, "cutoff_len=64", "per_device_train_batch_size=6", "max_steps=60", "learning_rate=5e-3",
		"eval_dataset="+data, "eval_strategy=steps", "eval_steps=30", "per_device_eval_batch_size=4", "compute_accuracy=true", "output_dir="+t.TempDir())...)
	var seen []float64
	for _, l := range lines {
		if a, ok := l["eval_accuracy"].(float64); ok {
			seen = append(seen, a)
			if loss := l["eval_loss"].(float64); loss < 0.05 && a != 1 || loss > 8 && a > 0.1 {
				t.Errorf("accuracy %v at a loss of %v", a, loss)
			}
		}
	}
	if len(seen) < 2 || !(seen[len(seen)-1] > 0.9) {
		t.Errorf("accuracies %v", seen)
	}
}
