package tokenizer

import (
	"math"
	"slices"
)

// unigram segments text into the pieces whose scores have the highest sum (Kudo 2018, section 3.2; Viterbi search as in
// SentencePiece's unigram_model.cc, with the same float32 sums, so that ties fall alike).
type unigram struct {
	toks     []string // the text of each piece, "" for those that text never becomes
	scores   []float32
	trie     byteTrie
	byteID   [256]int32
	fallback bool
	unk      int32
	fuseUnk  bool
	unkScore float32
}

// unkPenalty is what an unknown character costs below the worst piece.
const unkPenalty = 10

// finish builds what follows from the pieces and scores.
func (m *unigram) finish() error {
	low := float32(math.Inf(1))
	for i, t := range m.toks {
		if err := checkPiece(int32(i), t); err != nil {
			return err
		}
		if t != "" {
			low = min(low, m.scores[i])
		}
	}
	m.unkScore = low - unkPenalty
	m.trie = newByteTrie(m.toks)
	return nil
}

// lattice is the best segmentation up to each byte.
type lattice struct {
	score float32
	id    int32
	from  int32 // where the last piece starts, -1: not reached
}

// appendWord segments text[from:to].
func (m *unigram) appendWord(dst []int32, st *state, text []byte, from, to int) []int32 {
	text = text[from:to]
	n := len(text)
	if cap(st.best) < n+1 {
		st.best = make([]lattice, n+1)
	}
	best := st.best[:n+1]
	for i := range best {
		best[i].from = -1
	}
	best[0] = lattice{}
	for i := 0; i < n; i += charLen(text[i]) {
		char, single := charLen(text[i]), false
		here := best[i].score
		better := func(end int, id int32, score float32) {
			if total := score + here; best[end].from < 0 || total > best[end].score {
				best[end] = lattice{total, id, int32(i)}
			}
		}
		for node, j := int32(0), i; j < n; j++ {
			if node = m.trie.child(node, text[j]); node < 0 {
				break
			}
			id := m.trie.id(node)
			if id < 0 {
				continue
			}
			better(j+1, id, m.scores[id])
			single = single || j+1-i == char
		}
		if !single {
			better(i+char, -1, m.unkScore)
		}
	}
	start := len(dst)
	for end := n; end > 0; end = int(best[end].from) {
		dst = m.appendReversed(dst, start, best[end].id, text[best[end].from:end])
	}
	slices.Reverse(dst[start:])
	return dst
}

// appendReversed appends what stands for one piece, last id first.
func (m *unigram) appendReversed(dst []int32, start int, id int32, text []byte) []int32 {
	if id >= 0 {
		return append(dst, id)
	}
	if m.fallback {
		if len(text) == 1 && text[0] == ' ' {
			text = []byte("\u2581")
		}
		for _, b := range slices.Backward(text) {
			dst = append(dst, m.byteID[b])
		}
		return dst
	}
	if m.unk < 0 || m.fuseUnk && len(dst) > start && dst[len(dst)-1] == m.unk {
		return dst
	}
	return append(dst, m.unk)
}

// byteTrie finds every piece that starts at a place of a text. The root is node 0; children are found by hashing.
type byteTrie struct {
	edges map[uint64]int32 // node<<8 | byte
	ids   []int32
	root  [256]int32
}

func newByteTrie(toks []string) byteTrie {
	t := byteTrie{edges: map[uint64]int32{}, ids: []int32{-1}}
	for i := range t.root {
		t.root[i] = -1
	}
	for id, s := range toks {
		node := int32(0)
		for i := range len(s) {
			next := t.child(node, s[i])
			if next < 0 {
				next = int32(len(t.ids))
				t.ids = append(t.ids, -1)
				if node == 0 {
					t.root[s[i]] = next
				} else {
					t.edges[uint64(node)<<8|uint64(s[i])] = next
				}
			}
			node = next
		}
		if s != "" && t.ids[node] < 0 {
			t.ids[node] = int32(id)
		}
	}
	return t
}

func (t *byteTrie) child(node int32, b byte) int32 {
	if node == 0 {
		return t.root[b]
	}
	if next, ok := t.edges[uint64(node)<<8|uint64(b)]; ok {
		return next
	}
	return -1
}

func (t *byteTrie) id(node int32) int32 { return t.ids[node] }

func (t *Tokenizer) marshalUnigram() object {
	m := t.unigram
	vocab := make([][2]any, len(m.scores)) // tokens added behind them are none of the model's pieces
	for i := range vocab {
		vocab[i] = [2]any{t.pieces[i], m.scores[i]}
	}
	var unk any
	if m.unk >= 0 {
		unk = m.unk
	}
	return object{"type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": m.fallback}
}
