package cpu

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// weights views an optional float32 operand.
func weights(v *value) []float32 {
	if v == nil {
		return nil
	}
	return of[float32](v)
}

// typed picks the kernel for two element types.
func typed(y, x *value, ff, fb, bf, bb func(i, j int)) func(i, j int) {
	switch {
	case y.typ.DType == dtype.F32 && x.typ.DType == dtype.F32:
		return ff
	case y.typ.DType == dtype.F32:
		return fb
	case x.typ.DType == dtype.F32:
		return bf
	}
	return bb
}

func (b *binder) rmsNorm(n *node, eps float64) error {
	x, y := n.in[0], n.out[0]
	rows, d := lines(x.typ)
	e := float32(eps)
	b.do(n, b.chunks(rows, cutRows(rows, d), typed(y, x,
		func(i, j int) { rmsNorm[float32, float32](n, d, e, i, j) }, func(i, j int) { rmsNorm[float32, uint16](n, d, e, i, j) },
		func(i, j int) { rmsNorm[uint16, float32](n, d, e, i, j) }, func(i, j int) { rmsNorm[uint16, uint16](n, d, e, i, j) })))
	return nil
}

func rmsNorm[Y, X kernel.Elem](n *node, d int, eps float32, i, j int) {
	kernel.RMSNorm(of[Y](n.out[0])[i*d:j*d], of[X](n.in[0])[i*d:j*d], weights(n.in[1]), d, eps)
}

func (b *binder) layerNorm(n *node, eps float64) error {
	x, y := n.in[0], n.out[0]
	rows, d := lines(x.typ)
	e := float32(eps)
	b.do(n, b.chunks(rows, cutRows(rows, d), typed(y, x,
		func(i, j int) { layerNorm[float32, float32](n, d, e, i, j) }, func(i, j int) { layerNorm[float32, uint16](n, d, e, i, j) },
		func(i, j int) { layerNorm[uint16, float32](n, d, e, i, j) }, func(i, j int) { layerNorm[uint16, uint16](n, d, e, i, j) })))
	return nil
}

func layerNorm[Y, X kernel.Elem](n *node, d int, eps float32, i, j int) {
	kernel.LayerNorm(of[Y](n.out[0])[i*d:j*d], of[X](n.in[0])[i*d:j*d], weights(n.in[1]), weights(n.in[2]), d, eps)
}

// normGrad gives each chunk of rows its own sums for the parameters and adds those up in order.
func (b *binder) normGrad(n *node, eps float64, layer bool) error {
	dy, x := n.in[0], n.in[1]
	rows, d := lines(x.typ)
	chunks := (rows + kernel.NormChunk - 1) / kernel.NormChunk
	params := len(n.out) - 1
	sums := b.floats(n, max(1, chunks*params*d))
	call := typed(x, dy,
		func(i, j int) { normGrad[float32, float32](n, d, float32(eps), layer, sums(), i, j) },
		func(i, j int) { normGrad[float32, uint16](n, d, float32(eps), layer, sums(), i, j) },
		func(i, j int) { normGrad[uint16, float32](n, d, float32(eps), layer, sums(), i, j) },
		func(i, j int) { normGrad[uint16, uint16](n, d, float32(eps), layer, sums(), i, j) })
	main := b.chunks(rows, kernel.NormChunk, call)
	b.do(n, func() {
		clear(sums())
		main()
		for p := range params {
			out := of[float32](n.out[1+p])
			clear(out)
			for c := range chunks {
				kernel.Axpy(out, sums()[(c*params+p)*d:(c*params+p+1)*d], 1)
			}
		}
	})
	return nil
}

func normGrad[X, Y kernel.Elem](n *node, d int, eps float32, layer bool, sums []float32, i, j int) {
	dx, dy, x := of[X](n.out[0])[i*d:j*d], of[Y](n.in[0])[i*d:j*d], of[X](n.in[1])[i*d:j*d]
	c := i / kernel.NormChunk
	if layer {
		kernel.LayerNormGrad(dx, sums[2*c*d:(2*c+1)*d], sums[(2*c+1)*d:(2*c+2)*d], dy, x, weights(n.in[2]), d, eps)
		return
	}
	var dw []float32
	if len(n.out) > 1 {
		dw = sums[c*d : (c+1)*d]
	}
	kernel.RMSNormGrad(dx, dw, dy, x, weights(n.in[2]), d, eps)
}

func (b *binder) softmax(n *node) error {
	x, y := n.in[0], n.out[0]
	rows, d := lines(x.typ)
	if d == 0 {
		return nil
	}
	f32 := func(i, j int) { kernel.Softmax(of[float32](y)[i*d:j*d], of[float32](x)[i*d:j*d], d) }
	bf16 := func(i, j int) { kernel.Softmax(of[uint16](y)[i*d:j*d], of[uint16](x)[i*d:j*d], d) }
	b.do(n, b.chunks(rows, cutRows(rows, d), typed(y, x, f32, nil, nil, bf16)))
	return nil
}

var activations = map[graph.ActivationKind]kernel.UnaryOp{
	graph.SiLU: kernel.OpSiLU, graph.GELU: kernel.OpGELU, graph.GELUTanh: kernel.OpGELUTanh, graph.ReLU: kernel.OpReLU, graph.QuickGELU: kernel.OpQuickGELU,
}

