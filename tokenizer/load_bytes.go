package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// byteRunes is GPT-2's printable alphabet (encoder.py, bytes_to_unicode): the character that stands for each byte;
// runeBytes is its inverse, -1 for characters that stand for none.
var byteRunes, runeBytes = func() (to [256]rune, from [0x144]int16) {
	for r := range from {
		from[r] = -1
	}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae) {
			r = next
			next++
		}
		to[b] = r
		from[r] = int16(b)
	}
	return to, from
}()

// appendFromAlphabet appends the bytes that a piece in GPT-2's alphabet stands for; false when it uses other characters.
func appendFromAlphabet(dst []byte, s string) ([]byte, bool) {
	for _, r := range s {
		if r >= rune(len(runeBytes)) || runeBytes[r] < 0 {
			return dst, false
		}
		dst = append(dst, byte(runeBytes[r]))
	}
	return dst, true
}

// fromAlphabet is what a piece in GPT-2's alphabet stands for, itself and false when it uses other characters.
func fromAlphabet(s string) (string, bool) {
	if b, ok := appendFromAlphabet(make([]byte, 0, len(s)), s); ok {
		return string(b), true
	}
	return s, false
}

// alphabetTexts is fromAlphabet of many pieces, which share one string.
type alphabetTexts struct {
	all  []byte
	ends []int
}

// newAlphabetTexts makes room for what list spells.
func newAlphabetTexts(list []string) *alphabetTexts {
	bytes := 0
	for _, s := range list {
		bytes += len(s)
	}
	return &alphabetTexts{make([]byte, 0, bytes), make([]int, 0, 2*len(list))}
}

func (a *alphabetTexts) add(s string) (ok bool) {
	from := len(a.all)
	if a.all, ok = appendFromAlphabet(a.all, s); !ok {
		a.all = append(a.all[:from], s...)
	}
	a.ends = append(a.ends, len(a.all))
	return ok
}

func (a *alphabetTexts) strings() []string {
	all, list, from := string(a.all), make([]string, len(a.ends)), 0
	for i, end := range a.ends {
		list[i], from = all[from:end], end
	}
	return list
}

func toAlphabet(b []byte) string {
	out := make([]byte, 0, len(b)*2)
	for _, c := range b {
		out = utf8.AppendRune(out, byteRunes[c])
	}
	return string(out)
}

// preByName returns the normaliser and pre-tokenizer of a GGUF tokenizer.ggml.pre or a tiktoken family.
func preByName(name string) ([]normStep, []preStep, error) {
	var exprs []string
	var steps []normStep
	switch name {
	case "", "default", "gpt-2", "gpt2":
		exprs = []string{patternGPT2}
	case "llama-bpe", "llama3", "llama-v3", "chatglm-bpe", "glm4", "dbrx", "cl100k":
		exprs = []string{patternLlama3}
	case "qwen2", "qwen", "stablelm2", "deepseek-r1-qwen":
		exprs = []string{patternQwen2}
		if name == "qwen2" {
			steps = []normStep{formStep{norm.NFC}}
		}
	case "deepseek-llm":
		exprs = []string{`[\r\n]`, `\s?` + deepSeekLetters + `+`, "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", `\s+$`, "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", `\p{N}`}
	case "deepseek-coder":
		exprs = []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", `\p{N}`}
	case "deepseek-v3":
		exprs = []string{`\p{N}{1,3}`, "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", patternDeepSeek}
	case "smollm", "starcoder", "refact", "command-r":
		exprs = []string{`\p{N}`, patternGPT2}
	default:
		return nil, nil, fmt.Errorf("unknown pre-tokenizer %q", clip(name))
	}
	pre, err := preSteps(exprs)
	return steps, pre, err
}

// deepSeekLetters is the class of cased letters in DeepSeek LLM's tokenizer.json.
const deepSeekLetters = "[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373" +
	"\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f" +
	"\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77" +
	"\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d" +
	"\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-" +
	"\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134" +
	"\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-" +
	"\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-" +
	"\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2" +
	"\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]"

func preSteps(exprs []string) ([]preStep, error) {
	var out []preStep
	for _, e := range exprs {
		p, err := newPattern(e)
		if err != nil {
			return nil, err
		}
		out = append(out, preStep{split: &splitter{expr: e, pattern: p}})
	}
	return out, nil
}

