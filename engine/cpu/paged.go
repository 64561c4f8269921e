package cpu

import (
	"fmt"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// floatRow reads n activations from element at on as float32: the memory itself, or converted into buf.
func floatRow(v *value, at, n int, buf []float32) []float32 {
	if v.typ.DType == dtype.BF16 {
		kernel.BF16ToF32(buf[:n], of[uint16](v)[at:at+n])
		return buf[:n]
	}
	return of[float32](v)[at : at+n]
}

// pagedWrite stores new tokens' keys and values.
func (b *binder) pagedWrite(n *node, a kernel.PagedAttention, total int) {
	cache, k, v, slots := n.in[0], n.in[1], n.in[2], n.in[3]
	kd, vd := a.KVHeads*a.KeyDim, a.KVHeads*a.ValueDim
	tokens := k.typ.Shape[0]
	own := b.floats(n, (kd+vd)*b.engine.pool.Workers())
	bytes := total / a.PageLen * a.PageBytes()
	errs := make([]error, tokens)
	run := b.parallel(tokens, func(worker, i int) {
		errs[i] = nil
		slot := int(of[int32](slots)[i])
		if slot < 0 {
			return
		}
		if slot >= total {
			errs[i] = indexFault(int32(slot), total)
			return
		}
		buf := own()[worker*(kd+vd) : (worker+1)*(kd+vd)]
		a.Write(view[byte](cache.ptr(), bytes), slot, floatRow(k, i*kd, kd, buf), floatRow(v, i*vd, vd, buf[kd:]))
	})
	b.try(n, func() error {
		run()
		return firstError(errs)
	})
}

// pagedRows is about the number of queries, of one KV head's group, that are worked on at a time.
const pagedRows = 24

// pagedTile is a run of tokens of one sequence.
type pagedTile struct{ from, to int }

// pagedAttention has a task for each KV head of each tile of tokens.
func (b *binder) pagedAttention(n *node, op graph.CachedAttention, a kernel.PagedAttention) {
	q, cache, pages, seqs, at, prefix, slopes := n.in[0], n.in[1], n.in[2], n.in[3], n.in[4], n.in[5], n.in[6]
	y, spec := n.out[0], op.Spec
	tokens, heads := q.typ.Shape[0], q.typ.Shape[2]
	group := heads / spec.KVHeads
	perTile := max(1, pagedRows/group)
	rows := perTile * group
	perSeq, limit := pages.typ.Shape[1], pages.typ.Shape[1]*spec.PageLen
	kd, vd := spec.KeyDim, spec.ValueDim
	size := rows*(kd+vd) + a.ScratchPaged(rows, limit)
	own := b.floats(n, size*b.engine.pool.Workers())
	queries := make([]kernel.PagedRow, rows*b.engine.pool.Workers())
	tiles := make([]pagedTile, 0, tokens)
	bytes := spec.Pages * a.PageBytes()

	// visible is the range of tokens that a token sees.
	visible := func(t int) (first, last int) {
		here := int(of[int32](at)[t])
		last = here
		if prefix != nil {
			last = max(last, int(of[int32](prefix)[of[int32](seqs)[t]])-1)
		}
		if op.Window > 0 {
			first = max(0, here-op.Window+1)
		}
		return first, last
	}
	table := func(seq int32) []int32 { return of[int32](pages)[int(seq)*perSeq : (int(seq)+1)*perSeq] }
	check := func(t int) error {
		seq := of[int32](seqs)[t]
		if int(seq) >= pages.typ.Shape[0] {
			return indexFault(seq, pages.typ.Shape[0])
		}
		first, last := visible(t)
		if last >= limit || last < 0 {
			return indexFault(int32(last), limit)
		}
		for p := first / spec.PageLen; p <= last/spec.PageLen; p++ {
			if page := table(seq)[p]; page < 0 || int(page) >= spec.Pages {
				return indexFault(page, spec.Pages)
			}
		}
		return nil
	}
	task := &loop{body: func(worker, i int) {
		tile, head := tiles[i/spec.KVHeads], i%spec.KVHeads
		scratch := own()[worker*size : (worker+1)*size]
		query, out := scratch[:rows*kd], scratch[rows*kd:rows*(kd+vd)]
		list := queries[worker*rows : (worker+1)*rows][:0]
		for t := tile.from; t < tile.to; t++ {
			first, last := visible(t)
			for h := head * group; h < (head+1)*group; h++ {
				r := kernel.PagedRow{First: first, Last: last, At: int(of[int32](at)[t])}
				if slopes != nil {
					r.Slope = of[float32](slopes)[h]
				}
				to := query[len(list)*kd : (len(list)+1)*kd]
				kernel.BinaryScalar(kernel.OpMul, to, floatRow(q, (t*heads+h)*kd, kd, to), float32(op.Scale), false)
				list = append(list, r)
			}
		}
		a.Attend(view[byte](cache.ptr(), bytes), table(of[int32](seqs)[tile.from]), head, query, list, out, scratch[rows*(kd+vd):])
		for r := range list {
			put(y, ((tile.from+r/group)*heads+head*group+r%group)*vd, out[r*vd:(r+1)*vd])
		}
	}}
	pool := b.engine.pool
	b.try(n, func() error {
		tiles = tiles[:0]
		ids := of[int32](seqs)
		for t := 0; t < tokens; t++ {
			if ids[t] < 0 {
				clear(view[byte](unsafe.Add(y.ptr(), y.typ.DType.Bytes(t*heads*vd)), y.typ.DType.Bytes(heads*vd)))
				continue
			}
			if err := check(t); err != nil {
				return fmt.Errorf("token %d: %w", t, err)
			}
			if last := len(tiles) - 1; last >= 0 && tiles[last].to == t && t-tiles[last].from < perTile && ids[tiles[last].from] == ids[t] {
				tiles[last].to++
			} else {
				tiles = append(tiles, pagedTile{t, t + 1})
			}
		}
		pool.Run(len(tiles)*spec.KVHeads, task)
		return nil
	})
}
