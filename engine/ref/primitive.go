package ref

import (
	"math"
	"slices"
	"sort"

	"danlu/graph"
	"danlu/tensor"
)

// primitive computes one primitive operation.
func (e *env) primitive(n *graph.Node, in []*array, out []graph.Type) []*array {
	r := make([]*array, len(out))
	for i, t := range out {
		r[i] = newArray(t)
	}
	y := r[0]
	switch op := n.Op.(type) {
	case graph.Same, graph.StopGradient:
		return []*array{in[0]}
	case graph.Unary:
		unary(op.Kind, y, in[0])
	case graph.Binary:
		y = binary(op.Kind, y, in[0], in[1])
	case graph.Select:
		selectWhere(y, in)
	case graph.Cast:
		cast(y, in[0])
	case graph.Random:
		random(op, y, in[0])
	case graph.Reshape:
		shape := out[0].Shape
		if rows := tensor.Len(shape) != tensor.Len(in[0].shape); rows {
			// The row axis was folded into another one: follow the real number of elements.
			shape = slices.Clone(shape)
			rest := tensor.Len(shape[1:])
			shape[0] = tensor.Len(in[0].shape) / max(rest, 1)
		}
		return []*array{{shape: shape, f: in[0].f, i: in[0].i, pages: in[0].pages}}
	case graph.Transpose:
		shape := make([]int, len(op.Perm))
		from := make([]int, len(op.Perm))
		own := strides(in[0].shape)
		for i, p := range op.Perm {
			shape[i], from[i] = in[0].shape[p], own[p]
		}
		y = newArray(graph.Type{DType: n.Out[0].DType, Shape: shape})
		copyStrided(y, in[0], from)
	case graph.Broadcast:
		copyStrided(y, in[0], aligned(in[0].shape, y.shape))
	case graph.Reduce:
		y = reduce(op, n.Out[0].DType.IsFloat(), in[0])
	case graph.ArgMax:
		argMax(y, in[0])
	case graph.CumSum:
		cumSum(y, in[0])
	case graph.MatMul:
		y = matMul(op, in[0], in[1])
	case graph.Gather:
		y = gather(n.Out[0].DType.IsFloat(), in[0], in[1])
	case graph.ScatterAdd:
		scatterAdd(y, in[0], in[1], in[2])
	case graph.TakeAlong:
		takeAlong(y, in[0], in[1])
	case graph.Slice:
		y = slice(op, in[0])
	case graph.Concat:
		y = concat(op, in)
	case graph.TopK:
		order(r[0], r[1], in[0], op.K, true)
	case graph.Sort:
		order(r[0], r[1], in[0], in[0].shape[len(in[0].shape)-1], op.Descending)
	case graph.Iota:
		iota(y, op.Axis)
	default:
		failf("%s is neither a primitive nor has a decomposition", n.Op.Name())
	}
	r[0] = y
	return r
}

func unary(kind graph.UnaryKind, y, x *array) {
	if x.f == nil {
		for k, v := range x.i {
			switch kind {
			case graph.UnaryNeg:
				y.i[k] = -v
			case graph.UnaryNot:
				y.i[k] = 1 - v
			case graph.UnaryAbs:
				y.i[k] = max(v, -v)
			case graph.UnarySign:
				y.i[k] = boolInt(v > 0) - boolInt(v < 0)
			default:
				failf("%v of integers", kind)
			}
		}
		return
	}
	f := map[graph.UnaryKind]func(float64) float64{
		graph.UnaryNeg: func(x float64) float64 { return -x }, graph.UnaryExp: math.Exp, graph.UnaryLog: math.Log, graph.UnaryTanh: math.Tanh,
		graph.UnaryErf: math.Erf, graph.UnarySqrt: math.Sqrt, graph.UnaryRsqrt: func(x float64) float64 { return 1 / math.Sqrt(x) },
		graph.UnaryAbs: math.Abs, graph.UnaryFloor: math.Floor, graph.UnarySin: math.Sin, graph.UnaryCos: math.Cos,
		graph.UnarySigmoid: func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
		graph.UnarySign: func(x float64) float64 {
			switch {
			case x > 0:
				return 1
			case x < 0:
				return -1
			}
			return x // zero and NaN
		},
	}[kind]
	for k, v := range x.f {
		y.f[k] = f(v)
	}
}

// resultShape broadcasts the shapes of this run, which may have fewer rows than declared.
func resultShape(a, b *array) []int {
	shape, err := graph.BroadcastShapes(a.shape, b.shape)
	if err != nil {
		failf("%v", err)
	}
	return shape
}

