package xla

import (
	"fmt"
	"math"
	"slices"

	"danlu/dtype"
	"danlu/graph"
	"danlu/tensor"
)

// unaryNames and binaryNames are the operations that StableHLO has under one name for all element types.
var unaryNames = map[graph.UnaryKind]string{
	graph.UnaryNeg: "stablehlo.negate", graph.UnaryExp: "stablehlo.exponential", graph.UnaryLog: "stablehlo.log", graph.UnaryTanh: "stablehlo.tanh",
	graph.UnaryErf: "chlo.erf", graph.UnarySqrt: "stablehlo.sqrt", graph.UnaryRsqrt: "stablehlo.rsqrt", graph.UnaryAbs: "stablehlo.abs", graph.UnarySign: "stablehlo.sign",
	graph.UnaryFloor: "stablehlo.floor", graph.UnarySin: "stablehlo.sine", graph.UnaryCos: "stablehlo.cosine", graph.UnarySigmoid: "stablehlo.logistic", graph.UnaryNot: "stablehlo.not",
}

var binaryNames = map[graph.BinaryKind]string{
	graph.BinaryAdd: "stablehlo.add", graph.BinarySub: "stablehlo.subtract", graph.BinaryMul: "stablehlo.multiply", graph.BinaryDiv: "stablehlo.divide",
	graph.BinaryMax: "stablehlo.maximum", graph.BinaryMin: "stablehlo.minimum", graph.BinaryPow: "stablehlo.power", graph.BinaryRem: "stablehlo.remainder",
	graph.BinaryAnd: "stablehlo.and", graph.BinaryOr: "stablehlo.or",
}

var comparisons = map[graph.BinaryKind]string{
	graph.BinaryEqual: "EQ", graph.BinaryNotEqual: "NE", graph.BinaryLess: "LT", graph.BinaryLessEqual: "LE", graph.BinaryGreater: "GT", graph.BinaryGreaterEqual: "GE",
}

// primitive writes a primitive operation. This is the table of what the engine must know; fused operations come here as
// their decompositions.
func (w writer) primitive(op graph.Op, in []*value, out []graph.Type) ([]*value, error) {
	one := func(v *value) ([]*value, error) { return []*value{v}, nil }
	var x *value
	if len(in) > 0 {
		x = in[0]
	}
	switch op := op.(type) {
	case graph.Unary:
		if op.Kind == graph.UnaryTanh && x.typ.DType == dtype.F32 {
			return one(w.tanh(x))
		}
		return one(w.unary(op.Kind, x))
	case graph.Binary:
		return one(w.binary(op.Kind, x, in[1]))
	case graph.Select:
		return one(w.choose(x, in[1], in[2], out[0].Shape))
	case graph.Cast:
		return one(w.convert(x, op.To))
	case graph.Random:
		return one(w.random(op, x))
	case graph.Reshape:
		return one(w.reshape(x, out[0].Shape...))
	case graph.Transpose:
		return one(w.transpose(x, op.Perm...))
	case graph.Broadcast:
		return one(w.spread(x, out[0].Shape))
	case graph.Reduce:
		return one(w.reshape(w.reduce(op.Kind, x, op.Axes...), out[0].Shape...))
	case graph.ArgMax:
		return one(w.argMax(x))
	case graph.CumSum:
		return one(w.cumSum(x))
	case graph.MatMul:
		return one(w.matMul(op, x, in[1], out[0]))
	case graph.Gather:
		return one(w.gather(x, in[1]))
	case graph.ScatterAdd:
		return one(w.scatter(x, in[1], in[2], true))
	case graph.TakeAlong:
		return one(w.takeAlong(x, in[1]))
	case graph.Slice:
		return one(w.cut(x, op.Axis, op.Start, op.End))
	case graph.Concat:
		return one(w.one("stablehlo.concatenate", fmt.Sprintf("dimension = %d : i64", op.Axis), out[0], in...))
	case graph.TopK:
		return w.order(x, op.K, true), nil
	case graph.Sort:
		return w.order(x, x.typ.Last(), op.Descending), nil
	case graph.Iota:
		return one(w.iota(out[0], op.Axis))
	case graph.Const:
		return one(w.constant(op.Tensor))
	}
	return nil, fmt.Errorf("is neither a primitive nor has a decomposition")
}

