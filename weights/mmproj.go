package weights

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/format/gguf"
	"danlu/tensor"
)

// MMProjOptions says how a vision tower is written as a GGUF.
type MMProjOptions struct {
	// DType is that of matrices, F32, F16 or BF16; dtype.Invalid: as they are in the source.
	DType dtype.DType
	// Name goes into general.name.
	Name string
	// General are further entries general.*.
	General []gguf.KV
	// Mean and Std are those of the image processor.
	Mean, Std []float64
}

// qwenTower are the keys of Qwen2.5-VL's vision_config that the file needs.
type qwenTower struct {
	depth, hidden, intermediate, heads, patch, window int
	full                                              []int
}

// readQwenTower reads them, and refuses what llama.cpp's reader takes for granted when it is otherwise.
func readQwenTower(c *config) (t qwenTower) {
	raw, ok := c.raw["vision_config"].(map[string]any)
	if !ok {
		c.fail("vision_config", "is missing")
		return t
	}
	v := &config{path: c.path + ": vision_config", raw: raw}
	t = qwenTower{depth: v.int("depth", 32), hidden: v.int("hidden_size", 1280), intermediate: v.int("intermediate_size", 3420), heads: v.int("num_heads", 16),
		patch: v.int("patch_size", 14), window: v.int("window_size", 112)}
	for _, x := range get(v, "fullatt_block_indexes", []any{7.0, 15.0, 23.0, 31.0}) {
		n, _ := x.(float64)
		t.full = append(t.full, int(n))
	}
	if merge := v.int("spatial_merge_size", 2); t.window != 112 || merge != 2 || v.int("temporal_patch_size", 2) != 2 {
		v.fail("window_size", "GGUF's readers take windows of 112 pixels, merges of 2 and pairs of frames, got %d, %d and %d", t.window, merge, v.int("temporal_patch_size", 2))
	}
	if len(t.full) == 0 {
		v.fail("fullatt_block_indexes", "is empty")
	} else {
		for i, at := range t.full {
			if at != (i+1)*(t.full[0]+1)-1 {
				v.fail("fullatt_block_indexes", "GGUF knows one distance between full layers, got %v", t.full)
				break
			}
		}
	}
	c.err = cmp.Or(c.err, v.err)
	return t
}

// mmTensor is a tensor of the file: rows of a source tensor that is seen in another shape.
type mmTensor struct {
	info gguf.Info
	from string
	seen []int // shape of the source tensor, of which rows along the first axis are taken
	rows rows
}

// mmNames are what follows the layer's number.
var mmNames = map[string]string{"attn.proj": "attn_out", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "norm1": "ln1", "norm2": "ln2"}

// mmTensors are what a tensor of the tower becomes; nil: it is not the tower's.
func mmTensors(name string, shape []int) (list []mmTensor, err error) {
	rest, ok := strings.CutPrefix(name, "visual.")
	if !ok {
		return nil, nil
	}
	dot := strings.LastIndex(rest, ".")
	if dot < 0 {
		return nil, fmt.Errorf("weights: tensor %q: has no place in the file of a vision tower", name)
	}
	module, kind := rest[:dot], rest[dot:]
	if len(shape) == 0 {
		return nil, fmt.Errorf("weights: tensor %q: is a single number", name)
	}
	whole := func(to string) []mmTensor {
		return []mmTensor{{info: gguf.Info{Name: to + kind, Shape: shape}, from: name, seen: shape, rows: rows{shape[0], func(r int) int { return r }}}}
	}
	switch module {
	case "merger.ln_q":
		return whole("v.post_ln"), nil
	case "merger.mlp.0":
		return whole("mm.0"), nil
	case "merger.mlp.2":
		return whole("mm.2"), nil
	case "patch_embed.proj":
		return mmPatches(name, shape)
	}
	parts := strings.SplitN(module, ".", 3)
	if len(parts) != 3 || parts[0] != "blocks" {
		return nil, fmt.Errorf("weights: tensor %q: has no place in the file of a vision tower", name)
	}
	block := "v.blk." + parts[1] + "."
	if to, ok := mmNames[parts[2]]; ok {
		return whole(block + to), nil
	}
	if parts[2] != "attn.qkv" || shape[0]%3 != 0 {
		return nil, fmt.Errorf("weights: tensor %q %v: has no place in the file of a vision tower", name, shape)
	}
	n := shape[0] / 3
	seen, count := shape, n // rows of the weight; the bias is three rows of one tensor
	if len(shape) == 1 {
		seen, count = []int{3, n}, 1
	}
	for i, to := range []string{"attn_q", "attn_k", "attn_v"} {
		list = append(list, mmTensor{info: gguf.Info{Name: block + to + kind, Shape: append([]int{n}, shape[1:]...)}, from: name, seen: seen, rows: rows{count, func(r int) int { return i*count + r }}})
	}
	return list, nil
}

