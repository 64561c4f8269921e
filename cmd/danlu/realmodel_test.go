package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/engine/cpu"
	"danlu/generate"
	"danlu/internal/numtest"
)

// realCase is generation.json of the reference data "realmodel".
type realCase struct {
	File    string `json:"file"`
	Prompts []struct {
		Name string  `json:"name"`
		IDs  []int32 `json:"prompt_ids"`
		F32  struct {
			Tokens []int32   `json:"tokens"`
			Margin []float64 `json:"margin"`
			Top    []struct {
				ID      int32   `json:"id"`
				LogProb float64 `json:"logprob"`
			} `json:"first_top10"`
		} `json:"f32"`
	} `json:"prompts"`
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ways are the ways of running a model whose weights stay quantized, with the reference data's tolerances: of the first
// token's log-probabilities, of the margin below which another greedy token is allowed, and of the perplexity.
var ways = []struct {
	how                    inference
	logprob, margin, ratio float64
}{
	{inference{quant: "keep", precision: "f32"}, 2e-3, 0.01, 5e-4},
	{inference{quant: "keep", precision: "int8"}, 0.4, 0.5, 1e-2},
	{inference{quant: "none", precision: "f32"}, 2e-3, 0.01, 5e-4},
	{inference{quant: "f16", precision: "f32"}, 0.02, 0.05, 5e-3},
}

// openRunner runs a model file with room for texts of the given number of tokens.
func openRunner(t testing.TB, how inference, path string, opts generate.Options) (*generate.Runner, *opened) {
	t.Helper()
	m, err := openModel(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.source.Close() })
	eng, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	r, shut, err := how.runner(m, eng, true, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shut)
	return r, m
}

func TestGoldenRealModel(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "realmodel"), "*", "generation.json"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range dirs {
		var c realCase
		readJSON(t, path, &c)
		model := numtest.Model(t, c.File)
		for _, w := range ways {
			t.Run(filepath.Base(filepath.Dir(path))+"/"+w.how.quant+"-"+w.how.precision, func(t *testing.T) {
				r, m := openRunner(t, w.how, model, generate.Options{Context: 512})
				for _, p := range c.Prompts {
					checkGreedy(t, r, m, p.Name, p.IDs, p.F32.Tokens, p.F32.Margin, w.margin)
					logits := prefillAll(t, r, p.IDs)
					lse := logSum(logits)
					for _, top := range p.F32.Top {
						if got := float64(logits[top.ID]) - lse; !(math.Abs(got-top.LogProb) <= w.logprob) {
							t.Errorf("%s: log-probability of %d: want %v, got %v", p.Name, top.ID, top.LogProb, got)
						}
					}
					count++
				}
			})
		}
	}
	numtest.Count(t, "realmodel", count)
}

