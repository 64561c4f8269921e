package family

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/quant"
	"danlu/weights"
)

// opened is a reference model with the settings that its config has no field for.
type opened struct {
	src    weights.Source
	config []byte
	model  Model
	greedy *greedyPath
}

func openCase(t *testing.T, dir string) opened {
	t.Helper()
	v := &verification{dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v.golden); err != nil {
		t.Fatal(err)
	}
	if v.config, err = os.ReadFile(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	o := opened{greedy: v.golden.Greedy}
	if o.model, err = v.configured(nil); err != nil {
		t.Fatal(err)
	}
	var c map[string]json.RawMessage
	if err := json.Unmarshal(v.config, &c); err != nil {
		t.Fatal(err)
	}
	for key, value := range v.golden.Overrides {
		c[key] = value
	}
	if o.config, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if o.src, err = weights.Open(dir, weights.OpenOptions{Skip: []string{"golden.safetensors", "golden_video.safetensors"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.src.Close() })
	return o
}

// refusals are why a model cannot be written as a GGUF; any other error fails the test.
var refusals = []string{"has no architecture in GGUF", "has no place in", "files of GGUF want", "files of GGUF have"}

// TestGoldenGGUF writes every reference model as a float32 GGUF, reads it back, and holds tensors and configured model
// against the original.
func TestGoldenGGUF(t *testing.T) {
	root := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		cases++
		t.Run(e.Name(), func(t *testing.T) {
			o := openCase(t, filepath.Join(root, e.Name()))
			path := filepath.Join(t.TempDir(), "model.gguf")
			report, err := weights.WriteGGUF(path, o.src, o.config, weights.GGUFOptions{Name: e.Name()})
			if err != nil {
				for _, r := range refusals {
					if strings.Contains(err.Error(), r) {
						t.Log("refused: ", err)
						return
					}
				}
				t.Fatal(err)
			}
			sameModel(t, o, path, report.LeftOut)
		})
	}
	numtest.Count(t, "models", cases)
}

// sameModel reads a GGUF and compares it with the model that it was made of.
func sameModel(t *testing.T, o opened, path string, leftOut []string) {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if text, ok := o.model.(*Qwen25VL); ok {
		o.model = &text.Llama // without its tower, which GGUF keeps apart; for text alone the three rows of positions are one
		text.Rope.Sections, text.Rope.Scaling = nil, nn.Scaling{}
	}
	if a, b := shapeOf(o.model), shapeOf(c.Model); a != b {
		t.Errorf("the model comes back as\n%s\nwant\n%s", b, a)
	}
	out := map[string]bool{}
	for _, n := range leftOut {
		out[n] = true
	}
	specs, err := Params(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	if err := weights.Check(specs, c.Weights, weights.LoadOptions{}); err != nil {
		t.Error(err)
	}
	back := map[string]bool{}
	for _, n := range c.Weights.Names() {
		back[n] = true
	}
	for _, n := range o.src.Names() {
		if out[n] || strings.HasSuffix(n, "inv_freq") || n == "lm_head.weight" && o.model.Info().TiedHead {
			continue
		}
		if !back[n] {
			t.Errorf("tensor %s is lost", n)
			continue
		}
		want, err := o.src.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Weights.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		d, shape, err := c.Weights.Describe(n)
		if err != nil || d != got.DType || fmt.Sprint(shape) != fmt.Sprint(got.Shape) {
			t.Errorf("tensor %s is described as %v%v (%v), but is %v", n, d, shape, err, got)
		}
		if b, ok := o.model.(*Baichuan); ok && b.NormHead && n == "lm_head.weight" {
			continue // its rows are stored at length one
		}
		if got.String() != want.String() || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("tensor %s comes back as %v, want %v", n, got, want)
		}
	}
}

// shapeOf describes what a model computes: all of it but its name.
func shapeOf(m Model) string {
	v := reflect.New(reflect.TypeOf(m).Elem())
	v.Elem().Set(reflect.ValueOf(m).Elem())
	info := v.Interface().(Model).Info()
	switch m := v.Interface().(type) {
	case *Llama:
		m.info, m.FullLayers, m.Std = Info{}, 0, 0
	case *QwenMoE:
		m.info, m.FullLayers, m.Std, m.Experts.Std, m.IntermediateSize = Info{}, 0, 0, 0, 0
	case *ChatGLM2:
		m.info, m.Std = Info{}, 0
	case *GLM:
		m.info, m.Std = Info{}, 0
	case *Baichuan:
		m.info, m.Std, m.NormHead = Info{}, 0, false
	case *DeepSeek:
		m.info, m.Std, m.Experts.Std, m.MLA.Std, m.MTPLayers = Info{}, 0, 0, 0, 0
	}
	return fmt.Sprintf("%+v vocabulary %d, context %d, tied %v", v.Elem().Interface(), info.VocabSize, info.MaxPosition, info.TiedHead)
}

// TestGGUFTypes writes one model in every type and holds the values against those of the quantizer.
func TestGGUFTypes(t *testing.T) {
	o := openCase(t, filepath.Join(numtest.Goldens(t, "models"), "qwen2"))
	for _, d := range []dtype.DType{dtype.F32, dtype.F16, dtype.BF16, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q5_0, dtype.Q5_1, dtype.Q4_K, dtype.Q6_K} {
		path := filepath.Join(t.TempDir(), "model.gguf")
		if _, err := weights.WriteGGUF(path, o.src, o.config, weights.GGUFOptions{DType: d, SplitBytes: 20000}); err != nil {
			t.Fatal(err)
		}
		parts, err := filepath.Glob(strings.TrimSuffix(path, ".gguf") + "-*.gguf")
		if err != nil || len(parts) < 2 {
			t.Fatalf("parts %v %v", parts, err)
		}
		src, err := weights.OpenGGUF(parts[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range src.Names() {
			got, err := src.Tensor(n)
			if err != nil {
				t.Fatal(err)
			}
			want, err := o.src.Tensor(n)
			if err != nil {
				t.Fatal(err)
			}
			if len(want.Shape) > 1 && want.Shape[len(want.Shape)-1]%d.BlockLen() == 0 && got.DType != d {
				t.Errorf("%v: tensor %s is stored as %v", d, n, got.DType)
			}
			block := make([]byte, len(got.Data))
			if err := quant.Quantize(got.DType, block, want.F32()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(block, got.Data) {
				t.Errorf("%v: tensor %s differs", d, n)
			}
		}
		src.Close()
		if _, err := weights.OpenGGUF(parts[1]); err == nil || !strings.Contains(err.Error(), "give the first") {
			t.Errorf("a later part was opened alone: %v", err)
		}
		if err := os.Remove(parts[len(parts)-1]); err != nil {
			t.Fatal(err)
		}
		if _, err := weights.OpenGGUF(parts[0]); err == nil || !strings.Contains(err.Error(), filepath.Base(parts[len(parts)-1])) {
			t.Errorf("a file without its last part was opened: %v", err)
		}
	}
}

// TestLlamaCpp lets llama.cpp continue every reference model that GGUF can hold, and holds its choices against the
// reference. DANLU_LLAMA_GREEDY names the program of scripts/llama_greedy.cpp.
func TestLlamaCpp(t *testing.T) {
	program := os.Getenv("DANLU_LLAMA_GREEDY")
	if program == "" {
		t.Skip("SKIPPED: set DANLU_LLAMA_GREEDY to a build of scripts/llama_greedy.cpp to hold GGUF files against llama.cpp")
	}
	root := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		o := openCase(t, filepath.Join(root, e.Name()))
		path := filepath.Join(t.TempDir(), "model.gguf")
		if _, err := weights.WriteGGUF(path, o.src, o.config, weights.GGUFOptions{Name: e.Name()}); err != nil {
			t.Log("refused: ", err)
			continue
		}
		if _, ok := o.model.(Viewer); ok {
			continue // its text has a picture
		}
		if _, ok := o.model.(*Baichuan); ok && o.model.Info().NumLayers != 32 && o.model.Info().NumLayers != 40 {
			continue // llama.cpp knows Baichuan 7B and 13B by these numbers and runs no other
		}
		args := []string{path, fmt.Sprint(len(o.greedy.NewIDs))}
		for _, id := range o.greedy.PromptIDs {
			args = append(args, fmt.Sprint(id))
		}
		var stderr strings.Builder
		cmd := exec.Command(program, args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v: %s", e.Name(), err, stderr.String())
			continue
		}
		ran++
		if got, want := strings.Join(strings.Fields(string(out)), " "), strings.Trim(fmt.Sprint(o.greedy.NewIDs), "[]"); got != want {
			t.Errorf("%s: llama.cpp continues with %s, want %s", e.Name(), got, want)
		}
	}
	t.Logf("llama.cpp ran %d models", ran)
}
