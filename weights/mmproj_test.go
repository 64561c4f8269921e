package weights

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/format/gguf"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
)

// towerConfig is a reference model's config with windows of so many pixels.
func towerConfig(t *testing.T, dir string, window int) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	c["vision_config"].(map[string]any)["window_size"] = window
	if data, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	return data
}

// A tower's file holds the rows of the fused projection and the kernel's frames apart, and everything else as it is.
func TestGoldenMMProj(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "models"), "*", "preprocessor_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skip("SKIPPED: the committed subset has no Qwen2.5-VL")
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		src, err := Open(dir, OpenOptions{Skip: []string{"golden.safetensors", "golden_video.safetensors"}})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		out := filepath.Join(t.TempDir(), "mmproj.gguf")
		if _, err := WriteMMProj(out, src, towerConfig(t, dir, 56), MMProjOptions{}); err == nil || !strings.Contains(err.Error(), "windows of 112") {
			t.Errorf("windows that no reader takes: %v", err)
		}
		infos, err := WriteMMProj(out, src, towerConfig(t, dir, 112), MMProjOptions{DType: dtype.F32, Name: "x", Mean: []float64{1, 2, 3}, Std: []float64{4, 5, 6}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		written := 0
		for _, name := range src.Names() {
			if strings.HasPrefix(name, "visual.") {
				x, err := src.Tensor(name)
				if err != nil {
					t.Fatal(err)
				}
				written += len(x.Data)
			}
		}
		total := int64(0)
		for _, i := range infos {
			total += i.Bytes()
		}
		if total != int64(written) {
			t.Errorf("the file holds %d bytes of tensors, the tower has %d", total, written)
		}
		model, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer model.Close()
		original := func(name string) []byte {
			x, err := model.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			return x.Data
		}
		qkv, bias := original("visual.blocks.0.attn.qkv.weight"), original("visual.blocks.0.attn.qkv.bias")
		kernel := original("visual.patch_embed.proj.weight")
		const frame = 14 * 14 * 4
		var second []byte
		for at := frame; at < len(kernel); at += 2 * frame {
			second = append(second, kernel[at:at+frame]...)
		}
		for name, want := range map[string][]byte{
			"v.blk.0.attn_q.weight": qkv[:len(qkv)/3], "v.blk.0.attn_k.weight": qkv[len(qkv)/3 : 2*len(qkv)/3], "v.blk.0.attn_v.bias": bias[2*len(bias)/3:],
			"v.patch_embd.weight.1": second, "mm.2.weight": original("visual.merger.mlp.2.weight"), "v.post_ln.weight": original("visual.merger.ln_q.weight"),
			"v.blk.1.ffn_down.weight": original("visual.blocks.1.mlp.down_proj.weight"),
		} {
			got, err := f.Tensor(name)
			if err != nil || !bytes.Equal(got.Data, want) {
				t.Errorf("%s differs from the checkpoint's (%v)", name, err)
			}
		}
		for _, key := range []string{"clip.projector_type", "clip.vision.n_wa_pattern", "clip.vision.image_mean"} {
			if !slices.Contains(f.Keys(), key) {
				t.Errorf("%s is missing", key)
			}
		}
	}
}
