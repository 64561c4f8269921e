package weights

import (
	"fmt"
	"io"
	"strings"

	"danlu/dtype"
	"danlu/format/safetensors"
)

// CopyOptions says how a checkpoint is written anew.
type CopyOptions struct {
	// DType is float32, bfloat16 or float16 for all real numbers; dtype.Invalid: as they are, but block types, which
	// safetensors files do not have, become float32.
	DType dtype.DType
	// ShardBytes is the most that a file holds, unless one tensor alone is larger; 0: 5 GB.
	ShardBytes int64
	// Progress, if set, is called with the bytes written so far and in all.
	Progress func(done, total int64)
}

// Copy writes every tensor of src into dir as safetensors, a few megabytes at a time.
func Copy(dir string, src Source, opts CopyOptions) error {
	var infos []safetensors.Info
	var done, total int64
	for _, n := range src.Names() {
		d, shape, err := src.Describe(n)
		if err != nil {
			return err
		}
		i := safetensors.Info{Name: n, DType: copied(n, d, opts.DType), Shape: shape}
		infos = append(infos, i)
		total += i.Bytes()
	}
	return writeShards(dir, infos, opts.ShardBytes, func(i safetensors.Info, w io.Writer) error {
		err := guarded(src, func() error {
			t, err := src.Tensor(i.Name)
			if err != nil {
				return err
			}
			if t.DType == i.DType {
				_, err := w.Write(t.Data)
				return err
			}
			first := 1
			if len(t.Shape) > 0 {
				first = t.Shape[0]
			}
			return writeRows(w, src, t, rows{first, func(r int) int { return r }}, i.DType, false)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", src.Path(), err)
		}
		if done += i.Bytes(); opts.Progress != nil {
			opts.Progress(done, total)
		}
		return nil
	})
}

// copied is the type that a tensor of type d is written in.
func copied(name string, d, want dtype.DType) dtype.DType {
	switch {
	case !d.IsFloat():
		return d
	case d.IsQuantized() && want == dtype.Invalid:
		return dtype.F32
	case want == dtype.Invalid || strings.HasSuffix(name, selectionBias):
		return d
	}
	return want
}

// selectionBias stays in float32 in 16-bit checkpoints too: experts are chosen by small differences.
const selectionBias = "e_score_correction_bias"
