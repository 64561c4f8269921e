package weights

import (
	"errors"
	"fmt"
	"io"

	"danlu/format/safetensors"
	"danlu/quant"
	"danlu/tensor"
)

// Resize says how a model's vocabulary grows: embedding and output head are the matrices of Old rows.
type Resize struct {
	Old, New int
	// From lists the rows of the old matrix whose mean row r becomes; a row alone is copied as it is. An empty list: the
	// mean of all old rows.
	From func(r int) []int
	// Change, if set, is called with each row that is not a copy of one row.
	Change func(r int, row []float32)
}

// CopyResized writes every tensor of src into dir as safetensors, with the matrices of the vocabulary at their new size.
func CopyResized(dir string, src Source, size Resize, opts CopyOptions) error {
	if size.Old < 1 || size.New < size.Old {
		return fmt.Errorf("weights: resize: rows: want at least %d, got %d", size.Old, size.New)
	}
	var infos []safetensors.Info
	var done, total int64
	found := 0
	for _, n := range src.Names() {
		d, shape, err := src.Describe(n)
		if err != nil {
			return err
		}
		if len(shape) == 2 && shape[0] == size.Old {
			shape = []int{size.New, shape[1]}
			found++
		}
		i := safetensors.Info{Name: n, DType: copied(n, d, opts.DType), Shape: shape}
		infos = append(infos, i)
		total += i.Bytes()
	}
	if found == 0 {
		return fmt.Errorf("weights: resize: %s: no matrix has the vocabulary's %d rows", src.Path(), size.Old)
	}
	return writeShards(dir, infos, opts.ShardBytes, func(i safetensors.Info, w io.Writer) error {
		err := guarded(src, func() error {
			t, err := src.Tensor(i.Name)
			if err != nil {
				return err
			}
			if len(t.Shape) == 2 && t.Shape[0] == size.Old {
				return writeResized(w, t, i, size)
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

// writeResized writes the matrix [New, K] that i describes from the matrix x [Old, K].
func writeResized(w io.Writer, x *tensor.Tensor, i safetensors.Info, size Resize) error {
	k := x.Shape[1]
	inRow := x.DType.Bytes(k)
	value, sum, all := make([]float32, k), make([]float64, k), []float32(nil)
	out := make([]byte, i.DType.Bytes(k))
	mean := func(list func(yield func(int) bool), n int) error {
		clear(sum)
		var err error
		list(func(r int) bool {
			if r < 0 || r >= size.Old {
				err = fmt.Errorf("resize: row %d: want 0 to %d", r, size.Old-1)
			} else {
				err = quant.Dequantize(x.DType, value, x.Data[r*inRow:(r+1)*inRow])
			}
			for j, v := range value {
				sum[j] += float64(v)
			}
			return err == nil
		})
		for j := range value {
			value[j] = float32(sum[j] / float64(n))
		}
		return err
	}
	for r := range size.New {
		from := size.From(r)
		if len(from) == 1 && x.DType == i.DType && from[0] >= 0 && from[0] < size.Old {
			if _, err := w.Write(x.Data[from[0]*inRow : (from[0]+1)*inRow]); err != nil {
				return err
			}
			continue
		}
		var err error
		switch {
		case len(from) > 0:
			err = mean(func(yield func(int) bool) {
				for _, f := range from {
					if !yield(f) {
						return
					}
				}
			}, len(from))
		case all == nil:
			err = mean(func(yield func(int) bool) {
				for f := range size.Old {
					if !yield(f) {
						return
					}
				}
			}, size.Old)
			all = append(all, value...)
		default:
			copy(value, all)
		}
		if size.Change != nil {
			size.Change(r, value)
		}
		if err := errors.Join(err, quant.Quantize(i.DType, out, value)); err != nil {
			return err
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
	return nil
}
