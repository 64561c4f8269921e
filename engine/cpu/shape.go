package cpu

import (
	"fmt"
	"math"
	"sort"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
	"danlu/tensor"
)

func (b *binder) transpose(n *node, op graph.Transpose) error {
	own := strides(n.in[0].typ.Shape)
	from := make([]int, len(op.Perm))
	for i, p := range op.Perm {
		from[i] = own[p]
	}
	return b.strided(n, from)
}

// slice copies a part of an axis that is not the first.
func (b *binder) slice(n *node, op graph.Slice) error {
	x, y := n.in[0], n.out[0]
	inner := x.typ.DType.Bytes(tensor.Len(x.typ.Shape[op.Axis+1:]))
	whole, part, from := x.typ.Shape[op.Axis]*inner, (op.End-op.Start)*inner, op.Start*inner
	outer := tensor.Len(x.typ.Shape[:op.Axis])
	b.do(n, b.chunks(outer, max(1, copyChunk/max(part, 1)), func(i, j int) {
		to, in := view[byte](y.ptr(), outer*part), view[byte](x.ptr(), outer*whole)
		for o := i; o < j; o++ {
			copy(to[o*part:(o+1)*part], in[o*whole+from:])
		}
	}))
	return nil
}

func (b *binder) concat(n *node, op graph.Concat) error {
	y := n.out[0]
	outer := tensor.Len(y.typ.Shape[:op.Axis])
	whole := bytesIn(y.typ) / max(outer, 1)
	b.do(n, b.chunks(outer, max(1, copyChunk/max(whole, 1)), func(i, j int) {
		to := view[byte](y.ptr(), outer*whole)
		at := 0
		for _, x := range n.in {
			part := bytesIn(x.typ) / outer
			in := view[byte](x.ptr(), outer*part)
			for o := i; o < j; o++ {
				copy(to[o*whole+at:o*whole+at+part], in[o*part:])
			}
			at += part
		}
	}))
	return nil
}

func (b *binder) iota(n *node, op graph.Iota) error {
	y := n.out[0]
	s, d := strides(y.typ.Shape)[op.Axis], y.typ.Shape[op.Axis]
	if !castable(y.typ.DType) {
		return unsupported(y.typ.DType)
	}
	size := y.typ.DType.Bytes(1)
	b.do(n, b.chunks(y.typ.Len(), taskElements, func(i, j int) {
		for k := i; k < j; k++ {
			v := int64(k / s % d)
			castRow(y.typ.DType, unsafe.Add(y.ptr(), k*size), dtype.I64, unsafe.Pointer(&v), 1)
		}
	}))
	return nil
}

// reduce goes over the result and, for each element, over the reduced axes in order. Floats are summed in float64, so
// that the order matters little and no block structure is needed.
func (b *binder) reduce(n *node, op graph.Reduce) error {
	x := n.in[0]
	gone := make([]bool, x.typ.Rank())
	for _, a := range op.Axes {
		gone[a] = true
	}
	own := strides(x.typ.Shape)
	var keepDims, keepStrides, sumDims, sumStrides []int
	for i, d := range x.typ.Shape {
		if gone[i] {
			sumDims, sumStrides = append(sumDims, d), append(sumStrides, own[i])
		} else {
			keepDims, keepStrides = append(keepDims, d), append(keepStrides, own[i])
		}
	}
	switch x.typ.DType {
	case dtype.F32:
		reduceLoop[float32, float64](b, n, op.Kind, keepDims, keepStrides, sumDims, sumStrides, math.Inf(-1), func(v float32) float64 { return float64(v) }, func(v float64) float32 { return float32(v) })
	case dtype.F64:
		reduceLoop[float64, float64](b, n, op.Kind, keepDims, keepStrides, sumDims, sumStrides, math.Inf(-1), func(v float64) float64 { return v }, func(v float64) float64 { return v })
	case dtype.BF16:
		reduceLoop[uint16, float64](b, n, op.Kind, keepDims, keepStrides, sumDims, sumStrides, math.Inf(-1), func(v uint16) float64 { return float64(wide(v)) }, func(v float64) uint16 { return kernel.RoundBF16(float32(v)) })
	case dtype.I32:
		reduceLoop[int32, int64](b, n, op.Kind, keepDims, keepStrides, sumDims, sumStrides, math.MinInt32, func(v int32) int64 { return int64(v) }, func(v int64) int32 { return int32(v) })
	case dtype.I64:
		reduceLoop[int64, int64](b, n, op.Kind, keepDims, keepStrides, sumDims, sumStrides, math.MinInt64, func(v int64) int64 { return v }, func(v int64) int64 { return v })
	case dtype.U32:
		reduceLoop[uint32, int64](b, n, op.Kind, keepDims, keepStrides, sumDims, sumStrides, 0, func(v uint32) int64 { return int64(v) }, func(v int64) uint32 { return uint32(v) })
	default:
		return unsupported(x.typ.DType)
	}
	return nil
}

