package tokenizer

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"unicode/utf8"

	"danlu/format/gguf"
)

// addedScore is what llama.cpp's converter gives tokens that SentencePiece does not know.
const addedScore = -1000

// GGUF returns the metadata entries tokenizer.* for a model whose embedding has the given number of rows. Rows beyond the
// vocabulary become unused pieces.
func (t *Tokenizer) GGUF(rows int) ([]gguf.KV, error) {
	if rows < len(t.pieces) {
		return nil, t.fail("vocabulary", "want at most the embedding's %d pieces, got %d", rows, len(t.pieces))
	}
	const p = "tokenizer.ggml."
	tokens, types := make([]string, rows), make([]int32, rows)
	for id := range tokens {
		tokens[id], types[id] = t.Piece(int32(id)), int32(t.Kind(int32(id)))
		if tokens[id] == "" {
			tokens[id], types[id] = fmt.Sprintf("[PAD%d]", id), int32(Unused)
		}
	}
	var out []gguf.KV
	put := func(key string, v any) { out = append(out, gguf.KV{Key: p + key, Value: v}) }
	if t.byteLevel {
		pre, err := t.preName()
		if err != nil {
			return nil, err
		}
		merges, err := t.marshalMerges()
		if err != nil {
			return nil, err
		}
		lines := make([]string, len(merges))
		for i, m := range merges {
			lines[i] = m[0] + " " + m[1]
		}
		put("model", "gpt2")
		put("pre", pre)
		put("tokens", tokens)
		put("token_type", types)
		put("merges", lines)
	} else {
		scores, err := t.pieceScores(rows)
		if err != nil {
			return nil, err
		}
		dummy, remove, charsmap, err := t.spaces()
		if err != nil {
			return nil, err
		}
		put("model", spmName(t.unigram != nil))
		put("pre", "default")
		put("tokens", tokens)
		put("scores", scores)
		put("token_type", types)
		put("add_space_prefix", dummy)
		put("remove_extra_whitespaces", remove)
		if charsmap != nil {
			put("precompiled_charsmap", charsmap)
		}
	}
	for _, s := range []struct {
		key string
		id  int32
	}{{"bos", t.bos}, {"eos", t.eos}, {"unknown", t.unk}, {"padding", t.pad}} {
		if s.id >= 0 {
			put(s.key+"_token_id", uint32(s.id))
		}
	}
	put("add_bos_token", len(t.prefix) > 0 && t.prefix[0] == t.bos)
	put("add_eos_token", len(t.suffix) > 0 && t.suffix[len(t.suffix)-1] == t.eos)
	if t.chatTemplate != "" {
		out = append(out, gguf.KV{Key: "tokenizer.chat_template", Value: t.chatTemplate})
	}
	return out, nil
}

// spmName is GGUF's name of SentencePiece's models: unigram ones are called after the first that came.
func spmName(unigram bool) string {
	if unigram {
		return "t5"
	}
	return "llama"
}

// preName is the name under which GGUF knows a pre-tokenizer: the one whose rules are those of this vocabulary.
func (t *Tokenizer) preName() (string, error) {
	whole := t.bpe.ignoreMerges && !t.mergesReachAll()
	for _, name := range []string{"gpt-2", "smollm", "qwen2", "deepseek-r1-qwen", "deepseek-v3", "deepseek-llm", "deepseek-coder", "llama-bpe"} {
		steps, pre, err := preByName(name)
		if err != nil {
			return "", err
		}
		if !reflect.DeepEqual(steps, t.normalizer) || !samePre(pre, t.pre) {
			continue
		}
		if name != "llama-bpe" {
			if whole {
				return "", t.fail("model.ignore_merges", "has no form in GGUF together with the pre-tokenizer %s", name)
			}
			return name, nil
		}
		// Four names share Llama 3's pattern; they differ in whether pieces need merges and whether texts have a first token.
		switch {
		case whole && t.bos >= 0:
			return "llama-bpe", nil
		case whole:
			return "glm4", nil
		case t.bos >= 0:
			return "dbrx", nil
		}
		return "chatglm-bpe", nil
	}
	return "", t.fail("pre_tokenizer", "has no name in GGUF")
}

