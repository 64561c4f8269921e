package xla

import (
	"math"
	"slices"

	"danlu/dtype"
	"danlu/graph"
)

// cacheParts are the arrays of a KV cache, or of a stack of them.
type cacheParts struct {
	spec   *graph.CacheSpec
	arrays []*value
	// layer is the place in the stack, nil when there is none; operand is the stack's place among a loop's operands.
	layer   *value
	operand int
}

// scaleBlock is the number of values that share a scale in a cache kept as Q8_0.
const scaleBlock = 32

// cacheTypes are the types of a cache's arrays: keys [S, G, K], then values [S, G, W] unless they are a view of the keys,
// S the slots of all pages; kept as Q8_0 each is an array of 8-bit levels and one of scales.
func cacheTypes(spec *graph.CacheSpec, stack []int) []graph.Type {
	var types []graph.Type
	add := func(width int) {
		if width == 0 {
			return
		}
		shape := append(slices.Clone(stack), spec.Pages*spec.PageLen, spec.KVHeads, width)
		if spec.Store != dtype.Q8_0 {
			types = append(types, graph.Of(spec.Store, shape...))
			return
		}
		scales := slices.Clone(shape)
		scales[len(scales)-1] = width / scaleBlock
		types = append(types, graph.Of(dtype.I8, shape...), graph.Of(dtype.F32, scales...))
	}
	add(spec.KeyDim)
	add(spec.ValueDim)
	return types
}

// encode is x [N, G, K] as a cache keeps it.
func (w writer) encode(spec *graph.CacheSpec, x *value) []*value {
	if spec.Store != dtype.Q8_0 {
		return []*value{w.convert(x, spec.Store)}
	}
	x = w.convert(x, dtype.F32)
	shape := x.typ.Shape
	blocks := w.reshape(x, shape[0], shape[1], shape[2]/scaleBlock, scaleBlock)
	top := w.reduce(graph.ReduceMax, w.one("stablehlo.abs", "", blocks.typ, blocks), 3)
	scale := w.mul(top, w.scalar(dtype.F32, 1.0/127))
	safe := w.binary(graph.BinaryMax, scale, w.scalar(dtype.F32, 1e-38))
	levels := w.binary(graph.BinaryDiv, blocks, w.reshape(safe, append(slices.Clone(safe.typ.Shape), 1)...))
	levels = w.one("stablehlo.round_nearest_even", "", levels.typ, levels)
	return []*value{w.convert(w.reshape(levels, shape...), dtype.I8), scale}
}

// decode is what [writer.encode] took, in float32; it reads the arrays from the front of the list and returns the rest.
func (w writer) decode(spec *graph.CacheSpec, arrays []*value) (*value, []*value) {
	if spec.Store != dtype.Q8_0 {
		return w.convert(arrays[0], dtype.F32), arrays[1:]
	}
	levels := w.convert(arrays[0], dtype.F32)
	shape := levels.typ.Shape
	blocks := append(slices.Clone(shape[:len(shape)-1]), shape[len(shape)-1]/scaleBlock, scaleBlock)
	scale := w.reshape(arrays[1], append(slices.Clone(arrays[1].typ.Shape), 1)...)
	return w.reshape(w.mul(w.reshape(levels, blocks...), scale), shape...), arrays[2:]
}

// table is an array of a stack of caches as one table of units (slots or pages) of all layers, and what to add to an index
// to come to this layer.
func (w writer) table(c *cacheParts, array *value, units, length int) (table, offset *value) {
	shape := array.typ.Shape[len(array.typ.Shape)-3:]
	n := array.typ.Len() / (shape[0] * shape[1] * shape[2])
	table = w.reshape(array, append([]int{n * units, length}, shape[1:]...)...)
	offset = w.scalar(dtype.I32, 0)
	if c.layer != nil {
		offset = w.mul(c.layer, w.scalar(dtype.I32, float64(units)))
	}
	return table, offset
}

// cacheWrite puts new tokens' keys and values into a cache, in place.
func (l *lowering) cacheWrite(in []*value) *value {
	c := *in[0].parts
	n := in[1].typ.Shape[0]
	var fresh []*value
	for _, x := range in[1:3] {
		if x != nil {
			fresh = append(fresh, l.encode(c.spec, l.reshape(x, n, x.typ.Shape[2], x.typ.Shape[3]))...)
		}
	}
	slots := c.spec.Pages * c.spec.PageLen
	c.arrays = slices.Clone(c.arrays)
	for i, array := range c.arrays {
		table, offset := l.table(&c, array, slots, 1)
		table = l.reshape(table, append([]int{table.typ.Shape[0]}, table.typ.Shape[2:]...)...)
		unused := l.binary(graph.BinaryLess, in[3], l.scalar(dtype.I32, 0))
		index := l.choose(unused, l.scalar(dtype.I32, -1), l.add(in[3], offset), in[3].typ.Shape)
		c.arrays[i] = l.reshape(l.scatter(table, index, fresh[i], false), array.typ.Shape...)
	}
	return &value{typ: in[0].typ, parts: &c}
}

