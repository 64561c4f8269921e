package data

import "fmt"

// assembleLayouts lays out one row of GLM's objective for each window of a text, and one for each instruction. The draw
// depends on (Seed, epoch, row) alone.
func (l *Loader) assembleLayouts(rows [][]Piece, epoch int, firstRow int64) (*Batch, error) {
	layouts := make([]Layout, len(rows))
	width, p := 0, 2
	for i, row := range rows {
		var err error
		if layouts[i], err = l.layout(row[0], epoch, firstRow+int64(i)); err != nil {
			return nil, err
		}
		width = max(width, len(layouts[i].IDs))
	}
	b, t := l.rowCount(len(rows)), l.width(width)
	x := newBatch(b, t, p, l.opt.PadID)
	x.Rows, x.Labels, x.Prefix = len(rows), nil, make([]int32, b)
	for i, y := range layouts {
		x.lay(i, y)
		x.Samples[i] = []int64{int64(rows[i][0].Sample)}
	}
	return x, nil
}

// lay puts a layout into a row.
func (x *Batch) lay(row int, y Layout) {
	n := min(len(y.IDs), x.T)
	from, to := row*x.T, row*x.T+n
	copy(x.IDs[from:to], y.IDs)
	copy(x.Targets[from:to], y.Targets)
	for k := range y.Positions {
		copy(x.Positions[k*x.B*x.T+from:k*x.B*x.T+to], y.Positions[k])
	}
	for k := from; k < to; k++ {
		x.Segments[k] = 0
		if x.Targets[k] != Ignore {
			x.Scored++
		}
	}
	x.Prefix[row] = int32(min(y.Prefix, n))
	x.Tokens += n
}

// layout draws the row of a window of a text. Of a sample that says itself what is scored the labels count.
func (l *Loader) layout(p Piece, epoch int, row int64) (Layout, error) {
	q, err := l.set.Store.Piece(int64(p.Sample), p.Start, p.Tokens)
	if err != nil {
		return Layout{}, err
	}
	if q.Labels == nil {
		return l.opt.Infill.Draw(q.IDs, newRand(l.opt.Seed, streamInfill^uint64(epoch)<<8, uint64(row)))
	}
	if l.opt.Number == nil {
		return Layout{}, fmt.Errorf("data: infilling: sample %d is an instruction; want a numbering of its tokens", p.Sample)
	}
	y := Layout{IDs: q.IDs, Labels: q.Labels, Targets: shift(q.Labels)}
	y.Positions, y.Prefix = l.opt.Number(q.IDs)
	return y, nil
}