func (w writer) unary(kind graph.UnaryKind, x *value) *value {
	return w.one(unaryNames[kind], "", x.typ, x)
}

// tanh is 1 - 2/(exp(2|x|)+1) with the sign of x, but near zero: plugins' own are off by several units in the last place
// near one, which the derivative 1-tanh² makes large.
func (w writer) tanh(x *value) *value {
	size := w.unary(graph.UnaryAbs, x)
	scalar := func(c float64) *value { return w.scalar(dtype.F32, c) }
	tail := w.binary(graph.BinaryDiv, scalar(2), w.add(w.unary(graph.UnaryExp, w.mul(size, scalar(2))), scalar(1)))
	far := w.mul(w.unary(graph.UnarySign, x), w.binary(graph.BinarySub, scalar(1), tail))
	return w.choose(w.binary(graph.BinaryLess, size, scalar(0.5)), w.unary(graph.UnaryTanh, x), far, x.typ.Shape)
}

func (w writer) iota(t graph.Type, axis int) *value {
	return w.one("stablehlo.iota", fmt.Sprintf("iota_dimension = %d : i64", axis), t)
}

func (w writer) reshape(x *value, shape ...int) *value {
	if slices.Equal(x.typ.Shape, shape) {
		return x
	}
	y := w.one("stablehlo.reshape", "", graph.Of(x.typ.DType, shape...), x)
	if x.exact != nil {
		y.exact = w.reshape(x.exact, shape...)
	}
	return y
}

func (w writer) transpose(x *value, perm ...int) *value {
	if slices.IsSorted(perm) {
		return x
	}
	shape := make([]int, len(perm))
	for i, p := range perm {
		shape[i] = x.typ.Shape[p]
	}
	y := w.one("stablehlo.transpose", "permutation = "+numbers(perm...), graph.Of(x.typ.DType, shape...), x)
	if x.exact != nil {
		y.exact = w.transpose(x.exact, perm...)
	}
	return y
}

// broadcast repeats x over shape, of which x's axes are the axes given.
func (w writer) broadcast(x *value, shape, axes []int) *value {
	if slices.Equal(x.typ.Shape, shape) {
		return x
	}
	return w.one("stablehlo.broadcast_in_dim", "broadcast_dimensions = "+numbers(axes...), graph.Of(x.typ.DType, shape...), x)
}

// spread is broadcast with the axes aligned at the last one.
func (w writer) spread(x *value, shape []int) *value {
	return w.broadcast(x, shape, ints(len(shape)-x.typ.Rank(), x.typ.Rank()))
}

// convert converts to an element type; to Bool it asks whether elements differ from zero.
func (w writer) convert(x *value, to dtype.DType) *value {
	if x.typ.DType == to {
		return x
	}
	if to == dtype.Bool {
		return w.binary(graph.BinaryNotEqual, x, w.scalar(x.typ.DType, 0))
	}
	y := w.one("stablehlo.convert", "", graph.Of(to, x.typ.Shape...), x)
	if to == dtype.F32 && x.typ.DType == dtype.BF16 {
		y.exact = x
	}
	return y
}

// both repeats two operands over their common shape.
func (w writer) both(a, b *value) (*value, *value, []int) {
	shape, err := graph.BroadcastShapes(a.typ.Shape, b.typ.Shape)
	if err != nil {
		graph.Failf("xla: %v", err)
	}
	return w.spread(a, shape), w.spread(b, shape), shape
}

func (w writer) binary(kind graph.BinaryKind, a, b *value) *value {
	a, b, shape := w.both(a, b)
	if direction, ok := comparisons[kind]; ok {
		return w.compare(direction, a, b)
	}
	return w.one(binaryNames[kind], "", graph.Of(a.typ.DType, shape...), a, b)
}

func (w writer) add(a, b *value) *value { return w.binary(graph.BinaryAdd, a, b) }
func (w writer) mul(a, b *value) *value { return w.binary(graph.BinaryMul, a, b) }

// compare compares operands of one shape.
func (w writer) compare(direction string, a, b *value) *value {
	how := "UNSIGNED"
	switch d := a.typ.DType; {
	case d.IsFloat():
		how = "FLOAT"
	case d == dtype.I8 || d == dtype.I16 || d == dtype.I32 || d == dtype.I64:
		how = "SIGNED"
	}
	attributes := fmt.Sprintf("compare_type = #stablehlo<comparison_type %s>, comparison_direction = #stablehlo<comparison_direction %s>", how, direction)
	return w.one("stablehlo.compare", attributes, graph.Of(dtype.Bool, a.typ.Shape...), a, b)
}