func logSum(x []float32) float64 {
	top, sum := float64(slices.Max(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

// prefillAll is the logits after a prompt.
func prefillAll(t *testing.T, r *generate.Runner, ids []int32) []float32 {
	t.Helper()
	s, err := r.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(s)
	out, err := r.Run(context.Background(), []generate.Work{{Sequence: s, IDs: ids, Logits: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// checkGreedy compares greedy tokens up to the first step whose margin is below the tolerance.
func checkGreedy(t *testing.T, r *generate.Runner, m *opened, name string, prompt, want []int32, margins []float64, margin float64) {
	t.Helper()
	s, err := r.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(s)
	req := generate.Request{Prompt: prompt, MaxNew: len(want)}
	for _, id := range m.model.Info().EOS {
		req.End = append(req.End, int32(id))
	}
	res, err := r.Generate(context.Background(), s, req)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range want {
		if margins[i] < margin || i == len(res.Tokens) && slices.Contains(req.End, id) {
			break
		}
		if i >= len(res.Tokens) || res.Tokens[i].ID != id {
			t.Errorf("%s: token %d: want %d (margin %v), got %v", name, i, id, margins[i], res.Tokens[min(i, len(res.Tokens)):])
			break
		}
	}
}

func TestGoldenRealModelPerplexity(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "realmodel"), "*", "perplexity.json"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range paths {
		dir := filepath.Dir(path)
		var c realCase
		readJSON(t, filepath.Join(dir, "generation.json"), &c)
		model := numtest.Model(t, c.File)
		var want struct {
			Text    string    `json:"text"`
			Window  int       `json:"ctx"`
			Tokens  int       `json:"n_tokens"`
			First   []int32   `json:"first_ids"`
			Running []float64 `json:"f32_running"`
			Scored  int       `json:"scored_tokens"`
		}
		readJSON(t, path, &want)
		ids, bos, err := encodeFile(model, filepath.Join(dir, want.Text))
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) != want.Tokens || !slices.Equal(ids[:len(want.First)], want.First) {
			t.Fatalf("%s: want %d tokens that start with %v, got %d: %v", want.Text, want.Tokens, want.First, len(ids), ids[:len(want.First)])
		}
		windows := len(want.Running)
		if testing.Short() {
			windows = min(windows, 2)
		}
		for _, w := range ways[:2] {
			t.Run(filepath.Base(dir)+"/"+w.how.precision, func(t *testing.T) {
				r, _ := openRunner(t, w.how, model, generate.Options{Context: want.Window})
				p, err := r.Perplexity(context.Background(), ids[:windows*want.Window], generate.PerplexityOptions{Window: want.Window, BOS: bos})
				if err != nil {
					t.Fatal(err)
				}
				if windows == len(want.Running) && p.Scored != want.Scored {
					t.Errorf("scored tokens: want %d, got %d", want.Scored, p.Scored)
				}
				got, ref := p.Windows[windows-1], want.Running[windows-1]
				if !(math.Abs(got/ref-1) <= w.ratio) {
					t.Errorf("perplexity after %d windows: want %v, got %v", windows, ref, got)
				}
				t.Logf("perplexity %.4f (reference %.4f)", got, ref)
				count++
			})
		}
	}
	numtest.Count(t, "realmodel perplexity", count)
}

// TestReplyIsIndependent holds that a text's logits are the same to the bit whatever the prefill chunk and whatever else
// is in the batch.
func TestReplyIsIndependent(t *testing.T) {
	model := numtest.Model(t, "SmolLM2-135M-Instruct.Q4_1.gguf")
	prompt := make([]int32, 75)
	for i := range prompt {
		prompt[i] = int32(i*i*37%40000 + 5)
	}
	var want []float32
	for _, chunk := range []int{512, 64, 31, 7, 1} {
		for _, batch := range []int{1, 7, 32} {
			if chunk < 32 && batch > 7 {
				continue
			}
			r, _ := openRunner(t, inference{quant: "keep", precision: "int8"}, model, generate.Options{Context: 128, Sequences: batch, Chunk: max(chunk, batch)})
			var work []generate.Work
			var mine *generate.Sequence
			for i := range batch {
				s, err := r.Open()
				if err != nil {
					t.Fatal(err)
				}
				ids := []int32{int32(100 * i)}
				if i == batch/2 {
					mine, ids = s, prompt
				}
				for len(ids) > 1 { // all but the last token before the batch
					n := min(chunk, len(ids)-1)
					if _, err := r.Run(context.Background(), []generate.Work{{Sequence: s, IDs: ids[:n]}}); err != nil {
						t.Fatal(err)
					}
					ids = ids[n:]
				}
				work = append(work, generate.Work{Sequence: s, IDs: ids, Logits: 1})
			}
			out, err := r.Run(context.Background(), work)
			if err != nil {
				t.Fatal(err)
			}
			got := out[batch/2]
			if len(mine.IDs) != len(prompt) {
				t.Fatalf("the sequence holds %d tokens", len(mine.IDs))
			}
			if want == nil {
				want = slices.Clone(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("chunk %d, batch %d: logits differ", chunk, batch)
			}
		}
	}
}

func BenchmarkRealModel(b *testing.B) {
	path := numtest.Model(b, "SmolLM2-135M-Instruct.Q4_1.gguf")
	for _, n := range []int{1, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, _ := openRunner(b, inference{quant: "keep", precision: "int8"}, path, generate.Options{Context: 512})
			s, err := r.Open()
			if err != nil {
				b.Fatal(err)
			}
			ids := make([]int32, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if len(s.IDs)+n > 512 || n == 1 && len(s.IDs) == 64 {
					r.Truncate(s, 0)
				}
				for k := range ids {
					ids[k] = int32((i*n + k) * 37 % 40000)
				}
				if _, err := r.Run(context.Background(), []generate.Work{{Sequence: s, IDs: ids, Logits: 1}}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
