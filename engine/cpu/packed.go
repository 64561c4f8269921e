package cpu

import (
	"fmt"
	"slices"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
	"danlu/tensor"
)

// Matrices of weights in 16-bit and block types lie packed in the store, in the order in which their kernel reads them
// (kernel.Pack). Products, look-ups and casts read them so; before any other operation they are unpacked.

// packs reports whether the parts of a state are packed.
func packs(spec *graph.StateSpec) bool {
	d := spec.Type.DType
	if spec.Plain && !d.IsQuantized() {
		return false
	}
	return (spec.Role == graph.Param || spec.Role == graph.Buffer) && (kernel.CanPack(d) || kernel.IsCoded(d)) && spec.Type.Rank() == len(spec.Stack)+2
}

// matrixBytes is the size of one packed or coded matrix.
func matrixBytes(d dtype.DType, out, in int) int {
	if kernel.IsCoded(d) {
		return kernel.CodedBytes(d, out*in)
	}
	return kernel.PackedBytes(d, out, in)
}

// unpackRows writes rows from, ..., from+rows-1 of a matrix as float32, of which from is a multiple of
// kernel.PanelRows and rows at most that.
func unpackRows(d dtype.DType, dst []float32, src []byte, in, from, rows int, scratch []float32) {
	if kernel.IsCoded(d) {
		kernel.Decode(d, dst[:rows*in], src, from*in)
		return
	}
	kernel.UnpackPanel(d, dst, src, in, from/kernel.PanelRows, rows, scratch)
}

func packedBytes(spec *graph.StateSpec) int {
	t := spec.PartType()
	return spec.Parts() * matrixBytes(t.DType, t.Shape[0], t.Shape[1])
}

// packedPart is one packed matrix of the store.
type packedPart struct {
	typ  graph.Type
	data []byte
}

// packed is the part called name if it is packed.
func (s *store) packed(name string) *packedPart {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.parts[name]
	if !ok || !packs(s.byKey[p.key].spec) {
		return nil
	}
	st := s.byKey[p.key]
	n := st.partBytes()
	return &packedPart{st.spec.PartType(), st.data[p.index*n : (p.index+1)*n]}
}

func (m *packedPart) set(name string, t *tensor.Tensor) error {
	if kernel.IsCoded(m.typ.DType) {
		return m.encode(name, t)
	}
	if t.DType != m.typ.DType || !slices.Equal(t.Shape, m.typ.Shape) || len(t.Data) != t.DType.Bytes(t.Len()) {
		return fmt.Errorf("cpu: state %q: want %v, got %v", name, m.typ, t)
	}
	out, in := t.Shape[0], t.Shape[1]
	if err := kernel.CheckPack(t.DType, in); err != nil {
		return fmt.Errorf("cpu: state %q: %w", name, err)
	}
	kernel.Pack(t.DType, m.data, t.Data, out, in, 0, kernel.Panels(out))
	return nil
}

// encode codes a tensor of plain numbers.
func (m *packedPart) encode(name string, t *tensor.Tensor) error {
	if !slices.Equal(t.Shape, m.typ.Shape) || len(t.Data) != t.DType.Bytes(t.Len()) || !castable(t.DType) || !t.DType.IsFloat() {
		return fmt.Errorf("cpu: state %q: want real numbers %v, got %v", name, m.typ.Shape, t)
	}
	wide := make([]float32, t.Len())
	castRow(dtype.F32, unsafe.Pointer(unsafe.SliceData(wide)), t.DType, unsafe.Pointer(unsafe.SliceData(t.Data)), len(wide))
	return kernel.Encode(m.typ.DType, m.data, wide)
}

func (m *packedPart) get(name string) (*tensor.Tensor, error) {
	if kernel.IsCoded(m.typ.DType) {
		t := tensor.New(dtype.F32, m.typ.Shape...)
		kernel.Decode(m.typ.DType, t.F32(), m.data, 0)
		return t, nil
	}
	if m.typ.DType.IsQuantized() {
		return nil, fmt.Errorf("cpu: state %q: blocks of %v are packed for computing; read them from the checkpoint", name, m.typ.DType)
	}
	t := tensor.New(m.typ.DType, m.typ.Shape...)
	out, in := t.Shape[0], t.Shape[1]
	wide, scratch := make([]float32, in), make([]float32, kernel.ScratchUnpack(in))
	for r := range out {
		kernel.UnpackRow(t.DType, wide, m.data, in, r, scratch)
		castRow(t.DType, unsafe.Pointer(unsafe.SliceData(t.Data[t.DType.Bytes(r*in):])), dtype.F32, unsafe.Pointer(&wide[0]), in)
	}
	return t, nil
}