func (w writer) choose(cond, a, b *value, shape []int) *value {
	return w.one("stablehlo.select", "", graph.Of(a.typ.DType, shape...), w.spread(cond, shape), w.spread(a, shape), w.spread(b, shape))
}

// accumulated is the element type in which sums of elements of type d are made.
func accumulated(d dtype.DType) dtype.DType {
	if d == dtype.BF16 || d == dtype.F16 {
		return dtype.F32
	}
	return d
}

var reducers = map[graph.ReduceKind]graph.BinaryKind{graph.ReduceSum: graph.BinaryAdd, graph.ReduceMax: graph.BinaryMax, graph.ReduceMin: graph.BinaryMin}

// reduce combines the elements along axes, which vanish.
func (w writer) reduce(kind graph.ReduceKind, x *value, axes ...int) *value {
	d := accumulated(x.typ.DType)
	start := w.scalar(d, 0)
	if kind != graph.ReduceSum {
		start = w.constant(extreme(d, kind == graph.ReduceMin))
	}
	var shape []int
	for i, n := range x.typ.Shape {
		if !slices.Contains(axes, i) {
			shape = append(shape, n)
		}
	}
	y := w.apply("stablehlo.reduce", "dimensions = "+numbers(axes...), []graph.Type{graph.Of(d, shape...)}, []region{w.combining(reducers[kind], d)}, w.convert(x, d), start)[0]
	return w.convert(y, x.typ.DType)
}

// combining is the body of a reduction.
func (w writer) combining(kind graph.BinaryKind, d dtype.DType) region {
	a, b := w.argument(graph.Of(d)), w.argument(graph.Of(d))
	return region{[]*value{a, b}, func(w writer) []*value { return []*value{w.binary(kind, a, b)} }}
}

// extreme is the largest or smallest value of a type: what a search for the smallest or largest starts from.
func extreme(d dtype.DType, largest bool) *tensor.Tensor {
	t := tensor.New(d)
	low, high := math.Inf(-1), math.Inf(1)
	switch d {
	case dtype.I32:
		low, high = math.MinInt32, math.MaxInt32
	case dtype.U32:
		low, high = 0, math.MaxUint32
	case dtype.I64:
		t.I64()[0] = math.MinInt64
		if largest {
			t.I64()[0] = math.MaxInt64
		}
		return t
	case dtype.Bool:
		low, high = 0, 1
	}
	if largest {
		low = high
	}
	graph.Fill(t, low)
	return t
}

// argMax is the first place of the largest element: the least of the places that hold it.
func (w writer) argMax(x *value) *value {
	last := x.typ.Rank() - 1
	n := x.typ.Shape[last]
	top := w.reduce(graph.ReduceMax, x, last)
	hit := w.compare("EQ", x, w.broadcast(top, x.typ.Shape, ints(0, last)))
	place := w.iota(graph.Of(dtype.I32, x.typ.Shape...), last)
	first := w.reduce(graph.ReduceMin, w.choose(hit, place, w.scalar(dtype.I32, float64(n)), x.typ.Shape), last)
	return w.binary(graph.BinaryMin, first, w.scalar(dtype.I32, float64(n-1))) // all NaN: in range
}

// cumSum is a sum over windows that end at each element.
func (w writer) cumSum(x *value) *value {
	d, rank := accumulated(x.typ.DType), x.typ.Rank()
	n := x.typ.Last()
	window, padding := make([]int, rank), ""
	for i := range window {
		window[i] = 1
		if i > 0 {
			padding += ", "
		}
		if i == rank-1 {
			window[i] = n
			padding += fmt.Sprintf("[%d, 0]", n-1)
		} else {
			padding += "[0, 0]"
		}
	}
	attributes := fmt.Sprintf("window_dimensions = %s, padding = dense<[%s]> : tensor<%dx2xi64>", numbers(window...), padding, rank)
	y := w.apply("stablehlo.reduce_window", attributes, []graph.Type{graph.Of(d, x.typ.Shape...)}, []region{w.combining(graph.BinaryAdd, d)}, w.convert(x, d), w.scalar(d, 0))[0]
	return w.convert(y, x.typ.DType)
}