func reduceLoop[T numeric, A float64 | int64](b *binder, n *node, kind graph.ReduceKind, keepDims, keepStrides, sumDims, sumStrides []int, least A, load func(T) A, store func(A) T) {
	keep := newWalk(keepDims, keepStrides)
	sums := newWalk(sumDims, sumStrides)
	sums.size, sums.cut = max(sums.outer, 1), max(sums.inner, 1) // one task
	each := sums.tasks()
	total := n.out[0].typ.Len()
	per := max(1, taskElements/max(1, sums.outer*sums.inner))
	b.do(n, b.chunks(total, per, func(from, to int) {
		x, y := of[T](n.in[0]), of[T](n.out[0])
		for i := from; i < to; i++ {
			base := keep.offset(i)
			var acc A
			started := false
			for t := range each {
				sums.task(t, func(at [4]int, m int) {
					for k := range m {
						v := load(x[base+at[0]+k*sums.step[0]])
						switch {
						case kind == graph.ReduceSum:
							acc += v
						case !started || v != v:
							acc, started = v, true
						case kind == graph.ReduceMax && v > acc, kind == graph.ReduceMin && v < acc:
							acc = v
						}
					}
				})
			}
			if !started && kind != graph.ReduceSum {
				acc = least // of nothing; only the largest of an empty axis has a use
			}
			y[i] = store(acc)
		}
	}))
}

// offset is the first operand's offset of element i of the walk.
func (w *walk) offset(i int) int {
	off := i % w.inner * w.step[0]
	i /= w.inner
	for k := len(w.dims) - 1; k >= 0; k-- {
		off += i % w.dims[k] * w.strides[0][k]
		i /= w.dims[k]
	}
	return off
}

// lines are the rows along a value's last axis.
func lines(t graph.Type) (rows, length int) {
	return tensor.Len(t.Shape[:len(t.Shape)-1]), t.Last()
}

func (b *binder) argMax(n *node) error {
	rows, l := lines(n.in[0].typ)
	per := max(1, taskElements/max(l, 1))
	switch n.in[0].typ.DType {
	case dtype.F32:
		b.do(n, b.chunks(rows, per, func(i, j int) {
			for r := i; r < j; r++ {
				of[int32](n.out[0])[r] = int32(kernel.ArgMax(of[float32](n.in[0])[r*l : (r+1)*l]))
			}
		}))
	case dtype.BF16:
		b.do(n, b.chunks(rows, per, func(i, j int) {
			for r := i; r < j; r++ {
				of[int32](n.out[0])[r] = int32(kernel.ArgMax(of[uint16](n.in[0])[r*l : (r+1)*l]))
			}
		}))
	case dtype.I32:
		b.do(n, b.chunks(rows, per, func(i, j int) {
			for r := i; r < j; r++ {
				x, best := of[int32](n.in[0])[r*l:(r+1)*l], 0
				for k := range x {
					if x[k] > x[best] {
						best = k
					}
				}
				of[int32](n.out[0])[r] = int32(best)
			}
		}))
	default:
		return unsupported(n.in[0].typ.DType)
	}
	return nil
}

