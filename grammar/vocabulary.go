package grammar

import (
	"cmp"
	"slices"

	"danlu/tokenizer"
)

// Mask is a set of tokens, a bit for each id. A nil one is all tokens.
type Mask []uint64

// NewMask returns an empty set of the ids below n.
func NewMask(n int) Mask { return make(Mask, (n+63)/64) }

// Has reports whether an id is in the set.
func (m Mask) Has(id int32) bool {
	return m == nil || id >= 0 && int(id) < 64*len(m) && m[id/64]>>(id%64)&1 == 1
}

// Set puts an id in.
func (m Mask) Set(id int32) {
	if id >= 0 && int(id) < 64*len(m) {
		m[id/64] |= 1 << (id % 64)
	}
}

// Clear takes an id out.
func (m Mask) Clear(id int32) {
	if id >= 0 && int(id) < 64*len(m) {
		m[id/64] &^= 1 << (id % 64)
	}
}

// And keeps what is in the other set as well.
func (m Mask) And(o Mask) {
	for i := range m {
		if o == nil {
			return
		}
		if i < len(o) {
			m[i] &= o[i]
		} else {
			m[i] = 0
		}
	}
}

// Vocabulary is the trie of the tokens' texts, its nodes in the order of a walk. It is safe for concurrent use.
type Vocabulary struct {
	texts []string // by id; "" for tokens that are no text
	bytes []byte   // of each node
	depth []int32  // length of the path to it
	end   []int32  // the node behind its subtree
	first []int32  // index in ids of its tokens, which go up to the next node's
	ids   []int32
	deep  int // length of the longest path
}

// NewVocabulary takes the tokens' texts by id.
func NewVocabulary(texts []string) *Vocabulary {
	v := &Vocabulary{texts: texts}
	var order []int32
	for id, s := range texts {
		if s != "" {
			order = append(order, int32(id))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(texts[a], texts[b]), cmp.Compare(a, b)) })
	before := ""
	var path []int32 // nodes from the root
	closeTo := func(n int) {
		for len(path) > n {
			v.end[path[len(path)-1]] = int32(len(v.bytes))
			path = path[:len(path)-1]
		}
	}
	for _, id := range order {
		s, n := texts[id], 0
		for n < len(s) && n < len(before) && s[n] == before[n] {
			n++
		}
		closeTo(n)
		for i := n; i < len(s); i++ {
			path = append(path, int32(len(v.bytes)))
			v.bytes, v.depth, v.end, v.first = append(v.bytes, s[i]), append(v.depth, int32(i+1)), append(v.end, 0), append(v.first, int32(len(v.ids)))
		}
		v.ids = append(v.ids, id)
		v.deep, before = max(v.deep, len(s)), s
	}
	closeTo(0)
	v.first = append(v.first, int32(len(v.ids)))
	return v
}

// VocabularyOf takes a tokenizer's tokens. Control tokens are no text, except those in keep.
func VocabularyOf(tok *tokenizer.Tokenizer, keep map[int32]bool) *Vocabulary {
	texts := make([]string, tok.VocabSize())
	for i := range texts {
		switch id := int32(i); tok.Kind(id) {
		case tokenizer.Control:
			if keep[id] {
				texts[i] = tok.Piece(id)
			}
		case tokenizer.Normal, tokenizer.UserDefined, tokenizer.Byte:
			texts[i] = string(tok.Bytes(id))
		}
	}
	return NewVocabulary(texts)
}
