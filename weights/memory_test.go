package weights

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"danlu/dtype"
	"danlu/format/safetensors"
)

// anonymous is the process's anonymous memory in bytes, as Linux counts it.
func anonymous(t testing.TB) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("SKIPPED: the system does not say how much memory is anonymous")
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Skip("SKIPPED: the system does not say how much memory is anonymous")
	return 0
}

// peak runs work and returns the most anonymous memory it took beyond what was there before.
func peak(t testing.TB, work func()) int64 {
	runtime.GC()
	debug.FreeOSMemory()
	before := anonymous(t)
	var most atomic.Int64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if n := anonymous(t); n > most.Load() {
				most.Store(n)
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	work()
	close(stop)
	<-done
	return max(0, most.Load()-before)
}

// sparseLlama writes a checkpoint of a LLaMA in the given shape whose values are holes of the file: it has the size of
// the real one and takes no room.
func sparseLlama(t testing.TB, dir string, hidden, intermediate, layers, vocab int, d dtype.DType) (largest int64) {
	t.Helper()
	var infos []safetensors.Info
	add := func(name string, shape ...int) {
		i := safetensors.Info{Name: name, DType: d, Shape: shape}
		largest = max(largest, i.Bytes())
		infos = append(infos, i)
	}
	add("model.embed_tokens.weight", vocab, hidden)
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		for _, n := range []string{"q", "k", "v", "o"} {
			add(p+"self_attn."+n+"_proj.weight", hidden, hidden)
		}
		add(p+"mlp.gate_proj.weight", intermediate, hidden)
		add(p+"mlp.up_proj.weight", intermediate, hidden)
		add(p+"mlp.down_proj.weight", hidden, intermediate)
		add(p+"input_layernorm.weight", hidden)
		add(p+"post_attention_layernorm.weight", hidden)
	}
	add("model.norm.weight", hidden)
	add("lm_head.weight", vocab, hidden)
	header := map[string]any{}
	at := int64(0)
	for _, i := range infos {
		header[i.Name] = map[string]any{"dtype": strings.ToUpper(d.String()), "shape": i.Shape, "data_offsets": []int64{at, at + i.Bytes()}}
		at += i.Bytes()
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := uint64(len(text))
	length := []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 0, 0, 0, 0}
	if _, err := f.Write(append(length, text...)); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(8+len(text)) + at); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":%d,"intermediate_size":%d,"num_hidden_layers":%d,"num_attention_heads":32,"vocab_size":%d,"max_position_embeddings":4096,"rms_norm_eps":1e-5}`,
		hidden, intermediate, layers, vocab)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return largest
}

// TestConversionMemory converts a checkpoint of a 7B model's matrices with the anonymous memory of two tensors and
// 200 MB. With DANLU_LARGE_FILES set it has the 7B's width and its 32 layers (13 GB read; as much written in the longest
// of four runs), else one layer of a quarter of the width.
func TestConversionMemory(t *testing.T) {
	width, layers := 1024, 1
	if os.Getenv("DANLU_LARGE_FILES") != "" {
		width, layers = 4096, 32
	}
	dir := t.TempDir()
	largest := sparseLlama(t, dir, width, 11008*width/4096, layers, 32000, dtype.BF16)
	limit := 2*largest + 200<<20
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		run  func(src Source, out string) error
	}{
		{"gguf q4_0", func(src Source, out string) error {
			_, err := WriteGGUF(filepath.Join(out, "x.gguf"), src, config, GGUFOptions{DType: dtype.Q4_0})
			return err
		}},
		{"safetensors f16", func(src Source, out string) error { return Copy(out, src, CopyOptions{DType: dtype.F16}) }},
		{"safetensors as they are", func(src Source, out string) error { return Copy(out, src, CopyOptions{}) }},
	} {
		src, err := Open(dir, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.MkdirTemp(dir, "out")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		took := peak(t, func() {
			if err := c.run(src, out); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: %d layers, %.0f MB of anonymous memory at the most (largest tensor %.0f MB), %.1f s", c.name, layers, float64(took)/1e6, float64(largest)/1e6, time.Since(start).Seconds())
		if took > limit {
			t.Errorf("%s: took %d bytes, want at most %d", c.name, took, limit)
		}
		if strings.HasPrefix(c.name, "gguf") {
			g, err := OpenGGUF(filepath.Join(out, "x.gguf"))
			if err != nil {
				t.Fatal(err)
			}
			back := filepath.Join(out, "back")
			if err := os.Mkdir(back, 0o755); err != nil {
				t.Fatal(err)
			}
			took := peak(t, func() {
				if err := Copy(back, g, CopyOptions{DType: dtype.BF16}); err != nil {
					t.Error(err)
				}
			})
			t.Logf("gguf q4_0 to safetensors bf16: %.0f MB", float64(took)/1e6)
			if took > limit {
				t.Errorf("back from %s: took %d bytes, want at most %d", c.name, took, limit)
			}
			g.Close()
		}
		src.Close()
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
}