func (b *binder) cumSum(n *node) error {
	switch n.in[0].typ.DType {
	case dtype.F32:
		cumSumLoop[float32, float64](b, n)
	case dtype.F64:
		cumSumLoop[float64, float64](b, n)
	case dtype.BF16:
		rows, l := lines(n.in[0].typ)
		b.do(n, b.chunks(rows, max(1, taskElements/max(l, 1)), func(i, j int) {
			x, y := of[uint16](n.in[0]), of[uint16](n.out[0])
			for r := i; r < j; r++ {
				var s float64
				for k := r * l; k < (r+1)*l; k++ {
					s += float64(wide(x[k]))
					y[k] = kernel.RoundBF16(float32(s))
				}
			}
		}))
	case dtype.I32:
		cumSumLoop[int32, int64](b, n)
	case dtype.I64:
		cumSumLoop[int64, int64](b, n)
	default:
		return unsupported(n.in[0].typ.DType)
	}
	return nil
}

func cumSumLoop[T, A numeric](b *binder, n *node) {
	rows, l := lines(n.in[0].typ)
	b.do(n, b.chunks(rows, max(1, taskElements/max(l, 1)), func(i, j int) {
		x, y := of[T](n.in[0]), of[T](n.out[0])
		for r := i; r < j; r++ {
			var s A
			for k := r * l; k < (r+1)*l; k++ {
				s += A(x[k])
				y[k] = T(s)
			}
		}
	}))
}

// order sorts each line stably and keeps the first k values and their places.
func (b *binder) order(n *node, k int, descending bool) error {
	switch n.in[0].typ.DType {
	case dtype.F32:
		orderLoop(b, n, k, descending, func(x, y float32) bool { return x < y })
	case dtype.BF16:
		orderLoop(b, n, k, descending, func(x, y uint16) bool { return wide(x) < wide(y) })
	case dtype.I32:
		orderLoop(b, n, k, descending, func(x, y int32) bool { return x < y })
	case dtype.I64:
		orderLoop(b, n, k, descending, func(x, y int64) bool { return x < y })
	default:
		return unsupported(n.in[0].typ.DType)
	}
	return nil
}

// sorter sorts places by the values of a line; a line's sorter is made once, so that a run allocates nothing.
type sorter[T any] struct {
	x      []T
	places []int32
	before func(x, y T) bool
}

func (s *sorter[T]) Len() int           { return len(s.places) }
func (s *sorter[T]) Less(i, j int) bool { return s.before(s.x[s.places[i]], s.x[s.places[j]]) }
func (s *sorter[T]) Swap(i, j int)      { s.places[i], s.places[j] = s.places[j], s.places[i] }

func orderLoop[T any](b *binder, n *node, k int, descending bool, less func(x, y T) bool) {
	rows, l := lines(n.in[0].typ)
	before := less
	if descending {
		before = func(x, y T) bool { return less(y, x) }
	}
	sorters := make([]sorter[T], b.engine.pool.Workers())
	for w := range sorters {
		sorters[w] = sorter[T]{places: make([]int32, l), before: before}
	}
	b.do(n, b.parallel(rows, func(worker, r int) {
		s := &sorters[worker]
		s.x = of[T](n.in[0])[r*l : (r+1)*l]
		for i := range s.places {
			s.places[i] = int32(i)
		}
		sort.Stable(s)
		values, places := of[T](n.out[0])[r*k:(r+1)*k], of[int32](n.out[1])[r*k:(r+1)*k]
		copy(places, s.places)
		for i, p := range places {
			values[i] = s.x[p]
		}
	}))
}

func indexFault(i int32, n int) error { return fmt.Errorf("index %d is not below %d", i, n) }

// gather copies rows.
func (b *binder) gather(n *node) error {
	table, ids, y := n.in[0], n.in[1], n.out[0]
	if table.typ.DType.IsQuantized() {
		return unsupported(table.typ.DType)
	}
	row := table.typ.DType.Bytes(tensor.Len(table.typ.Shape[1:]))
	rows, total := table.typ.Shape[0], ids.typ.Len()
	per := max(1, copyChunk/max(row, 1))
	b.try(n, b.checked((total+per-1)/per, func(c int) error {
		from, to := view[byte](table.ptr(), rows*row), view[byte](y.ptr(), total*row)
		for i := c * per; i < min((c+1)*per, total); i++ {
			id := of[int32](ids)[i]
			if id < 0 || int(id) >= rows {
				return indexFault(id, rows)
			}
			copy(to[i*row:(i+1)*row], from[int(id)*row:])
		}
		return nil
	}))
	return nil
}