// unpacked is the plain form of a packed matrix or a stack of them.
type unpacked struct{}

// Name implements graph.Op.
func (unpacked) Name() string { return "unpack" }

// Infer implements graph.Op.
func (unpacked) Infer(in []graph.Type) ([]graph.Type, error) { return in, nil }

// unpack puts the plain form in the place of packed operands of operations that read no packed matrices.
func (l *lowering) unpack(op graph.Op, in []*value) error {
	reads := -1
	switch op.(type) {
	case graph.Repeat, graph.Same, graph.StopGradient:
		return nil
	case graph.Linear, graph.LinearGradX, graph.GroupedLinear, graph.GroupedLinearGradX:
		reads = 1
	case graph.Embedding, graph.Cast, unpacked:
		reads = 0
	}
	for i, v := range in {
		if v == nil || !v.packed || i == reads {
			continue
		}
		if v.typ.DType.IsQuantized() {
			if _, ok := op.(graph.Decomposer); ok {
				continue // its decomposition casts it
			}
			return fmt.Errorf("operand %d: %v is not read as blocks; cast it to float32", i, v.typ)
		}
		in[i] = l.emit(unpacked{}, []*value{v}, []graph.Type{graph.Of(v.typ.DType, v.typ.Shape...)}).out[0]
	}
	return nil
}

// nativePacked reports whether a fused operation has a kernel for its packed operand.
func nativePacked(op graph.Op, in []*value) bool {
	plain := func(d dtype.DType) bool { return d == dtype.Invalid || elem(d) }
	switch op := op.(type) {
	case graph.Linear:
		return in[1].packed && elem(in[0].typ.DType) && plain(op.Out) && (len(in) < 3 || in[2] == nil || in[2].typ.DType == dtype.F32)
	case graph.LinearGradX:
		return in[1].packed && elem(in[0].typ.DType) && plain(op.Out)
	case graph.GroupedLinear:
		return in[1].packed && elem(in[0].typ.DType) && plain(op.Out)
	case graph.GroupedLinearGradX:
		return in[1].packed && elem(in[0].typ.DType) && plain(op.Out)
	case graph.Embedding:
		return in[0].packed && elem(op.Out)
	}
	return false
}

// packedProduct multiplies rows with packed matrices.
type packedProduct struct {
	kernel.PackedMul
	scratch func() []float32
	b       *binder
}

func (b *binder) packedProduct(n *node, w *value, rows int, compute dtype.DType) *packedProduct {
	r := w.typ.Rank()
	out, in := w.typ.Shape[r-2], w.typ.Shape[r-1]
	p := &packedProduct{b: b, scratch: b.floats(n, kernel.ScratchPacked(rows, in, b.engine.pool.Workers()))}
	p.Type, p.In, p.Out, p.M = w.typ.DType, in, out, rows
	p.Levels, p.Round = compute == dtype.Q8_0, compute == dtype.BF16
	return p
}

// bytes of the matrix.
func (p *packedProduct) bytes() int { return kernel.PackedBytes(p.Type, p.Out, p.In) }

func (p *packedProduct) run(x kernel.Matrix, w []byte, y kernel.Matrix) {
	if p.M > 0 && p.Out > 0 {
		p.Run(p.b.engine.pool, x, w, y, p.scratch())
	}
}

