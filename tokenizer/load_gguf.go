package tokenizer

import (
	"fmt"
	"strings"

	"danlu/format/gguf"
)

// FromGGUF builds the tokenizer in a GGUF's metadata: the keys tokenizer.ggml.*, with arrays as []string, []float32 and
// []int32, numbers as uint32 or int64, and booleans.
func FromGGUF(source string, kv map[string]any) (*Tokenizer, error) {
	t := newTokenizer(source)
	const p = "tokenizer.ggml."
	pieces, _ := kv[p+"tokens"].([]string)
	if len(pieces) == 0 || len(pieces) > maxVocab {
		return nil, t.fail(p+"tokens", "want 1 to %d strings, got %d", maxVocab, len(pieces))
	}
	types, _ := kv[p+"token_type"].([]int32)
	if types != nil && len(types) != len(pieces) {
		return nil, t.fail(p+"token_type", "want %d numbers, got %d", len(pieces), len(types))
	}
	kinds := make([]Kind, len(pieces))
	for i := range kinds {
		kinds[i] = Normal
		if types != nil {
			if types[i] < 1 || types[i] > 6 {
				return nil, t.fail(fmt.Sprintf("%stoken_type[%d]", p, i), "want 1 to 6, got %d", types[i])
			}
			kinds[i] = Kind(types[i])
		}
	}
	id := func(key string) int32 {
		var v int64 = -1
		switch n := kv[p+key].(type) {
		case uint32:
			v = int64(n)
		case int32:
			v = int64(n)
		case uint64:
			v = int64(n)
		case int64:
			v = n
		}
		if v < 0 || v >= int64(len(pieces)) {
			return -1
		}
		return int32(v)
	}
	flag := func(key string, otherwise bool) bool {
		if b, ok := kv[p+key].(bool); ok {
			return b
		}
		return otherwise
	}
	pre, _ := kv[p+"pre"].(string)
	addBOS := false
	switch model, _ := kv[p+"model"].(string); model {
	case "llama", "t5":
		scores, _ := kv[p+"scores"].([]float32)
		if len(scores) != len(pieces) {
			return nil, t.fail(p+"scores", "want %d numbers, got %d", len(pieces), len(scores))
		}
		m := &spmModel{pieces: pieces, scores: scores, kinds: kinds, modelType: spmBPE, dummyPrefix: flag("add_space_prefix", true), bos: -1, eos: -1, pad: -1}
		if model == "t5" {
			m.modelType = spmUnigram
		}
		m.removeSpaces = flag("remove_extra_whitespaces", false)
		switch table := kv[p+"precompiled_charsmap"].(type) {
		case []uint8:
			m.charsmap = table
		case []int8:
			for _, b := range table {
				m.charsmap = append(m.charsmap, byte(b))
			}
		}
		if err := t.initSPM(m); err != nil {
			return nil, err
		}
		addBOS = model == "llama"
	case "gpt2":
		lines, _ := kv[p+"merges"].([]string)
		merges, err := t.parseMerges(p+"merges", lines)
		if err != nil {
			return nil, err
		}
		if err := t.initAlphabet(pieces, kinds, merges); err != nil {
			return nil, err
		}
		var added []AddedToken
		for i, k := range kinds {
			if k == Control || k == UserDefined || k == Unknown {
				added = append(added, AddedToken{ID: int32(i), Content: pieces[i], Special: k != UserDefined})
			}
		}
		t.setAdded(added)
		if t.normalizer, t.pre, err = preByName(pre); err != nil {
			return nil, t.fail(p+"pre", "%v", err)
		}
		if pre == "glm4" {
			t.bpe.ignoreMerges = true
		}
		if pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3" {
			addBOS, t.bpe.ignoreMerges = true, true
		}
	default:
		return nil, t.fail(p+"model", "want llama, t5 or gpt2, got %q", clip(model))
	}
	t.bos, t.eos, t.pad = id("bos_token_id"), id("eos_token_id"), id("padding_token_id")
	t.prefix, t.suffix = nil, nil
	if flag("add_bos_token", addBOS) && t.bos >= 0 {
		t.prefix = []int32{t.bos}
	}
	if flag("add_eos_token", false) && t.eos >= 0 {
		t.suffix = []int32{t.eos}
	}
	return t, nil
}

// parseMerges splits lines "left right" in GPT-2's alphabet into the bytes they stand for.
func (t *Tokenizer) parseMerges(field string, lines []string) ([][2]string, error) {
	texts := newAlphabetTexts(lines)
	for i, l := range lines {
		a, b, ok := strings.Cut(l, " ")
		if !ok || a == "" || b == "" || strings.Contains(b, " ") {
			return nil, t.fail(fmt.Sprintf("%s[%d]", field, i), "want two pieces and a space between them, got %q", clip(l))
		}
		texts.add(a)
		texts.add(b)
	}
	out, all := make([][2]string, len(lines)), texts.strings()
	for i := range out {
		out[i] = [2]string(all[2*i:])
	}
	return out, nil
}

// initAlphabet builds a byte-level vocabulary whose pieces are spelled in GPT-2's alphabet.
func (t *Tokenizer) initAlphabet(pieces []string, kinds []Kind, merges [][2]string) error {
	texts, spelled := newAlphabetTexts(pieces), make([]bool, len(pieces))
	for i, s := range pieces {
		spelled[i] = texts.add(s)
	}
	decoded, toks := texts.strings(), make([]string, len(pieces))
	for i, ok := range spelled {
		if ok && kinds[i] == Normal {
			toks[i] = decoded[i]
		}
	}
	t.setPieces(pieces, decoded, kinds)
	return t.initBytes(toks, merges)
}

// loadGGUF reads the vocabulary inside a GGUF file.
func loadGGUF(path string) (*Tokenizer, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	kv := map[string]any{}
	for _, k := range f.Keys() {
		if v, ok := f.Value(k); ok && strings.HasPrefix(k, "tokenizer.ggml.") {
			if u, ok := v.([]uint32); ok {
				list := make([]int32, len(u))
				for i := range u {
					list[i] = int32(u[i])
				}
				v = list
			}
			kv[k] = v
		}
	}
	if model := kv["tokenizer.ggml.model"]; model == nil || model == "none" || model == "no_vocab" {
		return nil, fmt.Errorf("tokenizer: %s: %w: tokenizer.ggml.model: want llama, t5 or gpt2", path, ErrNone)
	}
	t, err := FromGGUF(path, kv)
	if err == nil {
		if s, ok := f.Value("tokenizer.chat_template"); ok {
			t.chatTemplate, _ = s.(string)
		}
	}
	return t, err
}