func binary(kind graph.BinaryKind, y, a, b *array) *array {
	shape := resultShape(a, b)
	n := tensor.Len(shape)
	y.shape = shape
	sa, sb := aligned(a.shape, shape), aligned(b.shape, shape)
	k := 0
	switch {
	case kind.Compares() || a.f == nil:
		y.i = make([]int64, n)
		walk(shape, func(at []int) {
			if a.f != nil {
				y.i[k] = compare(kind, a.f[at[0]], b.f[at[1]])
			} else {
				y.i[k] = integer(kind, a.i[at[0]], b.i[at[1]])
			}
			k++
		}, sa, sb)
	default:
		y.f = make([]float64, n)
		walk(shape, func(at []int) {
			y.f[k] = real(kind, a.f[at[0]], b.f[at[1]])
			k++
		}, sa, sb)
	}
	return y
}

func compare[T int64 | float64](kind graph.BinaryKind, a, b T) int64 {
	switch kind {
	case graph.BinaryEqual:
		return boolInt(a == b)
	case graph.BinaryNotEqual:
		return boolInt(a != b)
	case graph.BinaryLess:
		return boolInt(a < b)
	case graph.BinaryLessEqual:
		return boolInt(a <= b)
	case graph.BinaryGreater:
		return boolInt(a > b)
	case graph.BinaryGreaterEqual:
		return boolInt(a >= b)
	}
	failf("%v of numbers", kind)
	return 0
}

func integer(kind graph.BinaryKind, a, b int64) int64 {
	switch kind {
	case graph.BinaryAdd:
		return a + b
	case graph.BinarySub:
		return a - b
	case graph.BinaryMul:
		return a * b
	case graph.BinaryDiv, graph.BinaryRem:
		if b == 0 {
			failf("division of an integer by zero")
		}
		if kind == graph.BinaryDiv {
			return a / b
		}
		return a % b
	case graph.BinaryMax:
		return max(a, b)
	case graph.BinaryMin:
		return min(a, b)
	case graph.BinaryAnd:
		return a & b
	case graph.BinaryOr:
		return a | b
	}
	return compare(kind, a, b)
}

func real(kind graph.BinaryKind, a, b float64) float64 {
	switch kind {
	case graph.BinaryAdd:
		return a + b
	case graph.BinarySub:
		return a - b
	case graph.BinaryMul:
		return a * b
	case graph.BinaryDiv:
		return a / b
	case graph.BinaryMax:
		return math.Max(a, b)
	case graph.BinaryMin:
		return math.Min(a, b)
	case graph.BinaryPow:
		return math.Pow(a, b)
	case graph.BinaryRem:
		return math.Mod(a, b)
	}
	failf("%v of real numbers", kind)
	return 0
}

func selectWhere(y *array, in []*array) {
	shape := resultShape(in[1], in[2])
	shape = resultShape(in[0], &array{shape: shape})
	n := tensor.Len(shape)
	y.shape = shape
	if y.f != nil {
		y.f = make([]float64, n)
	} else {
		y.i = make([]int64, n)
	}
	k := 0
	walk(shape, func(at []int) {
		from, place := in[2], at[2]
		if in[0].i[at[0]] != 0 {
			from, place = in[1], at[1]
		}
		if y.f != nil {
			y.f[k] = from.f[place]
		} else {
			y.i[k] = from.i[place]
		}
		k++
	}, aligned(in[0].shape, shape), aligned(in[1].shape, shape), aligned(in[2].shape, shape))
}

func cast(y, x *array) {
	y.shape = x.shape
	switch {
	case y.f != nil && x.f != nil:
		y.f = slices.Clone(x.f)
	case y.f != nil:
		y.f = make([]float64, len(x.i))
		for k, v := range x.i {
			y.f[k] = float64(v)
		}
	case x.f != nil:
		y.i = make([]int64, len(x.f))
		for k, v := range x.f {
			y.i[k] = int64(v)
		}
	default:
		y.i = slices.Clone(x.i)
	}
}

func random(op graph.Random, y, key *array) {
	words := func(k int) uint32 {
		block := philox([4]uint32{uint32(k / 4), uint32(uint64(k/4) >> 32), op.Stream, 0}, [2]uint32{uint32(key.i[0]), uint32(key.i[1])})
		return block[k%4]
	}
	uniform := func(k int) float64 { return float64(words(k)>>8) / (1 << 24) }
	for k := range tensor.Len(y.shape) {
		switch op.Kind {
		case graph.RandomBits:
			y.i[k] = int64(words(k))
		case graph.RandomUniform:
			y.f[k] = uniform(k)
		case graph.RandomNormal:
			// Box-Muller of a pair: the even element takes the cosine, the odd one the sine.
			r := math.Sqrt(-2 * math.Log(1-uniform(k&^1)))
			angle := 2 * math.Pi * uniform(k|1)
			y.f[k] = r * math.Cos(angle)
			if k%2 == 1 {
				y.f[k] = r * math.Sin(angle)
			}
		}
	}
}