// mergesReachAll reports whether merging gives every piece back from its own text, so that looking pre-tokens up first
// changes nothing.
func (t *Tokenizer) mergesReachAll() bool {
	st := new(state)
	var ids []int32
	for id, text := range t.bpe.toks {
		if text == "" || !utf8.ValidString(text) { // pre-tokens are whole characters
			continue
		}
		ids = t.bpe.appendParts(ids[:0], st, []byte(text), 0, len(text))
		if len(ids) != 1 || ids[0] != int32(id) {
			return false
		}
	}
	return true
}

// samePre reports whether two pre-tokenizers cut alike.
func samePre(a, b []preStep) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.prefixSpace != y.prefixSpace || x.firstOnly != y.firstOnly || (x.split == nil) != (y.split == nil) {
			return false
		}
		if x.split != nil && (closedPattern(x.split.expr) != closedPattern(y.split.expr) || x.split.behavior != y.split.behavior || x.split.invert != y.split.invert) {
			return false
		}
	}
	return true
}

// closedPattern spells patterns that cut alike in one way.
func closedPattern(expr string) string {
	if expr == patternGPT2Open {
		return patternGPT2
	}
	return expr
}

// pieceScores are SentencePiece's scores: those of the vocabulary's own file, else numbers in the order of the merges.
func (t *Tokenizer) pieceScores(rows int) ([]float32, error) {
	scores := make([]float32, rows)
	for i := range scores {
		scores[i] = addedScore
	}
	if data := t.original["tokenizer.model"]; data != nil {
		m, err := parseSPM(data)
		if err != nil {
			return nil, t.fail("tokenizer.model", "%v", err)
		}
		copy(scores, m.scores)
		return scores, nil
	}
	if t.unigram != nil {
		copy(scores, t.unigram.scores)
		return scores, nil
	}
	type made struct {
		id       int32
		from, to uint32 // the ranks of the merges that make it
	}
	byID := map[int32]*made{}
	var pieces []*made
	t.bpe.pairs.each(func(_, _ int32, order uint32) {
		id, rank := t.bpe.pairs.id[order], t.bpe.pairs.rankOf(order)
		m := byID[id]
		if m == nil {
			m = &made{id, rank, rank}
			byID[id] = m
			pieces = append(pieces, m)
		}
		m.from, m.to = min(m.from, rank), max(m.to, rank)
	})
	slices.SortFunc(pieces, func(a, b *made) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	score := float32(0)
	for i, m := range pieces {
		if i > 0 && m.from != pieces[i-1].from {
			score--
		}
		// Pieces of one score share a rank; otherwise the merges of one follow all those of the other.
		if i > 0 && m.from <= pieces[i-1].to && (m.to != m.from || pieces[i-1].from != m.from) || int(m.id) >= rows {
			return nil, t.fail("model.merges", "piece %q is made by merges apart from each other, which SentencePiece's scores cannot say", clip(t.Piece(m.id)))
		}
		scores[m.id] = score
	}
	for id := range scores {
		if byID[int32(id)] == nil && t.Kind(int32(id)) == Normal {
			scores[id] = score - 1 // single characters, which nothing makes
		}
		if k := t.Kind(int32(id)); k == Control || k == Unknown || k == Byte {
			scores[id] = 0
		}
	}
	return scores, nil
}

// spaces reads from the normaliser whether a text gets a space in front, whether runs of spaces become one, and
// SentencePiece's table of characters.
func (t *Tokenizer) spaces() (dummy, remove bool, charsmap []uint8, err error) {
	for _, n := range t.normalizer {
		switch n := n.(type) {
		case *spmStep:
			if n.spaceAsSuffix {
				return false, false, nil, t.fail("normalizer", "a space behind the text has no form in GGUF")
			}
			dummy, remove = n.dummyPrefix, n.removeSpaces
			if n.charsmap != nil {
				charsmap = n.charsmap.file
			}
		case prependStep:
			dummy = true
		case replaceStep:
			if n != metaStep {
				return false, false, nil, t.fail("normalizer", "replacing %q has no form in GGUF", clip(n.from))
			}
		default:
			return false, false, nil, t.fail("normalizer", "%T has no form in GGUF", n)
		}
	}
	for _, p := range t.pre {
		if p.prefixSpace {
			dummy = true
		}
	}
	return dummy, remove, charsmap, nil
}
