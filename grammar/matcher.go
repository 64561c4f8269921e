package grammar

import (
	"errors"
	"fmt"
	"sync"
)

// Matcher follows one text through a grammar. It is not safe for concurrent use; matchers of one grammar may be used at
// the same time.
type Matcher struct {
	g  *Grammar
	at *config
}

// Matcher returns one at the beginning of a text.
func (g *Grammar) Matcher() *Matcher { return &Matcher{g, g.begin} }

// Mask returns the tokens that may come next, not to be changed, and whether the text may end here.
func (m *Matcher) Mask() (mask Mask, complete bool, err error) {
	mask, err = m.g.mask(m.at)
	return mask, m.at.complete, err
}

// Ended reports whether the text is complete and nothing can be added to it.
func (m *Matcher) Ended() bool { return m.at.complete && len(m.at.places) == 0 }

// Complete reports whether the text may end here.
func (m *Matcher) Complete() bool { return m.at.complete }

// Accept goes on by a token.
func (m *Matcher) Accept(id int32) error {
	if id < 0 || int(id) >= len(m.g.vocab.texts) || m.g.vocab.texts[id] == "" {
		return fmt.Errorf("grammar: token %d is no text", id)
	}
	return m.AcceptText(m.g.vocab.texts[id])
}

// AcceptText goes on by a text. On an error the matcher stays where it is.
func (m *Matcher) AcceptText(text string) error {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	at := m.at
	m.g.work = 0
	for i := range len(text) {
		next, err := m.g.step(at, m.g.class[text[i]])
		if err != nil {
			return err
		}
		if next == dead {
			return fmt.Errorf("grammar: %q does not fit at byte %d", text, i)
		}
		at = next
	}
	m.at = at
	return nil
}

// Limits of a walk, which only a highly ambiguous grammar comes to.
const (
	maxPlaces  = 1 << 12 // places that a text can be at
	maxDepth   = 1 << 10 // rules that have not returned: a text that nests deeper cannot be written
	maxWork    = 1 << 20 // places looked at for one mask
	maxConfigs = 1 << 16 // configurations kept
	maxMasks   = 1 << 10 // masks kept
)

// ErrAmbiguous stops a grammar whose texts can be read in too many ways.
var ErrAmbiguous = errors.New("grammar: its texts can be read in too many ways at once")

// Grammar is a form over a vocabulary. It is safe for concurrent use.
type Grammar struct {
	vocab  *Vocabulary
	states []state
	rules  []rule
	ends   []bool     // states where their rule has been read
	final  []bool     // those of them from which nothing else leads
	class  [256]uint8 // bytes that no edge tells apart share one
	sample []byte     // a byte of each class
	begin  *config

	mu      sync.Mutex
	configs map[string]*config
	frames  map[frameKey]*frame
	framed  uint32 // frames made so far
	masks   int    // kept
	work    int    // places looked at for this mask or text
}

// compile makes a grammar of an automaton.
func (a *automaton) compile(v *Vocabulary) (*Grammar, error) {
	if err := a.finish(); err != nil {
		return nil, err
	}
	g := &Grammar{vocab: v, states: a.states, rules: a.rules, ends: make([]bool, len(a.states)), final: make([]bool, len(a.states))}
	for _, r := range a.rules {
		s := &a.states[r.end]
		g.ends[r.end], g.final[r.end] = true, len(s.bytes)+len(s.empty)+len(s.calls) == 0
	}
	g.classify()
	g.forget()
	var err error
	g.begin, err = g.closure([]place{{a.rules[0].start, nil}})
	return g, err
}

// classify finds which bytes the edges tell apart.
func (g *Grammar) classify() {
	var begins [257]bool
	for _, s := range g.states {
		for _, e := range s.bytes {
			begins[e.lo], begins[int(e.hi)+1] = true, true
		}
	}
	for b := range 256 {
		if b == 0 || begins[b] {
			g.sample = append(g.sample, byte(b))
		}
		g.class[b] = uint8(len(g.sample) - 1)
	}
}

// forget drops what was found so far. Matchers go on from the configurations that they hold.
func (g *Grammar) forget() {
	g.configs, g.frames, g.masks = map[string]*config{}, map[frameKey]*frame{}, 0
}

// mask walks the trie along the configurations.
func (g *Grammar) mask(c *config) (Mask, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.mask != nil {
		return c.mask, nil
	}
	if len(g.configs) > maxConfigs || g.masks >= maxMasks {
		g.forget()
	}
	v, out := g.vocab, NewMask(len(g.vocab.texts))
	path := make([]*config, v.deep+1)
	path[0], g.work = c, 0
	for i := int32(0); int(i) < len(v.bytes); {
		d := v.depth[i]
		at, class := path[d-1], g.class[v.bytes[i]]
		next := at.next[class]
		if next == nil {
			var err error
			if next, err = g.step(at, class); err != nil {
				return nil, err
			}
		}
		if next == dead {
			i = v.end[i]
			continue
		}
		path[d] = next
		for k := v.first[i]; k < v.first[i+1]; k++ {
			out.Set(v.ids[k])
		}
		i++
	}
	c.mask = out
	g.masks++
	return out, nil
}