// philox is Philox4x32-10 (Salmon et al., SC'11, section 4.3).
func philox(c [4]uint32, k [2]uint32) [4]uint32 {
	for range 10 {
		p0, p1 := uint64(c[0])*0xD2511F53, uint64(c[2])*0xCD9E8D57
		c = [4]uint32{uint32(p1>>32) ^ c[1] ^ k[0], uint32(p1), uint32(p0>>32) ^ c[3] ^ k[1], uint32(p0)}
		k[0] += 0x9E3779B9
		k[1] += 0xBB67AE85
	}
	return c
}

// copyStrided fills y from x with the given strides of x along y's axes.
func copyStrided(y, x *array, from []int) {
	k := 0
	walk(y.shape, func(at []int) {
		if y.f != nil {
			y.f[k] = x.f[at[0]]
		} else {
			y.i[k] = x.i[at[0]]
		}
		k++
	}, from)
}

func reduce(op graph.Reduce, float bool, x *array) *array {
	keep := slices.Clone(x.shape)
	var shape []int
	for i := range keep {
		if slices.Contains(op.Axes, i) {
			keep[i] = 1
		} else {
			shape = append(shape, keep[i])
		}
	}
	n := tensor.Len(keep)
	y := &array{shape: shape}
	if op.Keep {
		y.shape = keep
	}
	to := aligned(keep, x.shape)
	own := strides(x.shape)
	if float {
		y.f = make([]float64, n)
		start := map[graph.ReduceKind]float64{graph.ReduceMax: -inf, graph.ReduceMin: inf}[op.Kind]
		for k := range y.f {
			y.f[k] = start
		}
		walk(x.shape, func(at []int) {
			v := x.f[at[0]]
			switch acc := &y.f[at[1]]; op.Kind {
			case graph.ReduceSum:
				*acc += v
			case graph.ReduceMax:
				*acc = math.Max(*acc, v)
			case graph.ReduceMin:
				*acc = math.Min(*acc, v)
			}
		}, own, to)
		return y
	}
	y.i = make([]int64, n)
	start := map[graph.ReduceKind]int64{graph.ReduceMax: math.MinInt64, graph.ReduceMin: math.MaxInt64}[op.Kind]
	for k := range y.i {
		y.i[k] = start
	}
	walk(x.shape, func(at []int) {
		v := x.i[at[0]]
		switch acc := &y.i[at[1]]; op.Kind {
		case graph.ReduceSum:
			*acc += v
		case graph.ReduceMax:
			*acc = max(*acc, v)
		case graph.ReduceMin:
			*acc = min(*acc, v)
		}
	}, own, to)
	return y
}

// lines calls f with the bounds of each line along the last axis.
func lines(shape []int, f func(line, from, to int)) {
	n := shape[len(shape)-1]
	for k := range tensor.Len(shape[:len(shape)-1]) {
		f(k, k*n, (k+1)*n)
	}
}

func argMax(y, x *array) {
	lines(x.shape, func(line, from, to int) {
		best := from
		for k := from; k < to; k++ {
			if x.f != nil && x.f[k] > x.f[best] || x.f == nil && x.i[k] > x.i[best] {
				best = k
			}
		}
		y.i[line] = int64(best - from)
	})
}

func cumSum(y, x *array) {
	lines(x.shape, func(_, from, to int) {
		f, i := 0.0, int64(0)
		for k := from; k < to; k++ {
			if x.f != nil {
				f += x.f[k]
				y.f[k] = f
			} else {
				i += x.i[k]
				y.i[k] = i
			}
		}
	})
}