// cachedAttention attends from new tokens to cached ones. Where there are no more tokens than sequences each token gathers
// the pages of its own; else all tokens look at the pages of all sequences and what is not theirs is masked.
func (l *lowering) cachedAttention(op graph.CachedAttention, in []*value) ([]*value, error) {
	q, c, pages, seqs, at, prefix, slopes := in[0], in[1].parts, in[2], in[3], in[4], in[5], in[6]
	own := q.typ.Shape[0] <= pages.typ.Shape[0] && pages.typ.Shape[0] > 1
	if own {
		pages = l.gather(pages, l.binary(graph.BinaryMax, seqs, l.scalar(dtype.I32, 0)))
	}
	var found []*value
	for _, array := range c.arrays {
		table, offset := l.table(c, array, c.spec.Pages, c.spec.PageLen)
		x := l.gather(table, l.add(pages, offset)) // [Q, P, PageLen, G, K]
		s := x.typ.Shape
		found = append(found, l.reshape(x, s[0], s[1]*s[2], s[3], s[4]))
	}
	keys, rest := l.decode(c.spec, found)
	values := l.cut(keys, 3, 0, max(c.spec.ValueView, 1))
	if c.spec.ValueDim > 0 {
		values, _ = l.decode(c.spec, rest)
	}
	return l.expand([]*value{q, keys, values, seqs, at, prefix, slopes}, func(in []*graph.Value) []*graph.Value {
		return []*graph.Value{attendCached(op, own, in)}
	})
}

// attendCached is attention of q [N, 1, H, K] over keys [Q, S, G, K] and values [Q, S, G, W]; with own Q is N and token n
// sees row n alone.
func attendCached(op graph.CachedAttention, own bool, in []*graph.Value) *graph.Value {
	q, keys, values, seqs, at, prefix, slopes := in[0], in[1], in[2], in[3], in[4], in[5], in[6]
	n, h, k := q.Shape[0], q.Shape[2], q.Shape[3]
	rows, s, g, w := keys.Shape[0], keys.Shape[1], keys.Shape[2], values.Shape[3]
	r := h / g
	g0 := q.Graph()
	queries := graph.ReshapeTo(graph.Convert(q, dtype.F32), n, g, r, k)
	token, head := []int{n, 1, 1, 1}, []int{1, g, r, 1} // of scores [N, G, R, S] with own
	if own {
		keys, values = graph.Permute(keys, 0, 2, 1, 3), graph.Permute(values, 0, 2, 1, 3)
	} else { // scores are [G, N, R, Q·S]
		token, head = []int{1, n, 1, 1}, []int{g, 1, r, 1}
		queries = graph.ReshapeTo(graph.Permute(queries, 1, 0, 2, 3), g, n*r, k)
		keys = graph.Permute(graph.ReshapeTo(keys, rows*s, g, k), 1, 0, 2)
		values = graph.Permute(graph.ReshapeTo(values, rows*s, g, w), 1, 0, 2)
	}
	scores := graph.MulScalar(graph.Dot(queries, keys, false, true, dtype.F32), op.Scale)
	if !own {
		scores = graph.ReshapeTo(scores, g, n, r, rows*s)
	}
	if op.Softcap != 0 {
		scores = graph.MulScalar(graph.Tanh(graph.MulScalar(scores, 1/op.Softcap)), op.Softcap)
	}
	key := graph.ReshapeTo(g0.Count(graph.Of(dtype.I32, rows, s), 1), 1, 1, 1, rows*s)
	owner := graph.ReshapeTo(g0.Count(graph.Of(dtype.I32, rows, s), 0), 1, 1, 1, rows*s)
	if own {
		key = g0.Count(graph.Of(dtype.I32, 1, 1, 1, s), 3)
	}
	seq, here := graph.ReshapeTo(seqs, token...), graph.ReshapeTo(at, token...)
	last := here
	if prefix != nil {
		first := graph.Rows(prefix, graph.Max(seqs, graph.ConstLike(seqs, 0)))
		last = graph.Max(here, graph.AddScalar(graph.ReshapeTo(first, token...), -1))
	}
	sees := graph.And(graph.LessEqual(key, last), graph.GreaterEqual(seq, graph.ConstLike(seq, 0)))
	if !own {
		sees = graph.And(sees, graph.Equal(owner, seq))
	}
	if op.Window > 0 {
		sees = graph.And(sees, graph.Greater(key, graph.AddScalar(here, -float64(op.Window))))
	}
	if slopes != nil {
		scores = graph.Add(scores, graph.Mul(graph.ReshapeTo(slopes, head...), graph.Convert(graph.Sub(key, here), dtype.F32)))
	}
	scores = graph.Where(sees, scores, graph.ConstLike(scores, math.Inf(-1)))
	top := graph.MaxOf(scores, -1)
	top = graph.Where(graph.Equal(top, graph.ConstLike(top, math.Inf(-1))), graph.ConstLike(top, 0), top)
	p := graph.Exp(graph.Sub(scores, top))
	p = graph.Div(p, graph.Max(graph.SumKeep(p, -1), graph.ConstLike(p, math.SmallestNonzeroFloat32*1e8)))
	if own {
		out := graph.Dot(p, values, false, false, dtype.F32) // [N, G, R, W]
		return graph.Convert(graph.ReshapeTo(out, n, 1, h, w), q.DType)
	}
	out := graph.ReshapeTo(graph.Dot(graph.ReshapeTo(p, g, n*r, rows*s), values, false, false, dtype.F32), g, n, r, w)
	return graph.Convert(graph.ReshapeTo(graph.Permute(out, 1, 0, 2, 3), n, 1, h, w), q.DType)
}