// mmPatches cuts the kernel of pairs of frames [D, C, 2, P, P] into one for each.
func mmPatches(name string, shape []int) (list []mmTensor, err error) {
	if len(shape) != 5 || shape[2] != 2 {
		return nil, fmt.Errorf("weights: tensor %q: want a kernel of two frames, got %v", name, shape)
	}
	n := shape[0] * shape[1]
	for i, to := range []string{"v.patch_embd.weight", "v.patch_embd.weight.1"} {
		list = append(list, mmTensor{info: gguf.Info{Name: to, Shape: []int{shape[0], shape[1], shape[3], shape[4]}}, from: name, seen: []int{2 * n, shape[3] * shape[4]},
			rows: rows{n, func(r int) int { return 2*r + i }}})
	}
	return list, nil
}

// WriteMMProj writes the vision tower and the merger of a Qwen2.5-VL checkpoint as llama.cpp's programs read them beside the
// GGUF of the text part ("mmproj"). It returns what the file holds.
func WriteMMProj(path string, src Source, configJSON []byte, opts MMProjOptions) ([]gguf.Info, error) {
	c, err := readConfig(filepath.Join(src.Path(), "config.json"), configJSON)
	if err != nil {
		return nil, err
	}
	if class := c.class(); c.err == nil && class != "Qwen2_5_VLForConditionalGeneration" {
		c.fail("architectures", "%s: vision towers are written of Qwen2.5-VL only", class)
	}
	tower := readQwenTower(c)
	hidden := c.int("hidden_size", 0)
	if c.err != nil {
		return nil, c.err
	}
	var infos []gguf.Info
	byName := map[string]mmTensor{}
	for _, name := range src.Names() {
		from, shape, err := src.Describe(name)
		if err != nil {
			return nil, err
		}
		list, err := mmTensors(name, shape)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			t.info.DType = mmType(t.info, opts.DType, from)
			infos = append(infos, t.info)
			byName[t.info.Name] = t
		}
	}
	if len(infos) == 0 {
		return nil, fmt.Errorf("weights: %s: holds no vision tower", src.Path())
	}
	return infos, gguf.Write(path, tower.metadata(hidden, opts, infos), infos, func(i gguf.Info, out io.Writer) error {
		t := byName[i.Name]
		err := guarded(src, func() error {
			x, err := src.Tensor(t.from)
			if err != nil {
				return err
			}
			return writeRows(out, src, &tensor.Tensor{DType: x.DType, Shape: t.seen, Data: x.Data}, t.rows, i.DType, false)
		})
		if err != nil {
			return fmt.Errorf("%s: tensor %q: %w", src.Path(), t.from, err)
		}
		return nil
	})
}

// mmType is the type of a tensor: vectors are float32, and so are kernels unless the file's type is float16.
func mmType(i gguf.Info, want, source dtype.DType) dtype.DType {
	plain := []dtype.DType{dtype.F32, dtype.F16, dtype.BF16}
	if want == dtype.Invalid {
		want = source
	}
	if len(i.Shape) < 2 || !slices.Contains(plain, want) || len(i.Shape) > 2 && want != dtype.F16 {
		return dtype.F32
	}
	return want
}

// metadata are the file's entries.
func (t *qwenTower) metadata(hidden int, opts MMProjOptions, infos []gguf.Info) []gguf.KV {
	floats := func(list []float64) (out []float32) {
		for _, x := range list {
			out = append(out, float32(x))
		}
		return out
	}
	most := dtype.F32
	for _, i := range infos {
		if i.DType != dtype.F32 {
			most = i.DType
		}
	}
	const v = "clip.vision."
	kv := []gguf.KV{{Key: "general.architecture", Value: "clip"}, {Key: "general.type", Value: "mmproj"}, {Key: "general.name", Value: opts.Name}, {Key: "general.file_type", Value: fileTypes[most]}}
	kv = append(kv, opts.General...)
	return append(kv, gguf.KV{Key: "clip.has_vision_encoder", Value: true}, gguf.KV{Key: "clip.projector_type", Value: "qwen2.5vl_merger"}, gguf.KV{Key: "clip.use_silu", Value: true},
		gguf.KV{Key: v + "projection_dim", Value: uint32(hidden)}, gguf.KV{Key: v + "image_size", Value: uint32(40 * t.patch)}, gguf.KV{Key: v + "patch_size", Value: uint32(t.patch)},
		gguf.KV{Key: v + "embedding_length", Value: uint32(t.hidden)}, gguf.KV{Key: v + "feed_forward_length", Value: uint32(t.intermediate)},
		gguf.KV{Key: v + "block_count", Value: uint32(t.depth)}, gguf.KV{Key: v + "attention.head_count", Value: uint32(t.heads)},
		gguf.KV{Key: v + "attention.layer_norm_epsilon", Value: float32(1e-6)}, gguf.KV{Key: v + "n_wa_pattern", Value: uint32(t.full[0] + 1)},
		gguf.KV{Key: v + "image_mean", Value: floats(opts.Mean)}, gguf.KV{Key: v + "image_std", Value: floats(opts.Std)})
}
