package tokenizer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// normalizationRules are SentencePiece's rules, by name.
var normalizationRules = map[string]func() map[string]string{
	"nfkc":        nfkcMap,
	"nfkc_cf":     func() map[string]string { return foldMap(nfkcMap()) },
	"nmt_nfkc":    nmtMap,
	"nmt_nfkc_cf": func() map[string]string { return foldMap(nmtMap()) },
}

// normalizationRule returns SentencePiece's precompiled map of a rule, nil for identity. It is derived from Unicode's
// tables as SentencePiece's builder.cc does.
func normalizationRule(name string) (*charsmap, error) {
	if name == "identity" {
		return nil, nil
	}
	rule, ok := normalizationRules[name]
	if !ok {
		return nil, fmt.Errorf("tokenizer: train: normalization_rule_name: want identity, %s, got %q",
			strings.Join(slices.Sorted(maps.Keys(normalizationRules)), ", "), clip(name))
	}
	c, err := newCharsmap(compileMap(rule()))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: train: normalization_rule_name: %s: the map cannot be read back: %w", name, err)
	}
	return c, nil
}

// eachRune visits the code points that may stand for characters, up to the last plane in which any is mapped.
func eachRune(visit func(r rune, s string)) {
	for r := rune(1); r < 0x30000; r++ {
		if r >= 0xd800 && r < 0xe000 || r&0xfffe == 0xfffe || r >= 0xfdd0 && r < 0xfdf0 {
			continue
		}
		visit(r, string(r))
	}
}

// nfkcMap maps strings to their compatibility composition (UAX 15): single characters, and the sequences that compose
// into one, in every spelling of their parts.
func nfkcMap() map[string]string {
	out := map[string]string{}
	spellings := map[rune][]rune{} // of each character that decomposes no further
	sequences := map[string]bool{}
	eachRune(func(r rune, s string) {
		if c := norm.NFKC.String(s); c != s {
			out[s] = c
		}
		d := norm.NFKD.String(s)
		if first, n := utf8.DecodeRuneInString(d); n == len(d) {
			spellings[first] = append(spellings[first], r)
		} else {
			sequences[d] = true
		}
	})
	for d := range sequences {
		c := norm.NFKC.String(d)
		if c == d {
			continue
		}
		for _, s := range spell(d, spellings) {
			if s != c {
				out[s] = c
			}
		}
	}
	return dropRedundant(out)
}

// spell returns every string whose characters decompose into those of s.
func spell(s string, spellings map[rune][]rune) []string {
	out := []string{""}
	for _, r := range s {
		options := spellings[r]
		if options == nil {
			options = []rune{r}
		}
		var next []string
		for _, head := range out {
			for _, o := range options {
				next = append(next, head+string(o))
			}
		}
		out = next
	}
	return out
}

// dropRedundant removes the sequences that shorter mappings, longest first, map alike.
func dropRedundant(m map[string]string) map[string]string {
	var byLength [][]string
	for s := range m {
		n := utf8.RuneCountInString(s)
		for len(byLength) <= n {
			byLength = append(byLength, nil)
		}
		byLength[n] = append(byLength[n], s)
	}
	kept := map[string]string{}
	for n, keys := range byLength {
		for _, s := range keys {
			if n == 1 || applyMap(kept, s, n-1) != m[s] {
				kept[s] = m[s]
			}
		}
	}
	return kept
}

// applyMap rewrites s by the longest mapped prefixes of at most limit characters.
func applyMap(m map[string]string, s string, limit int) string {
	var out strings.Builder
	for s != "" {
		var ends []int
		for i := range s {
			if i > 0 && len(ends) < limit {
				ends = append(ends, i)
			}
		}
		if len(ends) < limit {
			ends = append(ends, len(s))
		}
		_, n := utf8.DecodeRuneInString(s)
		to := s[:n]
		for _, e := range slices.Backward(ends) {
			if v, ok := m[s[:e]]; ok {
				to, n = v, e
				break
			}
		}
		out.WriteString(to)
		s = s[n:]
	}
	return out.String()
}

// nmtMap is nfkcMap with white space, format and control characters read as in machine translation.
func nmtMap() map[string]string {
	m := nfkcMap()
	for _, r := range "\t\n\f\r\u1680\u200b\u200e\u200f\u2028\u2029\u2581\ufeff\ufffd\u200c\u200d" {
		m[string(r)] = " "
	}
	for r := rune(1); r < 0x20; r++ {
		if !strings.ContainsRune("\t\n\f\r", r) {
			m[string(r)] = ""
		}
	}
	for _, r := range []rune{0x7f, 0x8f, 0x9f} {
		m[string(r)] = ""
	}
	delete(m, "\uff5e") // the full-width tilde, which Japanese uses in its own way
	return m
}

