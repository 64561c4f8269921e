package kernel

import (
	"danlu/dtype"
	"danlu/internal/parallel"
)

// PackedMul computes Y [M, Out] = X [M, In] · Wᵀ (+ bias) for packed weights. With Levels the rows of X are rounded to 8
// bits in blocks of 32, and block types are multiplied as integers; otherwise factors are float32. Each element of Y is
// summed over the inner index in order, whatever the number of rows, so a row's bytes depend on that row only.
type PackedMul struct {
	Type    dtype.DType
	In, Out int
	M       int
	Levels  bool
	Round   bool      // factors are rounded to bfloat16 where they are not levels
	Bias    []float32 // [Out]; nil: none

	x, y       Matrix
	w          []byte
	l          *layout
	act        []float32 // quantized rows, or rows as float32
	own        []float32 // of each worker
	ownSize    int
	from, to   int // the rows in work
	perTask    int
	quantizing quantizeTask
	panels     panelTask
}

// packedRows is the number of rows that are multiplied at a time: they stay in the second-level cache.
const packedRows = 144

// taskBytes is about the memory that one task reads when there is one row.
const taskBytes = 48 << 10

// ScratchPacked is the scratch, in float32 values, of products of at most m rows with weights [*, in].
func ScratchPacked(m, in, workers int) int {
	return min(m, packedRows)*max(actStride(in)/4, in) + workers*scratchPanel(in)
}

func scratchPanel(in int) int { return ScratchUnpack(in) + (packedRows+1)*panelRows }

// Run multiplies with the pool's workers; x and y are row-major. It allocates nothing.
func (g *PackedMul) Run(pool *parallel.Pool, x Matrix, w []byte, y Matrix, scratch []float32) {
	g.run(pool, x, w, y, scratch)
}

// RunAlone multiplies on the calling goroutine; scratch is as for one worker.
func (g *PackedMul) RunAlone(x Matrix, w []byte, y Matrix, scratch []float32) {
	g.run(alone{}, x, w, y, scratch)
}

func (g *PackedMul) run(r runner, x Matrix, w []byte, y Matrix, scratch []float32) {
	g.x, g.y, g.w = x, y, w
	if g.l = &layouts[g.Type]; g.l.blocks == 0 {
		g.Levels = false
	}
	size := min(g.M, packedRows) * max(actStride(g.In)/4, g.In)
	g.act, g.own, g.ownSize = scratch[:size], scratch[size:], scratchPanel(g.In)
	g.quantizing.g, g.panels.g = g, g
	panels := Panels(g.Out)
	for g.from = 0; g.from < g.M; g.from = g.to {
		g.to = min(g.from+packedRows, g.M)
		rows := g.to - g.from
		switch {
		case !g.prepared():
		case rows < 4:
			for i := range rows {
				g.quantizing.Do(0, i)
			}
		default:
			r.Run(rows, &g.quantizing)
		}
		g.perTask = ceilTo(max(1, taskBytes/(rows*max(1, panelBytes(g.Type, g.In)))), min(fourPanels, panels))
		r.Run((panels+g.perTask-1)/g.perTask, &g.panels)
	}
}

// prepared reports whether the rows of X are converted before they are multiplied.
func (g *PackedMul) prepared() bool { return g.Levels || g.Round || g.x.BF16 != nil }

// quantizeTask prepares one row of X.
type quantizeTask struct{ g *PackedMul }

// Do implements parallel.Task.
func (t *quantizeTask) Do(_, i int) {
	g := t.g
	var buf block
	at := (g.from + i) * g.x.Row
	stride := actStride(g.In)
	for k := 0; k < g.In; k = next(k, g.In) {
		n := next(k, g.In) - k
		var row []float32
		if g.x.BF16 != nil {
			row = buf[:n]
			bf16ToF32(row, g.x.BF16[at+k:at+k+n])
		} else {
			row = g.x.F32[at+k : at+k+n]
		}
		if g.Levels {
			quantizeRow(bytesOf32(g.act)[i*stride+k/blockVals*actBlock:], row, g.l.zero)
		} else {
			to := g.act[i*g.In+k:][:n]
			copy(to, row)
			if g.Round && g.x.BF16 == nil {
				roundRow(to)
			}
		}
	}
}

// panelTask multiplies the rows in work with some panels.
type panelTask struct{ g *PackedMul }

// fourPanels is the number of panels that wideFour takes, fewRows the most rows for which that is faster than one panel
// with many rows.
const (
	fourPanels = 4
	fewRows    = 7
)

