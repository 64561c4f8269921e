package tokenizer

import (
	"bytes"
	"unicode/utf8"
)

// matcher finds added tokens: at each position the longest, leftmost first. A place in the text costs as many steps as
// the longest token has bytes, however many tokens begin alike.
type matcher struct {
	nodes []matchNode // nodes[0] is the root
	list  []AddedToken
	one   string // all first bytes
	// starts says of each byte whether a token begins with it.
	starts [256]bool
}

// matchNode stands for a beginning of tokens.
type matchNode struct {
	bytes []byte  // that go on
	next  []int32 // nodes that they lead to
	ends  []int32 // tokens that it is the whole of
}

func newMatcher(list []AddedToken) *matcher {
	m := &matcher{list: list, nodes: make([]matchNode, 1)}
	for i, a := range list {
		if b := a.Content[0]; !m.starts[b] {
			m.starts[b] = true
			m.one += string([]byte{b})
		}
		at := int32(0)
		for k := range len(a.Content) {
			to := m.nodes[at].child(a.Content[k])
			if to < 0 {
				to = int32(len(m.nodes))
				m.nodes = append(m.nodes, matchNode{})
				n := &m.nodes[at]
				n.bytes, n.next = append(n.bytes, a.Content[k]), append(n.next, to)
			}
			at = to
		}
		m.nodes[at].ends = append(m.nodes[at].ends, int32(i))
	}
	return m
}

// child is the node that a byte leads to, -1 for none.
func (n *matchNode) child(b byte) int32 {
	if i := bytes.IndexByte(n.bytes, b); i >= 0 {
		return n.next[i]
	}
	return -1
}

// longest is the longest token at text[i:] that may stand there, nil for none; of equal ones the first.
func (m *matcher) longest(text []byte, i int, admit func(from, to int) bool) (best *AddedToken) {
	at := int32(0)
	for k := i; k < len(text); k++ {
		if at = m.nodes[at].child(text[k]); at < 0 {
			return best
		}
		for _, e := range m.nodes[at].ends {
			if a := &m.list[e]; m.fits(a, text, i) && (admit == nil || !a.Special || admit(i, k+1)) {
				best = a
				break
			}
		}
	}
	return best
}

// split hands text to emit in order: parts (id -1) and the tokens between them. admit, if not nil, is asked about each
// special token that stands at text[from:to].
func (m *matcher) split(text []byte, admit func(from, to int) bool, emit func(part []byte, id int32, first bool)) {
	if len(text) == 0 {
		return
	}
	if m == nil || len(m.list) == 0 {
		emit(text, -1, true)
		return
	}
	start := 0
	for i := 0; i < len(text); {
		if i = m.candidate(text, i); i == len(text) {
			break
		}
		a := m.longest(text, i, admit)
		if a == nil {
			i++
			continue
		}
		from, to := i, i+len(a.Content)
		if a.LStrip {
			for from > start {
				r, n := utf8.DecodeLastRune(text[start:from])
				if classTable().spaceRune(r) == 0 {
					break
				}
				from -= n
			}
		}
		if a.RStrip {
			to = classTable().run(text, to, clSpace)
		}
		if from > start {
			emit(text[start:from:from], -1, start == 0)
		}
		emit(nil, a.ID, false)
		i, start = to, to
	}
	if start < len(text) {
		emit(text[start:], -1, start == 0)
	}
}

// candidate is the next place from i on where a token may start, the end of the text for none.
func (m *matcher) candidate(text []byte, i int) int {
	if len(m.one) == 1 {
		if n := bytes.IndexByte(text[i:], m.one[0]); n >= 0 {
			return i + n
		}
		return len(text)
	}
	for i < len(text) && !m.starts[text[i]] {
		i++
	}
	return i
}

func (t *classes) spaceRune(r rune) uint8 {
	if r >= 1<<16 {
		return 0
	}
	return t[r] & clSpace
}

// fits checks that a single-word token has no word character beside it.
func (m *matcher) fits(a *AddedToken, text []byte, i int) bool {
	if !a.SingleWord {
		return true
	}
	word := func(r rune) bool {
		return r == '_' || r != utf8.RuneError && classOfAny(r)&(clLetter|clNumber|clMark) != 0
	}
	if i > 0 {
		if r, _ := utf8.DecodeLastRune(text[:i]); word(r) {
			return false
		}
	}
	if e := i + len(a.Content); e < len(text) {
		if r, _ := utf8.DecodeRune(text[e:]); word(r) {
			return false
		}
	}
	return true
}

func classOfAny(r rune) uint8 {
	if r < 1<<16 {
		return classTable()[r]
	}
	return classOfRune(r)
}
