package weights

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/internal/atomicfile"
	"danlu/kernel"
	"danlu/tensor"
)

// SaveOptions says how a model's tensors are stored.
type SaveOptions struct {
	// DType says what a tensor is stored as: float32, bfloat16 or float16. nil: as in the store.
	DType func(name string) dtype.DType
	// ShardBytes is the most that a file holds, unless one tensor alone is larger; 0: 5 GB.
	ShardBytes int64
}

const defaultShard = 5_000_000_000

// Save writes the parameters and buffers among specs into dir: model.safetensors, or where they are more than
// ShardBytes, model-00001-of-0000N.safetensors and so on with an index.
func Save(dir string, store engine.Store, specs []*graph.StateSpec, opts SaveOptions) error {
	return writeShards(dir, savedTensors(specs, opts), opts.ShardBytes, func(i safetensors.Info, w io.Writer) error {
		t, err := store.Get(i.Name)
		if err == nil {
			t, err = convert(t, i.DType)
		}
		if err == nil {
			_, err = w.Write(t.Data)
		}
		return err
	})
}

// SavedBytes is the size of the tensors that Save writes.
func SavedBytes(specs []*graph.StateSpec, opts SaveOptions) int64 {
	total := int64(0)
	for _, i := range savedTensors(specs, opts) {
		total += i.Bytes()
	}
	return total
}

// savedTensors lists the tensors that Save writes, in the order of specs.
func savedTensors(specs []*graph.StateSpec, opts SaveOptions) []safetensors.Info {
	var infos []safetensors.Info
	for _, spec := range specs {
		if spec.Role != graph.Param && spec.Role != graph.Buffer {
			continue
		}
		for i := range spec.Parts() {
			info := safetensors.Info{Name: spec.PartName(i), DType: spec.Type.DType, Shape: spec.PartType().Shape}
			if opts.DType != nil {
				info.DType = opts.DType(info.Name)
			}
			infos = append(infos, info)
		}
	}
	return infos
}

// writeShards spreads tensors over files of at most limit bytes (0: 5 GB) and writes them, the index last.
func writeShards(dir string, infos []safetensors.Info, limit int64, emit func(safetensors.Info, io.Writer) error) error {
	if limit <= 0 {
		limit = defaultShard
	}
	shards := [][]safetensors.Info{nil}
	var size, total int64 // of the open shard, of all
	for _, i := range infos {
		if size > 0 && size+i.Bytes() > limit {
			shards, size = append(shards, nil), 0
		}
		shards[len(shards)-1] = append(shards[len(shards)-1], i)
		size, total = size+i.Bytes(), total+i.Bytes()
	}
	metadata := map[string]string{"format": "pt"} // transformers refuses files without it
	if len(shards) == 1 {
		return safetensors.Stream(filepath.Join(dir, "model.safetensors"), shards[0], metadata, emit)
	}
	files := map[string]string{}
	for k, shard := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", k+1, len(shards))
		for _, i := range shard {
			files[i.Name] = name
		}
		if err := safetensors.Stream(filepath.Join(dir, name), shard, metadata, emit); err != nil {
			return err
		}
	}
	index, err := json.MarshalIndent(map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": files}, "", "  ")
	if err == nil {
		err = atomicfile.Write(filepath.Join(dir, indexFile), func(w io.Writer) error {
			_, err := w.Write(append(index, '\n'))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return nil
}

// convert rounds a float32 tensor to what a file stores.
func convert(t *tensor.Tensor, to dtype.DType) (*tensor.Tensor, error) {
	if t.DType == to {
		return t, nil
	}
	if t.DType != dtype.F32 || to != dtype.BF16 && to != dtype.F16 {
		return nil, fmt.Errorf("want %v, got %v", to, t.DType)
	}
	out := tensor.New(to, t.Shape...)
	if to == dtype.BF16 {
		kernel.F32ToBF16(out.U16(), t.F32())
		return out, nil
	}
	for i, x := range t.F32() {
		out.U16()[i] = kernel.RoundHalf(x)
	}
	return out, nil
}

// StoredAs returns the types that a checkpoint's tensors have, for saving a model as it came. Tensors that are not
// there, and those of block types, which training does not write, are stored as other.
func StoredAs(src Source, other dtype.DType) (func(name string) dtype.DType, error) {
	types := map[string]dtype.DType{}
	for _, n := range src.Names() {
		d, _, err := src.Describe(n)
		if err != nil {
			return nil, err
		}
		if d == dtype.F32 || d == dtype.BF16 || d == dtype.F16 {
			types[n] = d
		}
	}
	return func(name string) dtype.DType {
		if d, ok := types[name]; ok {
			return d
		}
		return other
	}, nil
}

// RemoveModel deletes the weights that Save wrote into dir, so that no shard of an earlier model stays beside a new one.
func RemoveModel(dir string) error {
	names, err := matching(dir, "*.safetensors", nil)
	if err != nil {
		return err
	}
	for _, n := range append(names, indexFile) {
		if n == indexFile || n == "model.safetensors" || strings.HasPrefix(n, "model-") {
			if err := os.Remove(filepath.Join(dir, n)); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("weights: %w", err)
			}
		}
	}
	return nil
}
