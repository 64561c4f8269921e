package kernel

// ActivationGrad is dx = dy · f'(x) for an activation function f (OpSiLU to OpQuickGELU). dx may be dy or x.
func ActivationGrad[X, Y Elem](op UnaryOp, dx []X, dy []Y, x []X) {
	var bx, by, out, der block
	for i := 0; i < len(x); {
		j := next(i, len(x))
		d := der[:j-i]
		derivative(op, d, load(&bx, x[i:j]))
		o := room(&out, dx[i:j])
		mulRow(o, d, load(&by, dy[i:j]))
		store(dx[i:j], o)
		i = j
	}
}

func derivative(op UnaryOp, d, x []float32) {
	switch op {
	case OpSiLU:
		siluGradRow(d, x)
	case OpGELU:
		geluGradRow(d, x)
	case OpGELUTanh:
		geluTanhGradRow(d, x)
	case OpReLU:
		mapRow(d, x, reluGrad32)
	case OpQuickGELU:
		quickGeluGradRow(d, x)
	default:
		panic("kernel: not an activation function")
	}
}

// GLU is act(gate)·up (Shazeer, arXiv:2002.05202). dst may be gate or up.
func GLU[T Elem](op UnaryOp, dst, gate, up []T) {
	var bg, bu, out, act block
	for i := 0; i < len(dst); {
		j := next(i, len(dst))
		o := room(&out, dst[i:j])
		g, u := load(&bg, gate[i:j]), load(&bu, up[i:j])
		if op == OpSiLU {
			siluMulRow(o, g, u)
		} else {
			a := act[:j-i]
			unaryRow(op, a, g)
			mulRow(o, a, u)
		}
		store(dst[i:j], o)
		i = j
	}
}

// GLUGrad is the gradient of GLU: dgate = dy·up·act'(gate), dup = dy·act(gate). Results may overwrite dy, gate and up, each
// at most one.
func GLUGrad[T Elem](op UnaryOp, dgate, dup, dy, gate, up []T) {
	var bg, bu, by, og, ou block
	for i := 0; i < len(dy); {
		j := next(i, len(dy))
		g, u, y := load(&bg, gate[i:j]), load(&bu, up[i:j]), load(&by, dy[i:j])
		dg, du := og[:j-i], ou[:j-i]
		if op == OpSiLU {
			siluMulGradRow(dg, du, y, g, u)
		} else {
			unaryRow(op, du, g)
			mulRow(du, du, y)
			derivative(op, dg, g)
			mulRow(dg, dg, y)
			mulRow(dg, dg, u)
		}
		put(dgate[i:j], dg)
		put(dup[i:j], du)
		i = j
	}
}

// put writes y to x.
func put[T Elem](x []T, y []float32) {
	if isF32[T]() {
		copy(asF32(x), y)
	} else {
		f32ToBF16(asBF16(x), y)
	}
}

// GLUFused is GLU of rows [gate | up] of 2f, or [up | gate] when upFirst: dst has rows of f.
func GLUFused[T Elem](op UnaryOp, dst, x []T, f int, upFirst bool) {
	for ; len(x) > 0; dst, x = dst[f:], x[2*f:] {
		gate, up := halves(x[:2*f], f, upFirst)
		GLU(op, dst[:f], gate, up)
	}
}

// GLUFusedGrad is the gradient of GLUFused: dy has rows of f, dx and x rows of 2f. dx may be x.
func GLUFusedGrad[T Elem](op UnaryOp, dx, dy, x []T, f int, upFirst bool) {
	for ; len(x) > 0; dx, dy, x = dx[2*f:], dy[f:], x[2*f:] {
		gate, up := halves(x[:2*f], f, upFirst)
		dgate, dup := halves(dx[:2*f], f, upFirst)
		GLUGrad(op, dgate, dup, dy[:f], gate, up)
	}
}

func halves[T Elem](x []T, f int, upFirst bool) (gate, up []T) {
	if upFirst {
		return x[f:], x[:f]
	}
	return x[:f], x[f:]
}

func siluGradRowPortable(d, x []float32)      { mapRow(d, x, siluGrad32) }
func geluGradRowPortable(d, x []float32)      { mapRow(d, x, geluGrad32) }
func geluTanhGradRowPortable(d, x []float32)  { mapRow(d, x, geluTanhGrad32) }
func quickGeluGradRowPortable(d, x []float32) { mapRow(d, x, quickGeluGrad32) }

func siluMulRowPortable(d, g, u []float32) {
	g, u = g[:len(d)], u[:len(d)]
	for i := range d {
		d[i] = silu32(g[i]) * u[i]
	}
}

func siluMulGradRowPortable(dg, du, dy, g, u []float32) {
	du, dy, g, u = du[:len(dg)], dy[:len(dg)], g[:len(dg)], u[:len(dg)]
	for i := range dg {
		x, y, up := float64(g[i]), dy[i], u[i] // before anything is overwritten
		s := 1 / (1 + exp64(-x))
		du[i] = y * float32(x*s)
		dg[i] = y * up * float32(s+x*s*(1-s))
	}
}