// noBias is the bias of products without one.
var noBias [fourPanels * panelRows]float32

// Do implements parallel.Task.
func (t *panelTask) Do(worker, i int) {
	g := t.g
	own := g.own[worker*g.ownSize : (worker+1)*g.ownSize]
	for p := i * g.perTask; p < min((i+1)*g.perTask, Panels(g.Out)); p++ {
		n0 := p * panelRows
		if p+fourPanels <= min((i+1)*g.perTask, g.Out/panelRows) && g.four(p) {
			p += fourPanels - 1
			continue
		}
		width := min(panelRows, g.Out-n0)
		bias := noBias[:panelRows]
		if g.Bias != nil {
			if width == panelRows {
				bias = g.Bias[n0 : n0+panelRows]
			} else {
				bias = own[packedRows*panelRows:][:panelRows]
				copy(bias, g.Bias[n0:])
				clear(bias[width:])
			}
		}
		c, cRow := own[:packedRows*panelRows], panelRows
		direct := width == panelRows && g.y.F32 != nil && g.y.Col == 1
		if direct {
			c, cRow = g.y.F32[g.from*g.y.Row+n0:], g.y.Row
		}
		g.panel(c, cRow, p, bias, own[(packedRows+1)*panelRows:])
		if !direct {
			for r := range g.to - g.from {
				putRow(g.y, g.from+r, n0, c[r*cRow:r*cRow+width])
			}
		}
	}
}

// four computes the columns of full panels p to p+fourPanels-1 for a few rows of 16-bit weights, if it can.
func (g *PackedMul) four(p int) bool {
	if g.Levels || g.l.blocks > 0 || g.Round && g.Type != dtype.BF16 || g.y.F32 == nil || g.y.Col != 1 {
		return false
	}
	a, aRow, n0, size := g.act, g.In, p*panelRows, panelBytes(g.Type, g.In)
	if !g.prepared() {
		a, aRow = g.x.F32[g.from*g.x.Row:], g.x.Row
	}
	bias := noBias[:]
	if g.Bias != nil {
		bias = g.Bias[n0:]
	}
	return wideFour(g.Type, g.y.F32[g.from*g.y.Row+n0:], g.y.Row, a, aRow, g.w[p*size:(p+fourPanels)*size], size, g.to-g.from, g.In, bias)
}

// panel computes the columns of one panel.
func (g *PackedMul) panel(c []float32, cRow, p int, bias, scratch []float32) {
	rows, size := g.to-g.from, panelBytes(g.Type, g.In)
	w := g.w[p*size : (p+1)*size]
	if !g.Levels {
		a, aRow := g.act, g.In
		if !g.prepared() {
			a, aRow = g.x.F32[g.from*g.x.Row:], g.x.Row
		}
		if g.Round && g.Type != dtype.BF16 {
			panel := widePanel(g.Type, w, g.In, scratch)
			roundRow(panel)
			wideRows(dtype.F32, c, cRow, a, aRow, bytesOf32(panel), rows, g.In, bias, nil)
			return
		}
		wideRows(g.Type, c, cRow, a, aRow, w, rows, g.In, bias, scratch)
		return
	}
	act, stride := bytesOf32(g.act), actStride(g.In)
	records := g.In / (g.l.blocks * blockVals)
	if rows == 1 && gemv(g.Type, c, w, act, records, bias) {
		return
	}
	plain := bytesOf32(scratch)
	unpackPanel(g.Type, g.l, plain, w, records)
	dotRows(g.l, c, cRow, act, stride, plain, rows, g.In/blockVals, bias)
}

// wideRowsPortable multiplies float32 rows with a panel of float32 values, 16 for each inner index, and adds to c when
// bias is nil.
func wideRowsPortable(c []float32, cRow int, a []float32, aRow int, panel []float32, rows, depth int, bias []float32) {
	for r := range rows {
		var acc [panelRows]float32
		if copy(acc[:], bias); bias == nil {
			copy(acc[:], c[r*cRow:])
		}
		for k, x := range a[r*aRow : r*aRow+depth] {
			for j, y := range panel[k*panelRows : (k+1)*panelRows] {
				acc[j] += x * y
			}
		}
		copy(c[r*cRow:], acc[:])
	}
}

// roundRow rounds to bfloat16 values.
func roundRow(x []float32) {
	for i, v := range x {
		x[i] = roundToBF16(v)
	}
}