// initBytes builds a byte-level model whose toks hold raw bytes. With nil merges the pieces' ids are the ranks.
func (t *Tokenizer) initBytes(toks []string, merges [][2]string) error {
	m := &bpe{toks: toks, unk: -1}
	m.table = newStringTable(toks)
	for b := range 256 {
		m.byteID[b] = m.table.find([]byte{byte(b)})
	}
	m.finish()
	if merges == nil {
		order := make([]int32, len(toks))
		for i := range order {
			order[i] = int32(i)
		}
		if err := m.pairsFromText(order, nil); err != nil {
			return t.fail("ranks", "%v", err)
		}
	} else if err := t.addMerges(m, merges); err != nil {
		return err
	}
	m.rankBytes()
	t.model, t.bpe, t.byteLevel = m, m, true
	return nil
}

func (t *Tokenizer) addMerges(m *bpe, merges [][2]string) error {
	if len(merges) > maxOrder {
		return t.fail("merges", "want at most %d, got %d", maxOrder, len(merges))
	}
	m.pairs = newPairTable(len(merges))
	var joint []byte
	for i, p := range merges {
		joint = append(append(joint[:0], p[0]...), p[1]...)
		a, b, c := m.table.find(view(p[0])), m.table.find(view(p[1])), m.table.find(joint)
		if a < 0 || b < 0 || c < 0 {
			return t.fail(fmt.Sprintf("merges[%d]", i), "want two pieces whose joint text is a piece, got %q %q", clip(p[0]), clip(p[1]))
		}
		m.pairs.id = append(m.pairs.id, c)
		m.pairs.add(a, b, uint32(i))
	}
	return nil
}

// maxReserved bounds the ids below the first rank of a tiktoken file.
const maxReserved = 1 << 12

// fromTiktoken reads a tiktoken rank file: a line "base64 rank" per token. special follow the ranks; prefix names those
// that begin a text.
func fromTiktoken(source string, data []byte, pre string, special, prefix []string) (*Tokenizer, error) {
	t := newTokenizer(source)
	var toks []string
	sc := bufio.NewScanner(bytes.NewReader(data))
	for line := 1; sc.Scan(); line++ {
		if len(sc.Bytes()) == 0 {
			continue
		}
		text, num, ok := strings.Cut(sc.Text(), " ")
		b, err := base64.StdEncoding.DecodeString(text)
		rank, err2 := strconv.Atoi(num)
		if err2 == nil && line == 1 && rank > 0 && rank < maxReserved {
			toks = make([]string, rank) // ids of special tokens, which the file does not name
		}
		if !ok || err != nil || err2 != nil || rank != len(toks) || len(b) == 0 || rank >= maxVocab {
			return nil, t.fail(fmt.Sprintf("line %d", line), "want base64 and rank %d, got %q", len(toks), clip(sc.Text()))
		}
		toks = append(toks, string(b))
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", source, err)
	}
	if len(toks) < 256 {
		return nil, t.fail("ranks", "want at least the 256 bytes, got %d lines", len(toks))
	}
	n := len(toks)
	pieces, decoded := make([]string, 0, n+len(special)), make([]string, 0, n+len(special))
	kinds := make([]Kind, 0, n+len(special))
	for _, s := range toks {
		kind := Normal
		if s == "" {
			kind = Unused
		}
		pieces, decoded, kinds = append(pieces, toAlphabet([]byte(s))), append(decoded, s), append(kinds, kind)
	}
	var added []AddedToken
	for i, s := range special {
		added = append(added, AddedToken{ID: int32(n + i), Content: s, Special: true})
		pieces, decoded, kinds = append(pieces, s), append(decoded, s), append(kinds, Control)
		toks = append(toks, "")
	}
	if err := t.initBytes(toks, nil); err != nil {
		return nil, err
	}
	t.bpe.ignoreMerges = true // tiktoken looks each pre-token up whole first
	t.setPieces(pieces, decoded, kinds)
	t.setAdded(added)
	var err error
	if t.normalizer, t.pre, err = preByName(pre); err != nil {
		return nil, t.fail("pattern", "%v", err)
	}
	first := func(texts ...string) int32 {
		for _, s := range texts {
			if v, ok := t.ID(s); ok {
				return v
			}
		}
		return -1
	}
	t.bos, t.eos, t.pad = first("<|begin_of_text|>"), first("<|end_of_text|>", "<|endoftext|>"), first("<|endoftext|>")
	for _, p := range prefix {
		t.prefix = append(t.prefix, first(p))
	}
	return t, nil
}
