package grammar

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// frame is where a called rule returns to, above the frames of those that called it.
type frame struct {
	frameKey
	depth int
	id    uint32
}

type frameKey struct {
	to int32
	up *frame
}

// place is a state within the rules that have been called.
type place struct {
	state int32
	up    *frame
}

// config is all places that a text can be at, as far as they read bytes next.
type config struct {
	places   []place
	complete bool      // the text may end
	next     []*config // by class of byte; nil: not found yet
	mask     Mask      // nil: not found yet
}

// dead is the configuration of texts that no longer fit.
var dead = &config{}

// step reads a byte of a class.
func (g *Grammar) step(c *config, class uint8) (*config, error) {
	if next := c.next[class]; next != nil {
		return next, nil
	}
	b := g.sample[class]
	var to []place
	for _, p := range c.places {
		for _, e := range g.states[p.state].bytes {
			if e.lo <= b && b <= e.hi {
				to = append(to, place{e.to, p.up})
			}
		}
	}
	next, err := g.closure(to)
	if err == nil {
		c.next[class] = next
	}
	return next, err
}

// closure is the configuration of places and of all that can be come to from them without reading.
func (g *Grammar) closure(queue []place) (*config, error) {
	var c config
	seen := map[place]bool{}
	for len(queue) > 0 {
		p := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if seen[p] {
			continue
		}
		seen[p] = true
		if g.work++; len(seen) > maxPlaces || g.work > maxWork {
			return nil, ErrAmbiguous
		}
		s := &g.states[p.state]
		if len(s.bytes) > 0 {
			c.places = append(c.places, p)
		}
		for _, to := range s.empty {
			queue = append(queue, place{to, p.up})
		}
		switch {
		case !g.ends[p.state]:
		case p.up == nil:
			c.complete = true
		default:
			queue = append(queue, place{p.up.to, p.up.up})
		}
		for _, x := range s.calls {
			if up, ok := g.returnTo(x.to, p.up); ok {
				queue = append(queue, place{g.rules[x.rule].start, up})
			}
		}
	}
	return g.intern(c), nil
}

// returnTo is the frame of a call, and false where rules nest too deep. A call that is the last thing of its rule needs
// no frame of its own.
func (g *Grammar) returnTo(to int32, up *frame) (*frame, bool) {
	if g.final[to] {
		return up, true
	}
	key := frameKey{to, up}
	if f := g.frames[key]; f != nil {
		return f, true
	}
	depth := 1
	if up != nil {
		depth += up.depth
	}
	if depth > maxDepth {
		return nil, false
	}
	g.framed++
	f := &frame{key, depth, g.framed}
	g.frames[key] = f
	return f, true
}

// intern returns the one configuration of these places.
func (g *Grammar) intern(c config) *config {
	if len(c.places) == 0 && !c.complete {
		return dead
	}
	id := func(f *frame) uint32 {
		if f == nil {
			return 0
		}
		return f.id
	}
	slices.SortFunc(c.places, func(a, b place) int { return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(id(a.up), id(b.up))) })
	key := make([]byte, 0, 8*len(c.places)+1)
	for _, p := range c.places {
		key = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(key, uint32(p.state)), id(p.up))
	}
	if c.complete {
		key = append(key, 1)
	}
	if known := g.configs[string(key)]; known != nil {
		return known
	}
	c.next = make([]*config, len(g.sample))
	g.configs[string(key)] = &c
	return &c
}