func (b *binder) packedLinear(n *node, op graph.Linear) error {
	x, w, y := n.in[0], n.in[1], n.out[0]
	var bias *value
	if len(n.in) > 2 {
		bias = n.in[2]
	}
	if rows := leading(x.typ); unpacks(x.typ, w, rows, op.Compute) {
		g := b.unpackedProduct(n, w, rows, op.Compute)
		bytes := matrixBytes(w.typ.DType, g.out, g.in)
		b.do(n, func() {
			if bias != nil {
				g.bias = of[float32](bias)
			}
			g.run(matrix(x, 0, g.in, 1), view[byte](w.ptr(), bytes), matrix(y, 0, g.out, 1), rows)
		})
		return nil
	}
	p := b.packedProduct(n, w, leading(x.typ), op.Compute)
	b.do(n, func() {
		if bias != nil {
			p.Bias = of[float32](bias)
		}
		p.run(matrix(x, 0, p.In, 1), view[byte](w.ptr(), p.bytes()), matrix(y, 0, p.Out, 1))
	})
	return nil
}

// packedGroups is x·Wᵀ, or dy·W, for each group of rows with the group's own W.
func (b *binder) packedGroups(n *node, compute dtype.DType, back bool) error {
	x, w, off, y := n.in[0], n.in[1], n.in[2], n.out[0]
	rows, k, cols := x.typ.Shape[0], x.typ.Shape[1], y.typ.Shape[1]
	one := matrixBytes(w.typ.DType, w.typ.Shape[1], w.typ.Shape[2])
	var run func(e, from, m int)
	if back {
		g := b.gradX(n, w, rows, y.typ.DType, compute)
		run = func(e, from, m int) {
			g.run(matrix(x, from*k, k, 1), view[byte](unsafe.Add(w.ptr(), e*one), one), matrix(y, from*cols, cols, 1), m)
		}
	} else if unpacks(x.typ, w, rows, compute) {
		g := b.unpackedProduct(n, w, rows, compute)
		run = func(e, from, m int) {
			g.run(matrix(x, from*k, k, 1), view[byte](unsafe.Add(w.ptr(), e*one), one), matrix(y, from*cols, cols, 1), m)
		}
	} else {
		p := b.packedProduct(n, w, rows, compute)
		run = func(e, from, m int) {
			p.M = m
			p.run(matrix(x, from*k, k, 1), view[byte](unsafe.Add(w.ptr(), e*one), one), matrix(y, from*cols, cols, 1))
		}
	}
	size := bytesIn(y.typ)
	b.try(n, func() error {
		o := of[int32](off)
		if int(o[len(o)-1]) < rows {
			clear(view[byte](y.ptr(), size)) // rows of no group
		}
		return groups(o, rows, func(e, from, to int) { run(e, from, to-from) })
	})
	return nil
}

func (b *binder) packedGradX(n *node, compute dtype.DType) error {
	dy, w, dx := n.in[0], n.in[1], n.out[0]
	g := b.gradX(n, w, leading(dy.typ), dx.typ.DType, compute)
	bytes := matrixBytes(w.typ.DType, g.out, g.in)
	b.do(n, func() {
		g.run(matrix(dy, 0, g.out, 1), view[byte](w.ptr(), bytes), matrix(dx, 0, g.in, 1), leading(dy.typ))
	})
	return nil
}

// gradRows is the number of rows of W that are unpacked at a time.
const gradRows = 512

// packedGrad is dy·W, summed over parts of W that are unpacked one after another.
type packedGrad struct {
	*product
	out, in int
	wide    func() []float32
	sum     func() []float32 // nil: the result is float32
	unpack  func()
	cast    func()
	w       []byte
	dx      kernel.Matrix
	from    int
	rows    int
}

func (b *binder) gradX(n *node, w *value, rows int, result, compute dtype.DType) *packedGrad {
	r := w.typ.Rank()
	g := &packedGrad{out: w.typ.Shape[r-2], in: w.typ.Shape[r-1]}
	d, workers := w.typ.DType, b.engine.pool.Workers()
	if compute == dtype.Q8_0 {
		compute = dtype.F32
	}
	part := min(gradRows, g.out)
	g.product = b.product(n, rows, g.in, part, compute)
	g.wide = b.floats(n, part*g.in)
	size := kernel.ScratchUnpack(g.in)
	own := b.floats(n, workers*size)
	g.unpack = b.parallel((part+kernel.PanelRows-1)/kernel.PanelRows, func(worker, i int) {
		if at := i * kernel.PanelRows; at < g.K {
			unpackRows(d, g.wide()[at*g.in:], g.w, g.in, g.from+at, min(kernel.PanelRows, g.K-at), own()[worker*size:(worker+1)*size])
		}
	})
	if result != dtype.F32 {
		g.sum = b.floats(n, rows*g.in)
		per := max(1, taskElements/max(g.in, 1))
		g.cast = b.parallel((rows+per-1)/per, func(_, i int) {
			from, to := i*per*g.in, min((i+1)*per, g.rows)*g.in
			if from < to {
				kernel.F32ToBF16(g.dx.BF16[from:to], g.sum()[from:to])
			}
		})
	}
	return g
}

