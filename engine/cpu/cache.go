package cpu

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// A cache's memory is laid out for kernel.PagedAttention where its sizes fit that; otherwise it is its slots' keys,
// [slot][KV head][KeyDim], and then its slots' values, [slot][KV head][ValueDim].

func paged(spec *graph.CacheSpec) kernel.PagedAttention {
	return kernel.PagedAttention{Store: spec.Store, PageLen: spec.PageLen, KVHeads: spec.KVHeads, KeyDim: spec.KeyDim, ValueDim: spec.ValueDim}
}

// specs finds the cache of an opaque value.
func cacheSpec(v *value) *graph.CacheSpec { return v.st.cache }

func (b *binder) cacheWrite(n *node) error {
	cache, k, v, slots := n.in[0], n.in[1], n.in[2], n.in[3]
	spec := cacheSpec(cache)
	if spec == nil {
		return fmt.Errorf("a cache of this kind is not supported")
	}
	if s := k.typ.Shape; s[2] != spec.KVHeads || s[3] != spec.KeyDim || v != nil && spec.ValueDim > 0 && v.typ.Shape[3] != spec.ValueDim {
		return fmt.Errorf("want keys of %d heads of %d, got %v", spec.KVHeads, spec.KeyDim, k.typ)
	}
	total := spec.Pages * spec.PageLen
	kd, vd := spec.KVHeads*spec.KeyDim, spec.KVHeads*spec.ValueDim
	if a := paged(spec); a.Fits() && v != nil {
		b.pagedWrite(n, a, total)
		return nil
	}
	if !castable(spec.Store) {
		return fmt.Errorf("a cache of %v needs keys and values of a multiple of %d elements", spec.Store, spec.Store.BlockLen())
	}
	b.try(n, b.checked(k.typ.Shape[0], func(i int) error {
		slot := of[int32](slots)[i]
		if slot < 0 {
			return nil
		}
		if int(slot) >= total {
			return indexFault(slot, total)
		}
		store := func(at, width int, from *value) {
			castRow(spec.Store, unsafe.Add(cache.ptr(), spec.Store.Bytes(at)), from.typ.DType, unsafe.Add(from.ptr(), from.typ.DType.Bytes(i*width)), width)
		}
		store(int(slot)*kd, kd, k)
		if vd > 0 {
			store(total*kd+int(slot)*vd, vd, v)
		}
		return nil
	}))
	return nil
}

// cachedAttention gives each token and head to one worker, which goes over the keys once for the scores and once over
// the values.
func (b *binder) cachedAttention(n *node, op graph.CachedAttention) error {
	q, cache, pages, seqs, at, prefix, slopes := n.in[0], n.in[1], n.in[2], n.in[3], n.in[4], n.in[5], n.in[6]
	y, spec := n.out[0], op.Spec
	if a := paged(spec); a.Fits() && elem(q.typ.DType) {
		a.Softcap = float32(op.Softcap)
		b.pagedAttention(n, op, a)
		return nil
	}
	if !castable(spec.Store) || !elem(q.typ.DType) {
		return fmt.Errorf("a cache of %v is not supported", spec.Store)
	}
	heads, total := q.typ.Shape[2], spec.Pages*spec.PageLen
	perSeq := pages.typ.Shape[1]
	limit := perSeq * spec.PageLen
	vd, vWidth, vBase := spec.ValueDim, spec.ValueDim, total*spec.KVHeads*spec.KeyDim
	if vd == 0 {
		vd, vWidth, vBase = spec.ValueView, spec.KeyDim, 0
	}
	// Of each worker: the query, a key or value, the result, and the scores.
	size := 2*spec.KeyDim + 2*vd + limit
	scratch := b.temp(n, 4*size*b.engine.pool.Workers())
	errs := make([]error, q.typ.Shape[0]*heads)
	run := b.parallel(len(errs), func(worker, task int) {
		errs[task] = nil
		t, head := task/heads, task%heads
		own := view[float32](unsafe.Add(scratch.p, 4*size*worker), size)
		query, row, sum, scores := own[:spec.KeyDim], own[spec.KeyDim:][:spec.KeyDim], own[2*spec.KeyDim:][:vd], own[2*spec.KeyDim+2*vd:]
		value := own[2*spec.KeyDim+vd:][:vd]
		clear(sum)
		seq := of[int32](seqs)[t]
		if seq >= 0 {
			if int(seq) >= pages.typ.Shape[0] {
				errs[task] = indexFault(seq, pages.typ.Shape[0])
				return
			}
			here := int(of[int32](at)[t])
			last := here
			if prefix != nil {
				last = max(last, int(of[int32](prefix)[seq])-1)
			}
			if last >= limit {
				errs[task] = indexFault(int32(last), limit)
				return
			}
			first := 0
			if op.Window > 0 {
				first = max(0, here-op.Window+1)
			}
			castRow(dtype.F32, unsafe.Pointer(&query[0]), q.typ.DType, unsafe.Add(q.ptr(), q.typ.DType.Bytes(task*spec.KeyDim)), spec.KeyDim)
			group := head / (heads / spec.KVHeads)
			table := of[int32](pages)[int(seq)*perSeq:]
			slotOf := func(s int) (int, bool) {
				page := table[s/spec.PageLen]
				return int(page)*spec.PageLen + s%spec.PageLen, page >= 0 && int(page) < spec.Pages
			}
			for s := first; s <= last; s++ {
				slot, ok := slotOf(s)
				if !ok {
					errs[task] = indexFault(table[s/spec.PageLen], spec.Pages)
					return
				}
				castRow(dtype.F32, unsafe.Pointer(&row[0]), spec.Store, unsafe.Add(cache.ptr(), spec.Store.Bytes((slot*spec.KVHeads+group)*spec.KeyDim)), spec.KeyDim)
				x := kernel.Dot(query, row) * float32(op.Scale)
				if c := op.Softcap; c != 0 {
					x = float32(c * math.Tanh(float64(x)/c))
				}
				if slopes != nil {
					x += of[float32](slopes)[head] * float32(s-here)
				}
				scores[s-first] = x
			}
			p := scores[:max(0, last+1-first)]
			kernel.Softmax(p, p, max(1, len(p)))
			for i, w := range p {
				slot, _ := slotOf(first + i)
				castRow(dtype.F32, unsafe.Pointer(&value[0]), spec.Store, unsafe.Add(cache.ptr(), spec.Store.Bytes(vBase+(slot*spec.KVHeads+group)*vWidth)), vd)
				kernel.Axpy(sum, value, w)
			}
		}
		put(y, task*vd, sum)
	})
	b.try(n, func() error {
		run()
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			return errs[i]
		}
		return nil
	})
	return nil
}
