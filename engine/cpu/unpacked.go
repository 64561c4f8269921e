package cpu

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// unpackedProduct is x·Wᵀ of many rows with a packed or coded matrix, of which some rows at a time are unpacked to
// float32 and multiplied: the fast way where x has so many rows that each unpacked value is used often.
type unpackedProduct struct {
	*product
	out, in int
	bias    []float32 // [Out]; nil: none
	wide    func() []float32
	unpack  func()
	w       []byte
	from    int
}

// manyRows is from how many rows of x on a matrix is unpacked for a product.
const manyRows = 64

// unpacks reports whether a product with w unpacks it: always when it is coded, and for many rows of a graph whose
// sizes are fixed (in others a row's bytes may not depend on how many there are).
func unpacks(x graph.Type, w *value, rows int, compute dtype.DType) bool {
	return kernel.IsCoded(w.typ.DType) || !x.Rows && compute != dtype.Q8_0 && rows >= manyRows
}

func (b *binder) unpackedProduct(n *node, w *value, rows int, compute dtype.DType) *unpackedProduct {
	r := w.typ.Rank()
	g := &unpackedProduct{out: w.typ.Shape[r-2], in: w.typ.Shape[r-1]}
	if compute == dtype.Q8_0 {
		compute = dtype.F32
	}
	part := min(gradRows, g.out)
	g.product = b.product(n, rows, part, g.in, compute)
	g.wide = b.floats(n, part*g.in)
	d, size := w.typ.DType, kernel.ScratchUnpack(g.in)
	own := b.floats(n, b.engine.pool.Workers()*size)
	g.unpack = b.parallel((part+kernel.PanelRows-1)/kernel.PanelRows, func(worker, i int) {
		if at := i * kernel.PanelRows; at < g.N {
			unpackRows(d, g.wide()[at*g.in:], g.w, g.in, g.from+at, min(kernel.PanelRows, g.N-at), own()[worker*size:(worker+1)*size])
		}
	})
	return g
}

// run multiplies m rows.
func (g *unpackedProduct) run(x kernel.Matrix, w []byte, y kernel.Matrix, m int) {
	g.w, g.M = w, m
	for g.from = 0; g.from < g.out; g.from += gradRows {
		g.N = min(gradRows, g.out-g.from)
		if g.bias != nil {
			g.Bias = g.bias[g.from : g.from+g.N]
		}
		g.unpack()
		part := y
		if part.BF16 != nil {
			part.BF16 = part.BF16[g.from:]
		} else {
			part.F32 = part.F32[g.from:]
		}
		g.product.run(x, kernel.Matrix{F32: g.wide(), Row: 1, Col: g.in}, part)
	}
}