// embedding is gather with a cast.
func (b *binder) embedding(n *node) error {
	if n.in[0].packed {
		return b.packedEmbedding(n)
	}
	table, ids, y := n.in[0], n.in[1], n.out[0]
	d, rows, total := table.typ.Shape[1], table.typ.Shape[0], ids.typ.Len()
	from, to := table.typ.DType, y.typ.DType
	per := max(1, taskElements/max(d, 1))
	b.try(n, b.checked((total+per-1)/per, func(c int) error {
		for i := c * per; i < min((c+1)*per, total); i++ {
			id := of[int32](ids)[i]
			if id < 0 || int(id) >= rows {
				return indexFault(id, rows)
			}
			castRow(to, unsafe.Add(y.ptr(), to.Bytes(i*d)), from, unsafe.Add(table.ptr(), from.Bytes(int(id)*d)), d)
		}
		return nil
	}))
	return nil
}

// scatterTasks is into how many ranges of the base's rows the work is divided.
const scatterTasks = 16

func (b *binder) scatterAdd(n *node) error {
	base, ids, src, y := n.in[0], n.in[1], n.in[2], n.out[0]
	rows, d := base.typ.Shape[0], tensor.Len(base.typ.Shape[1:])
	start := b.copying(y.ptr, base.ptr, bytesIn(y.typ))
	var add func(i int, id int32)
	switch y.typ.DType {
	case dtype.F32:
		add = func(i int, id int32) {
			kernel.Axpy(of[float32](y)[int(id)*d:(int(id)+1)*d], of[float32](src)[i*d:(i+1)*d], 1)
		}
	case dtype.BF16:
		add = func(i int, id int32) {
			to := of[uint16](y)[int(id)*d : (int(id)+1)*d]
			kernel.Binary(kernel.OpAdd, to, to, of[uint16](src)[i*d:(i+1)*d])
		}
	case dtype.F64:
		add = func(i int, id int32) { addTo(of[float64](y)[int(id)*d:(int(id)+1)*d], of[float64](src)[i*d:]) }
	case dtype.I32:
		add = func(i int, id int32) { addTo(of[int32](y)[int(id)*d:(int(id)+1)*d], of[int32](src)[i*d:]) }
	default:
		return unsupported(y.typ.DType)
	}
	per := (rows + scatterTasks - 1) / scatterTasks
	run := b.checked(scatterTasks, func(t int) error {
		for i, id := range of[int32](ids) {
			if int(id) >= rows {
				return indexFault(id, rows)
			}
			if id >= 0 && int(id)/max(per, 1) == t {
				add(i, id)
			}
		}
		return nil
	})
	b.try(n, func() error {
		start()
		return run()
	})
	return nil
}

func addTo[T numeric](y, x []T) {
	for i := range y {
		y[i] += x[i]
	}
}

func (b *binder) takeAlong(n *node) error {
	rows, l := lines(n.in[0].typ)
	return sized(n.out[0].typ.DType, func() { takeLoop[uint8](b, n, rows, l) }, func() { takeLoop[uint16](b, n, rows, l) },
		func() { takeLoop[uint32](b, n, rows, l) }, func() { takeLoop[uint64](b, n, rows, l) })
}

func takeLoop[T any](b *binder, n *node, rows, l int) {
	k := n.in[1].typ.Last()
	b.try(n, b.checked(rows, func(r int) error {
		x, ids, y := of[T](n.in[0]), of[int32](n.in[1]), of[T](n.out[0])
		for i := r * k; i < (r+1)*k; i++ {
			if ids[i] < 0 || int(ids[i]) >= l {
				return indexFault(ids[i], l)
			}
			y[i] = x[r*l+int(ids[i])]
		}
		return nil
	}))
}