func (b *binder) activation(n *node, kind graph.ActivationKind) error {
	x, y, op := n.in[0], n.out[0], activations[kind]
	b.do(n, b.chunks(y.typ.Len(), taskElements, typed(y, x,
		func(i, j int) { kernel.Unary(op, of[float32](y)[i:j], of[float32](x)[i:j]) }, nil, nil,
		func(i, j int) { kernel.Unary(op, of[uint16](y)[i:j], of[uint16](x)[i:j]) })))
	return nil
}

func (b *binder) activationGrad(n *node, kind graph.ActivationKind) error {
	dy, x, dx, op := n.in[0], n.in[1], n.out[0], activations[kind]
	b.do(n, b.chunks(dx.typ.Len(), taskElements, typed(dx, x,
		func(i, j int) {
			kernel.ActivationGrad(op, of[float32](dx)[i:j], of[float32](dy)[i:j], of[float32](x)[i:j])
		}, nil, nil,
		func(i, j int) {
			kernel.ActivationGrad(op, of[uint16](dx)[i:j], of[uint16](dy)[i:j], of[uint16](x)[i:j])
		})))
	return nil
}

func (b *binder) glu(n *node, op graph.GLU) error {
	y, k := n.out[0], activations[op.Kind]
	if len(n.in) == 2 {
		b.do(n, b.chunks(y.typ.Len(), taskElements, typed(y, y,
			func(i, j int) {
				kernel.GLU(k, of[float32](y)[i:j], of[float32](n.in[0])[i:j], of[float32](n.in[1])[i:j])
			}, nil, nil,
			func(i, j int) {
				kernel.GLU(k, of[uint16](y)[i:j], of[uint16](n.in[0])[i:j], of[uint16](n.in[1])[i:j])
			})))
		return nil
	}
	rows, f := lines(y.typ)
	b.do(n, b.chunks(rows, cutRows(rows, f), typed(y, y,
		func(i, j int) {
			kernel.GLUFused(k, of[float32](y)[i*f:j*f], of[float32](n.in[0])[2*i*f:2*j*f], f, op.UpFirst)
		}, nil, nil,
		func(i, j int) {
			kernel.GLUFused(k, of[uint16](y)[i*f:j*f], of[uint16](n.in[0])[2*i*f:2*j*f], f, op.UpFirst)
		})))
	return nil
}

func (b *binder) gluGrad(n *node, op graph.GLUGrad) error {
	dy, k := n.in[0], activations[op.Kind]
	if len(n.in) == 3 {
		b.do(n, b.chunks(dy.typ.Len(), taskElements, typed(dy, dy,
			func(i, j int) { gluGrad[float32](n, k, i, j) }, nil, nil, func(i, j int) { gluGrad[uint16](n, k, i, j) })))
		return nil
	}
	rows, f := lines(dy.typ)
	b.do(n, b.chunks(rows, cutRows(rows, f), typed(dy, dy,
		func(i, j int) {
			kernel.GLUFusedGrad(k, of[float32](n.out[0])[2*i*f:2*j*f], of[float32](dy)[i*f:j*f], of[float32](n.in[1])[2*i*f:2*j*f], f, op.UpFirst)
		}, nil, nil,
		func(i, j int) {
			kernel.GLUFusedGrad(k, of[uint16](n.out[0])[2*i*f:2*j*f], of[uint16](dy)[i*f:j*f], of[uint16](n.in[1])[2*i*f:2*j*f], f, op.UpFirst)
		})))
	return nil
}

func gluGrad[T kernel.Elem](n *node, k kernel.UnaryOp, i, j int) {
	kernel.GLUGrad(k, of[T](n.out[0])[i:j], of[T](n.out[1])[i:j], of[T](n.in[0])[i:j], of[T](n.in[1])[i:j], of[T](n.in[2])[i:j])
}

func (b *binder) rope(n *node, op graph.RoPE) error {
	x, y := n.in[0], n.out[0]
	s := x.typ.Shape
	o := kernel.RoPE{Heads: s[2], HeadDim: s[3], Half: n.in[1].typ.Last(), Interleaved: op.Interleaved, Inverse: op.Inverse}
	rows, d := s[0]*s[1], s[2]*s[3]
	b.do(n, b.chunks(rows, cutRows(rows, d), typed(y, y,
		func(i, j int) { rope[float32](n, o, d, i, j) }, nil, nil, func(i, j int) { rope[uint16](n, o, d, i, j) })))
	return nil
}

func rope[T kernel.Elem](n *node, o kernel.RoPE, d, i, j int) {
	kernel.ApplyRoPE(o, of[T](n.out[0])[i*d:j*d], d, of[T](n.in[0])[i*d:j*d], d,
		of[float32](n.in[1])[i*o.Half:j*o.Half], of[float32](n.in[2])[i*o.Half:j*o.Half])
}

// rotaryTable fills the columns of each section from its row of positions.
func (b *binder) rotaryTable(n *node, op graph.RotaryTable) error {
	pos, inv := n.in[0], n.in[1]
	tokens, half := pos.typ.Shape[1]*pos.typ.Shape[2], inv.typ.Shape[0]
	sections := op.Sections
	if sections == nil {
		sections = []int{half}
	}
	b.do(n, b.chunks(tokens, 16, func(i, j int) {
		cos, sin := of[float32](n.out[0]), of[float32](n.out[1])
		for t := i; t < j; t++ {
			at := 0
			for row, size := range sections {
				from := t*half + at
				kernel.RotaryTable(cos[from:from+size], sin[from:from+size], of[int32](pos)[row*tokens+t:row*tokens+t+1], of[float32](inv)[at:at+size], op.Scale)
				at += size
			}
		}
	}))
	return nil
}