// order sorts the last axis stably and keeps the first k values and their places.
func (w writer) order(x *value, k int, descending bool) []*value {
	last := x.typ.Rank() - 1
	place := w.iota(graph.Of(dtype.I32, x.typ.Shape...), last)
	direction := "LT"
	if descending {
		direction = "GT"
	}
	d := graph.Of(x.typ.DType)
	a, b := w.argument(d), w.argument(d)
	body := region{[]*value{a, b, w.argument(graph.Of(dtype.I32)), w.argument(graph.Of(dtype.I32))}, func(w writer) []*value {
		return []*value{w.compare(direction, a, b)}
	}}
	out := w.apply("stablehlo.sort", fmt.Sprintf("dimension = %d : i64, is_stable = true", last), []graph.Type{x.typ, place.typ}, []region{body}, x, place)
	return []*value{w.cut(out[0], last, 0, k), w.cut(out[1], last, 0, k)}
}

// cut takes [start, end) along axis.
func (w writer) cut(x *value, axis, start, end int) *value {
	shape := slices.Clone(x.typ.Shape)
	if start == 0 && end == shape[axis] {
		return x
	}
	from, to, step := make([]int, len(shape)), slices.Clone(shape), make([]int, len(shape))
	for i := range step {
		step[i] = 1
	}
	from[axis], to[axis], shape[axis] = start, end, end-start
	attributes := fmt.Sprintf("start_indices = %s, limit_indices = %s, strides = %s", numbers(from...), numbers(to...), numbers(step...))
	return w.one("stablehlo.slice", attributes, graph.Of(x.typ.DType, shape...), x)
}

// gather takes rows of a table; an index out of range gives the nearest row.
func (w writer) gather(table, index *value) *value {
	row := table.typ.Shape[1:]
	sizes := append([]int{1}, row...)
	rank := index.typ.Rank()
	shape := append(slices.Clone(index.typ.Shape), row...)
	attributes := fmt.Sprintf("dimension_numbers = #stablehlo.gather<offset_dims = %s, collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = %d>, slice_sizes = %s, indices_are_sorted = false",
		list(ints(rank, len(row))...), rank, numbers(sizes...))
	return w.one("stablehlo.gather", attributes, graph.Of(table.typ.DType, shape...), table, index)
}

// scatter adds rows to the rows of base that the index names, or puts them there; an index out of range is skipped.
func (w writer) scatter(base, index, rows *value, adding bool) *value {
	rank := index.typ.Rank()
	d := base.typ.DType
	wide := d
	if adding {
		wide = accumulated(d)
	}
	attributes := fmt.Sprintf("scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = %s, inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = %d>, indices_are_sorted = false, unique_indices = %v",
		list(ints(rank, base.typ.Rank()-1)...), rank, !adding)
	body := w.combining(graph.BinaryAdd, wide)
	if !adding {
		body.write = func(writer) []*value { return body.args[1:] }
	}
	y := w.apply("stablehlo.scatter", attributes, []graph.Type{graph.Of(wide, base.typ.Shape...)}, []region{body}, w.convert(base, wide), index, w.convert(rows, wide))[0]
	return w.convert(y, d)
}

// takeAlong picks elements of the last axis. A single one is found by comparing places, which fuses with what made x and
// works on parts of the axis; more are gathered from the elements in one row.
func (w writer) takeAlong(x, index *value) *value {
	last := x.typ.Rank() - 1
	if index.typ.Last() == 1 && x.typ.DType.IsFloat() {
		hit := w.compare("EQ", w.spread(index, x.typ.Shape), w.iota(graph.Of(dtype.I32, x.typ.Shape...), last))
		return w.reshape(w.reduce(graph.ReduceSum, w.choose(hit, x, w.scalar(x.typ.DType, 0), x.typ.Shape), last), index.typ.Shape...)
	}
	rows := x.typ.Len() / max(x.typ.Last(), 1)
	k := index.typ.Last()
	start := w.mul(w.iota(graph.Of(dtype.I32, rows, k), 0), w.scalar(dtype.I32, float64(x.typ.Last())))
	flat := w.gather(w.reshape(x, x.typ.Len()), w.add(start, w.reshape(index, rows, k)))
	return w.reshape(flat, index.typ.Shape...)
}
