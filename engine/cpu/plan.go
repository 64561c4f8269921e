package cpu

import (
	"slices"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
)

// storage is memory that holds one value, or several of which each is written over a dead one.
type storage struct {
	p     unsafe.Pointer
	bytes int
	// planned storage lies in the arena from place first to place last of the order of execution; other storage (states,
	// inputs, constants, parts of a stacked value) has its address from elsewhere.
	planned     bool
	scratch     bool
	first, last int
	offset      int
	// cache is the layout of each cache of an opaque state.
	cache *graph.CacheSpec
	// writable says that a dying value in it may be overwritten in place.
	writable bool
}

// window is storage that moves from iteration to iteration of a Repeat.
type window struct {
	storage
	base   *storage
	off    int
	stride int
}

const align = 64

// planner decides where values live.
type planner struct {
	storages []*storage
}

func (p *planner) place(bytes, first, last int) *storage {
	s := &storage{bytes: bytes, planned: true, first: first, last: last, writable: true}
	p.storages = append(p.storages, s)
	return s
}

// bytes is a value's size; opaque state is never placed.
func bytesIn(t graph.Type) int { return t.Bytes() }

// attach puts v into s at an offset.
func attach(v *value, s *storage, off int) {
	v.st, v.off = s, off
	s.last = max(s.last, v.last)
}

// put gives each result of n a place: where it has to be, over a dying operand, or anew.
func (p *planner) put(n *node) {
	taken := map[*storage]bool{}
	for i, out := range n.out {
		if out.typ.DType == dtype.Opaque {
			attach(out, n.in[0].st, n.in[0].off) // a cache is written in place
			continue
		}
		if out.dest != nil {
			attach(out, out.dest, 0)
			continue
		}
		if s := p.over(n, i, taken); s != nil {
			taken[s] = true
			attach(out, s, 0)
			continue
		}
		attach(out, p.place(bytesIn(out.typ), n.pos, n.pos), 0)
	}
}

// over is the storage of an operand that dies at n and over which result i may be written, or nil.
func (p *planner) over(n *node, i int, taken map[*storage]bool) *storage {
	for _, j := range inPlace(n, i) {
		v := n.in[j]
		if v == nil || v.st == nil || !overwritable(v, n.pos) || taken[v.st] || v.st.bytes != bytesIn(n.out[i].typ) {
			continue
		}
		// Another operand in the same storage would be read after it was overwritten, unless element by element alike.
		clash := slices.ContainsFunc(n.in, func(u *value) bool {
			return u != nil && u != v && u.st == v.st
		})
		if !clash && count(n.in, v) == 1 {
			return v.st
		}
	}
	return nil
}

func count(in []*value, v *value) int {
	k := 0
	for _, u := range in {
		if u == v {
			k++
		}
	}
	return k
}

func overwritable(v *value, pos int) bool {
	return v.st.writable && v.st.last <= pos && v.off == 0
}

// inPlace lists the operands over which result i of n can be written.
func inPlace(n *node, i int) []int {
	same := func(j int) bool { return n.in[j] != nil && n.in[j].typ.Equal(n.out[i].typ) }
	var list []int
	add := func(js ...int) {
		for _, j := range js {
			if j < len(n.in) && same(j) {
				list = append(list, j)
			}
		}
	}
	switch op := n.op.(type) {
	case graph.Unary, graph.Softmax, graph.Activation, graph.RMSNorm, graph.LayerNorm:
		add(0)
	case graph.Binary:
		add(0, 1)
	case graph.Select:
		add(1, 2)
	case graph.ActivationGrad, graph.RMSNormGrad, graph.LayerNormGrad:
		if i == 0 && n.in[0].typ.DType == n.in[1].typ.DType {
			add(0, 1)
		}
	case graph.GLU:
		if len(n.in) == 2 {
			add(0, 1)
		}
	case graph.GLUGrad:
		if len(n.in) == 3 {
			add(1+i, 0)
		}
	case graph.Aliaser:
		if a := op.Aliases(); i < len(a) && a[i] >= 0 {
			add(a[i])
		}
	}
	return list
}

// isView reports whether n's result is a part of its operand's memory, and from which byte on.
func isView(n *node) (off int, ok bool) {
	switch op := n.op.(type) {
	case graph.Reshape:
		return 0, true
	case graph.Cast:
		return 0, op.To == n.in[0].typ.DType
	case graph.Broadcast:
		return 0, n.in[0].typ.Len() == n.out[0].typ.Len()
	case graph.Slice:
		t := n.in[0].typ
		outer, inner := 1, 1
		for i, d := range t.Shape {
			if i < op.Axis {
				outer *= d
			} else if i > op.Axis {
				inner *= d
			}
		}
		return t.DType.Bytes(op.Start * inner), outer == 1
	}
	return 0, false
}

// layout gives planned storages their offsets, largest first, each in the smallest gap that fits among those whose
// lives overlap its own, and returns the size of the arena.
func layout(storages []*storage) int {
	order := slices.Clone(storages)
	slices.SortStableFunc(order, func(a, b *storage) int {
		if a.bytes != b.bytes {
			return b.bytes - a.bytes
		}
		return a.first - b.first
	})
	var placed []*storage // by offset
	total := 0
	for _, s := range order {
		size := roundUp(s.bytes)
		at, best, bestGap := 0, -1, 0
		for _, o := range placed {
			if o.last < s.first || s.last < o.first {
				continue
			}
			if gap := o.offset - at; gap >= size && (best < 0 || gap < bestGap) {
				best, bestGap = at, gap
			}
			at = max(at, o.offset+roundUp(o.bytes))
		}
		if best < 0 {
			best = at
		}
		s.offset = best
		total = max(total, best+size)
		i, _ := slices.BinarySearchFunc(placed, s.offset, func(o *storage, off int) int { return o.offset - off })
		placed = slices.Insert(placed, i, s)
	}
	return total
}

func roundUp(n int) int { return (n + align - 1) / align * align }

func (v *value) ptr() unsafe.Pointer { return unsafe.Add(v.st.p, v.off) }

// of views a value's memory.
func of[T any](v *value) []T { return view[T](v.ptr(), v.typ.Len()) }