func matMul(op graph.MatMul, a, b *array) *array {
	ra, rb := len(a.shape), len(b.shape)
	m, k := a.shape[ra-2], a.shape[ra-1]
	sm, sk := k, 1
	if op.TransA {
		m, k, sm, sk = k, m, 1, k
	}
	n := b.shape[rb-1]
	tk, tn := n, 1
	if op.TransB {
		n = b.shape[rb-2]
		tk, tn = 1, k
	}
	batch := resultShape(&array{shape: a.shape[:ra-2]}, &array{shape: b.shape[:rb-2]})
	y := &array{shape: append(slices.Clone(batch), m, n)}
	y.f = make([]float64, tensor.Len(y.shape))
	out := 0
	walk(batch, func(at []int) {
		x, w := a.f[at[0]*a.shape[ra-2]*a.shape[ra-1]:], b.f[at[1]*b.shape[rb-2]*b.shape[rb-1]:]
		for i := range m {
			for j := range n {
				sum := 0.0
				for l := range k {
					sum += x[i*sm+l*sk] * w[l*tk+j*tn]
				}
				y.f[out] = sum
				out++
			}
		}
	}, aligned(a.shape[:ra-2], batch), aligned(b.shape[:rb-2], batch))
	return y
}

func index(i int64, n int) int {
	if i < 0 || i >= int64(n) {
		failf("index %d of %d", i, n)
	}
	return int(i)
}

func gather(float bool, table, ids *array) *array {
	row := tensor.Len(table.shape[1:])
	y := &array{shape: append(slices.Clone(ids.shape), table.shape[1:]...)}
	for _, id := range ids.i {
		k := index(id, table.shape[0]) * row
		if float {
			y.f = append(y.f, table.f[k:k+row]...)
		} else {
			y.i = append(y.i, table.i[k:k+row]...)
		}
	}
	return y
}

func scatterAdd(y, base, ids, rows *array) {
	y.f = slices.Clone(base.f)
	y.i = slices.Clone(base.i)
	row := tensor.Len(base.shape[1:])
	for k, id := range ids.i {
		if id < 0 {
			continue
		}
		to := index(id, base.shape[0]) * row
		for j := range row {
			if y.f != nil {
				y.f[to+j] += rows.f[k*row+j]
			} else {
				y.i[to+j] += rows.i[k*row+j]
			}
		}
	}
}

func takeAlong(y, x, ids *array) {
	n, k := x.shape[len(x.shape)-1], ids.shape[len(ids.shape)-1]
	for p, id := range ids.i {
		from := p/k*n + index(id, n)
		if y.f != nil {
			y.f[p] = x.f[from]
		} else {
			y.i[p] = x.i[from]
		}
	}
}

func slice(op graph.Slice, x *array) *array {
	y := &array{shape: slices.Clone(x.shape)}
	end := op.End
	if op.Axis == 0 {
		end = min(end, x.shape[0])
	}
	y.shape[op.Axis] = end - op.Start
	inner := tensor.Len(x.shape[op.Axis+1:])
	n := x.shape[op.Axis]
	for o := range tensor.Len(x.shape[:op.Axis]) {
		from, to := (o*n+op.Start)*inner, (o*n+end)*inner
		if x.f != nil {
			y.f = append(y.f, x.f[from:to]...)
		} else {
			y.i = append(y.i, x.i[from:to]...)
		}
	}
	if x.f != nil && y.f == nil {
		y.f = []float64{}
	}
	return y
}

func concat(op graph.Concat, in []*array) *array {
	y := &array{shape: slices.Clone(in[0].shape)}
	y.shape[op.Axis] = 0
	for _, x := range in {
		y.shape[op.Axis] += x.shape[op.Axis]
	}
	for o := range tensor.Len(y.shape[:op.Axis]) {
		for _, x := range in {
			n := tensor.Len(x.shape[op.Axis:])
			if x.f != nil {
				y.f = append(y.f, x.f[o*n:(o+1)*n]...)
			} else {
				y.i = append(y.i, x.i[o*n:(o+1)*n]...)
			}
		}
	}
	return y
}

// order sorts each line stably and keeps the first k values and their places.
func order(values, places, x *array, k int, descending bool) {
	lines(x.shape, func(line, from, to int) {
		p := make([]int, to-from)
		for i := range p {
			p[i] = i
		}
		at := func(i int) float64 {
			if x.f != nil {
				return x.f[from+i]
			}
			return float64(x.i[from+i])
		}
		sort.SliceStable(p, func(a, b int) bool {
			if descending {
				return at(p[a]) > at(p[b])
			}
			return at(p[a]) < at(p[b])
		})
		for i := range k {
			places.i[line*k+i] = int64(p[i])
			if x.f != nil {
				values.f[line*k+i] = x.f[from+p[i]]
			} else {
				values.i[line*k+i] = x.i[from+p[i]]
			}
		}
	})
}

func iota(y *array, axis int) {
	s := strides(y.shape)
	for k := range max(len(y.f), len(y.i)) {
		v := k / s[axis] % y.shape[axis]
		if y.f != nil {
			y.f[k] = float64(v)
		} else {
			y.i[k] = int64(v)
		}
	}
}
