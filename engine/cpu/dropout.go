package cpu

import (
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// dropout is graph.Dropout, a chunk of elements at a time.
func (b *binder) dropout(n *node, op graph.Dropout) error {
	x, key, y := n.in[0], n.in[1], n.out[0]
	d := x.typ.DType
	rate, scale := float32(op.Rate), float32(1/(1-op.Rate))
	b.do(n, b.chunks(y.typ.Len(), taskElements, func(i, j int) {
		k := of[uint32](key)
		p := kernel.Philox{Seed: k[0], Step: k[1], Stream: op.Stream}
		var u, v [256]float32
		for ; i < j; i += len(u) {
			m := min(len(u), j-i)
			p.Uniform(u[:m], uint64(i))
			castRow(dtype.F32, unsafe.Pointer(&v), d, unsafe.Add(x.ptr(), d.Bytes(i)), m)
			for c := range m {
				if u[c] < rate {
					v[c] = 0
				} else {
					v[c] *= scale
				}
			}
			castRow(d, unsafe.Add(y.ptr(), d.Bytes(i)), dtype.F32, unsafe.Pointer(&v), m)
		}
	}))
	return nil
}