// foldMap adds simple case folding.
func foldMap(m map[string]string) map[string]string {
	full := cases.Fold()
	fold := func(r rune) rune {
		if f := full.String(string(r)); utf8.RuneCountInString(f) == 1 {
			r, _ = utf8.DecodeRuneInString(f)
			return r
		}
		return unicode.ToLower(r)
	}
	for s, to := range m {
		m[s] = strings.Map(fold, to)
	}
	eachRune(func(r rune, s string) {
		if _, ok := m[s]; !ok && fold(r) != r {
			m[s] = string(fold(r))
		}
	})
	return dropRedundant(m)
}

// compileMap writes a map as SentencePiece reads it: the size of a double-array trie in bytes, the trie, and the
// replacements, each ended by a zero.
func compileMap(m map[string]string) []byte {
	keys := slices.Sorted(maps.Keys(m))
	values := make([]uint32, len(keys))
	var to bytes.Buffer
	at := map[string]uint32{}
	for i, k := range keys {
		v := m[k]
		if _, ok := at[v]; !ok {
			at[v] = uint32(to.Len())
			to.WriteString(v)
			to.WriteByte(0)
		}
		values[i] = at[v]
	}
	b := &trieBuilder{nodes: map[string]*trieNode{}}
	root := b.node(keys, values, 0)
	b.reserve(0)
	b.taken[0] = true
	b.link(0, root)
	out := binary.LittleEndian.AppendUint32(nil, uint32(4*len(b.units)))
	for _, u := range b.units {
		out = binary.LittleEndian.AppendUint32(out, u)
	}
	return append(out, to.Bytes()...)
}

// trieNode is a set of endings. Equal sets are one node, so that the trie shares them.
type trieNode struct {
	id       int
	leaf     bool
	value    uint32
	labels   []byte
	children []*trieNode
	base     uint32 // where the children are; 0: not placed
}

// trieBuilder lays a trie out as a double array (Aoe 1989), with the unit layout of darts-clone: 8 bits of label, a bit
// for a value, and the distance to the children, whose place is their parent's base xor their label.
type trieBuilder struct {
	nodes    map[string]*trieNode // by content
	units    []uint32
	taken    []bool
	usedBase []bool // no two nodes may share a base: the labels alone tell whose a child is
}

// node returns the node of sorted keys that agree in their first depth bytes.
func (b *trieBuilder) node(keys []string, values []uint32, depth int) *trieNode {
	n := &trieNode{}
	if len(keys[0]) == depth {
		n.leaf, n.value = true, values[0]
		keys, values = keys[1:], values[1:]
	}
	content := fmt.Appendf(nil, "%v %d", n.leaf, n.value)
	for len(keys) > 0 {
		label := keys[0][depth]
		k := 1
		for k < len(keys) && keys[k][depth] == label {
			k++
		}
		child := b.node(keys[:k], values[:k], depth+1)
		n.labels, n.children = append(n.labels, label), append(n.children, child)
		content = fmt.Appendf(content, " %d:%d", label, child.id)
		keys, values = keys[k:], values[k:]
	}
	if old := b.nodes[string(content)]; old != nil {
		return old
	}
	n.id = len(b.nodes)
	b.nodes[string(content)] = n
	return n
}

// reserve grows the arrays to hold unit i, in blocks of all 256 labels.
func (b *trieBuilder) reserve(i uint32) {
	for uint32(len(b.units)) <= i|0xff {
		b.units, b.taken, b.usedBase = append(b.units, 0), append(b.taken, false), append(b.usedBase, false)
	}
}

// link lets the unit at pos lead to the children of n.
func (b *trieBuilder) link(pos uint32, n *trieNode) {
	isNew := n.base == 0
	if isNew {
		labels := n.labels
		if n.leaf {
			labels = append([]byte{0}, labels...)
		}
		n.base = b.findBase(labels)
		for _, l := range labels {
			b.taken[n.base^uint32(l)] = true
		}
	}
	b.units[pos] |= (pos ^ n.base) << 10
	if n.leaf {
		b.units[pos] |= 1 << 8
		b.units[n.base] = n.value | 1<<31
	}
	if !isNew {
		return
	}
	for i, l := range n.labels {
		b.units[n.base^uint32(l)] = uint32(l)
		b.link(n.base^uint32(l), n.children[i])
	}
}

// searched is how far behind the end a free place is looked for.
const searched = 16 << 8

// findBase returns the first base at which all labels are free.
func (b *trieBuilder) findBase(labels []byte) uint32 {
	for at := uint32(max(0, len(b.units)-searched)); ; at++ {
		base := at ^ uint32(labels[0])
		b.reserve(base)
		if base == 0 || b.usedBase[base] {
			continue
		}
		if !slices.ContainsFunc(labels, func(l byte) bool { return b.taken[base^uint32(l)] }) {
			b.usedBase[base] = true
			return base
		}
	}
}
