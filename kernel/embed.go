package kernel

import "fmt"

// GatherRows copies rows of d by index: dst row i is table row ids[i]. A negative id gives a row of zeros; an id beyond the table
// is an error.
func GatherRows[Y, X Elem](dst []Y, table []X, ids []int32, d int) error {
	var out block
	return gather(dst, len(table)/max(d, 1), ids, d, func(dst []Y, row int) {
		x := table[row*d : (row+1)*d]
		if isF32[Y]() == isF32[X]() {
			if isF32[Y]() {
				copy(asF32(dst), asF32(x))
			} else {
				copy(asBF16(dst), asBF16(x))
			}
			return
		}
		for i := 0; i < d; {
			j := next(i, d)
			put(dst[i:j], load(&out, x[i:j]))
			i = j
		}
	})
}

// GatherRowsF16 is GatherRows from a half-precision table.
func GatherRowsF16[Y Elem](dst []Y, table []uint16, ids []int32, d int) error {
	var out block
	return gather(dst, len(table)/max(d, 1), ids, d, func(dst []Y, row int) {
		x := table[row*d : (row+1)*d]
		for i := 0; i < d; {
			j := next(i, d)
			o := out[:j-i]
			f16ToF32(o, x[i:j])
			put(dst[i:j], o)
			i = j
		}
	})
}

func gather[Y Elem](dst []Y, rows int, ids []int32, d int, row func(dst []Y, row int)) error {
	for i, id := range ids {
		to := dst[i*d : (i+1)*d]
		switch {
		case id < 0:
			clear(to)
		case int(id) >= rows:
			return fmt.Errorf("kernel: gather: index %d: want below %d, got %d", i, rows, id)
		default:
			row(to, int(id))
		}
	}
	return nil
}

// ScatterAddRows adds rows of d: dst row ids[i] += src row i, for lo <= ids[i] < hi, in the order of i. Threads take disjoint
// ranges of table rows; the bytes do not depend on the ranges.
func ScatterAddRows[X Elem](dst []float32, ids []int32, src []X, d, lo, hi int) {
	for i, id := range ids {
		if int(id) >= lo && int(id) < hi {
			Axpy(dst[int(id)*d:(int(id)+1)*d], src[i*d:(i+1)*d], 1)
		}
	}
}
