package xla

import (
	"math"

	"danlu/dtype"
	"danlu/graph"
	"danlu/tensor"
)

// random writes Philox4x32-10 with the key in an operand: element k is word k%4 of block k/4.
func (w writer) random(op graph.Random, key *value) *value {
	n := tensor.Len(op.Shape)
	blocks := (n + 3) / 4
	words := w.philox(blocks, op.Stream, key) // [blocks, 4]
	all := func(t graph.Type, x *value) *value {
		return w.reshape(w.cut(w.reshape(x, blocks*4), 0, 0, n), t.Shape...)
	}
	if op.Kind == graph.RandomBits {
		return all(graph.Of(dtype.U32, op.Shape...), words)
	}
	out := graph.Of(dtype.F32, op.Shape...)
	high := w.one("stablehlo.shift_right_logical", "", words.typ, words, w.full(words.typ, 8))
	uniform := w.mul(w.convert(high, dtype.F32), w.scalar(dtype.F32, 0x1p-24))
	if op.Kind == graph.RandomUniform {
		return all(out, uniform)
	}
	// Box-Muller of neighbours: the even element takes the cosine, the odd one the sine.
	pairs := w.convert(w.reshape(uniform, blocks*2, 2), dtype.F64)
	rest := w.binary(graph.BinarySub, w.scalar(dtype.F64, 1), w.cut(pairs, 1, 0, 1))
	radius := w.unary(graph.UnarySqrt, w.mul(w.scalar(dtype.F64, -2), w.unary(graph.UnaryLog, rest)))
	angle := w.mul(w.scalar(dtype.F64, 2*math.Pi), w.cut(pairs, 1, 1, 2))
	both := w.one("stablehlo.concatenate", "dimension = 1 : i64", pairs.typ, w.mul(radius, w.unary(graph.UnaryCos, angle)), w.mul(radius, w.unary(graph.UnarySin, angle)))
	return all(out, w.convert(both, dtype.F32))
}

// philox writes the ten rounds for a number of blocks; the counter is the block's number and the stream.
func (w writer) philox(blocks int, stream uint32, key *value) *value {
	word := graph.Of(dtype.U32, blocks)
	wide := graph.Of(dtype.U64, blocks)
	constant := func(x uint32) *value { return w.broadcast(w.constant(tensor.FromU32([]uint32{x})), word.Shape, nil) }
	half := func(i int) *value { return w.broadcast(w.reshape(w.cut(key, 0, i, i+1)), word.Shape, nil) }
	// The low and the high word of a product.
	product := func(a *value, b uint32) (low, high *value) {
		p := w.mul(w.convert(a, dtype.U64), w.convert(constant(b), dtype.U64))
		top := w.one("stablehlo.shift_right_logical", "", wide, p, w.convert(constant(32), dtype.U64))
		return w.convert(p, dtype.U32), w.convert(top, dtype.U32)
	}
	xor := func(a, b, c *value) *value {
		return w.one("stablehlo.xor", "", word, w.one("stablehlo.xor", "", word, a, b), c)
	}
	c := [4]*value{w.iota(word, 0), constant(0), constant(stream), constant(0)}
	k := [2]*value{half(0), half(1)}
	for range 10 {
		low0, high0 := product(c[0], 0xD2511F53)
		low1, high1 := product(c[2], 0xCD9E8D57)
		c = [4]*value{xor(high1, c[1], k[0]), low1, xor(high0, c[3], k[1]), low0}
		k = [2]*value{w.add(k[0], constant(0x9E3779B9)), w.add(k[1], constant(0xBB67AE85))}
	}
	columns := make([]*value, 4)
	for i, x := range c {
		columns[i] = w.reshape(x, blocks, 1)
	}
	return w.one("stablehlo.concatenate", "dimension = 1 : i64", graph.Of(dtype.U32, blocks, 4), columns...)
}
