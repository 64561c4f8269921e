package weights

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"

	"danlu/dtype"
	"danlu/quant"
	"danlu/tensor"
)

// rows is which rows of a tensor, in which order: n of them, row r being row from(r).
type rows struct {
	n    int
	from func(r int) int
}

// chunkBytes bounds what convert holds at a time.
const chunkBytes = 4 << 20

// writeRows writes the chosen rows of x, a tensor of src, in type to; unit scales them to length one first.
func writeRows(out io.Writer, src Source, x *tensor.Tensor, order rows, to dtype.DType, unit bool) error {
	if len(x.Shape) == 0 {
		x = &tensor.Tensor{DType: x.DType, Shape: []int{1}, Data: x.Data}
	}
	values := x.Len() / max(1, x.Shape[0]) // of a row
	inRow, outRow := x.DType.Bytes(values), to.Bytes(values)
	if len(x.Shape) == 1 && to.BlockLen() > 1 || values == 0 {
		return fmt.Errorf("%v cannot be stored as %v", x, to)
	}
	n := max(1, chunkBytes/max(4*values, outRow))
	buf := make([]byte, min(n, order.n)*outRow)
	for at := 0; at < order.n; at += n {
		count := min(n, order.n-at)
		err := parallelRows(src, count, func(first, last int) error {
			f := make([]float32, values)
			for r := first; r < last; r++ {
				from := order.from(at + r)
				row, dst := x.Data[from*inRow:(from+1)*inRow], buf[r*outRow:(r+1)*outRow]
				if x.DType == to && !unit {
					copy(dst, row)
					continue
				}
				if err := quant.Dequantize(x.DType, f, row); err != nil {
					return err
				}
				if unit {
					normalise(f)
				}
				if err := quant.Quantize(to, dst, f); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := out.Write(buf[:count*outRow]); err != nil {
			return err
		}
	}
	return nil
}

func normalise(x []float32) {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	if norm := math.Sqrt(sum); norm > 0 {
		for i := range x {
			x[i] = float32(float64(x[i]) / norm)
		}
	}
}

// parallelRows calls body for parts of n rows, one per thread, each guarded, since faults are a goroutine's own.
func parallelRows(src Source, n int, body func(first, last int) error) error {
	threads := min(runtime.NumCPU(), n)
	errs := make([]error, threads)
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() {
			errs[i] = guarded(src, func() error { return body(i*n/threads, (i+1)*n/threads) })
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