func (g *packedGrad) run(dy kernel.Matrix, w []byte, dx kernel.Matrix, rows int) {
	g.w, g.dx, g.rows, g.M = w, dx, rows, rows
	sum := dx
	if g.sum != nil {
		sum = kernel.Matrix{F32: g.sum(), Row: g.in, Col: 1}
	}
	for g.from = 0; g.from < g.out; g.from += gradRows {
		g.K, g.Accumulate = min(gradRows, g.out-g.from), g.from > 0
		g.unpack()
		part := dy
		if part.BF16 != nil {
			part.BF16 = part.BF16[g.from:]
		} else {
			part.F32 = part.F32[g.from:]
		}
		g.product.run(part, kernel.Matrix{F32: g.wide(), Row: g.in, Col: 1}, sum)
	}
	if g.sum != nil {
		g.cast()
	}
}

// packedEmbedding unpacks the rows that are looked up.
func (b *binder) packedEmbedding(n *node) error {
	table, ids, y := n.in[0], n.in[1], n.out[0]
	rows, in, total := table.typ.Shape[0], table.typ.Shape[1], ids.typ.Len()
	size := kernel.ScratchUnpack(in) + in
	own := b.floats(n, size*b.engine.pool.Workers())
	bytes := matrixBytes(table.typ.DType, rows, in)
	errs := make([]error, total)
	run := b.parallel(total, func(worker, i int) {
		errs[i] = nil
		id := of[int32](ids)[i]
		if id < 0 || int(id) >= rows {
			errs[i] = indexFault(id, rows)
			return
		}
		scratch := own()[worker*size : (worker+1)*size]
		if w := view[byte](table.ptr(), bytes); kernel.IsCoded(table.typ.DType) {
			kernel.Decode(table.typ.DType, scratch[:in], w, int(id)*in)
		} else {
			kernel.UnpackRow(table.typ.DType, scratch[:in], w, in, int(id), scratch[in:])
		}
		put(y, i*in, scratch[:in])
	})
	b.try(n, func() error {
		run()
		return firstError(errs)
	})
	return nil
}

// unpacked writes the plain form of packed matrices.
func (b *binder) unpacked(n *node) error {
	x, y := n.in[0], n.out[0]
	r := x.typ.Rank()
	out, in := x.typ.Shape[r-2], x.typ.Shape[r-1]
	d, to := x.typ.DType, y.typ.DType
	if !castable(to) {
		return fmt.Errorf("from %v to %v is not supported", d, to)
	}
	one, panels := matrixBytes(d, out, in), kernel.Panels(out)
	size := kernel.ScratchUnpack(in) + kernel.PanelRows*in
	own := b.floats(n, size*b.engine.pool.Workers())
	matrices := tensor.Len(x.typ.Shape[:r-2])
	b.do(n, b.parallel(matrices*panels, func(worker, i int) {
		m, p := i/panels, i%panels
		scratch := own()[worker*size : (worker+1)*size]
		wide := scratch[:kernel.PanelRows*in]
		rows := min(kernel.PanelRows, out-p*kernel.PanelRows)
		unpackRows(d, wide, view[byte](unsafe.Add(x.ptr(), m*one), one), in, p*kernel.PanelRows, rows, scratch[len(wide):])
		at := (m*out + p*kernel.PanelRows) * in
		castRow(to, unsafe.Add(y.ptr(), to.Bytes(at)), dtype.F32, unsafe.Pointer(&wide[0]), rows*in)
	}))
	return nil
}

func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
