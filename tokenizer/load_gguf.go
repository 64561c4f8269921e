package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
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
	case "llama":
		scores, _ := kv[p+"scores"].([]float32)
		if len(scores) != len(pieces) {
			return nil, t.fail(p+"scores", "want %d numbers, got %d", len(pieces), len(scores))
		}
		m := &spmModel{pieces: pieces, scores: scores, kinds: kinds, modelType: 2, dummyPrefix: flag("add_space_prefix", true), bos: -1, eos: -1, pad: -1}
		m.removeSpaces = flag("remove_extra_whitespaces", false)
		if err := t.initSPM(m); err != nil {
			return nil, err
		}
		addBOS = true
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
		if pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3" {
			addBOS, t.model.ignoreMerges = true, true
		}
	default:
		return nil, t.fail(p+"model", "want llama or gpt2, got %q", clip(model))
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
	out := make([][2]string, len(lines))
	for i, l := range lines {
		a, b, ok := strings.Cut(l, " ")
		if !ok || a == "" || b == "" || strings.Contains(b, " ") {
			return nil, t.fail(fmt.Sprintf("%s[%d]", field, i), "want two pieces and a space between them, got %q", clip(l))
		}
		out[i][0], _ = fromAlphabet(a)
		out[i][1], _ = fromAlphabet(b)
	}
	return out, nil
}

// initAlphabet builds a byte-level vocabulary whose pieces are spelled in GPT-2's alphabet.
func (t *Tokenizer) initAlphabet(pieces []string, kinds []Kind, merges [][2]string) error {
	toks, decoded := make([]string, len(pieces)), make([]string, len(pieces))
	for i, s := range pieces {
		b, ok := fromAlphabet(s)
		decoded[i] = b
		if ok && kinds[i] == Normal {
			toks[i] = b
		}
	}
	t.setPieces(pieces, decoded, kinds)
	return t.initBytes(toks, merges)
}

// readGGUFMetadata reads the key-value part of a GGUF file, version 2 or 3.
func readGGUFMetadata(source string, b []byte) (map[string]any, error) {
	bad := func(field string) error {
		return fmt.Errorf("tokenizer: %s: %s: truncated or damaged GGUF metadata", source, field)
	}
	at := 0
	need := func(n uint64) bool { return n <= uint64(len(b)-at) }
	u32 := func() uint32 { v := binary.LittleEndian.Uint32(b[at:]); at += 4; return v }
	u64 := func() uint64 { v := binary.LittleEndian.Uint64(b[at:]); at += 8; return v }
	str := func() (string, bool) {
		if !need(8) {
			return "", false
		}
		n := u64()
		if !need(n) {
			return "", false
		}
		s := string(b[at : at+int(n)])
		at += int(n)
		return s, true
	}
	size := [13]uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}
	if len(b) < 24 || string(b[:4]) != "GGUF" {
		return nil, bad("header")
	}
	at = 4
	if v := u32(); v != 2 && v != 3 {
		return nil, fmt.Errorf("tokenizer: %s: version: want 2 or 3, got %d", source, v)
	}
	u64()
	count := u64()
	kv := map[string]any{}
	for range count {
		key, ok := str()
		if !ok || !need(4) {
			return nil, bad("key")
		}
		typ := u32()
		switch {
		case typ == 8:
			s, ok := str()
			if !ok {
				return nil, bad(key)
			}
			kv[key] = s
		case typ == 9:
			if !need(12) {
				return nil, bad(key)
			}
			el, n := u32(), u64()
			if el == 8 {
				if n > uint64(len(b)-at)/8 {
					return nil, bad(key)
				}
				list := make([]string, n)
				for i := range list {
					if list[i], ok = str(); !ok {
						return nil, bad(key)
					}
				}
				kv[key] = list
				continue
			}
			if el > 12 || size[el] == 0 || n > uint64(len(b)-at)/size[el] {
				return nil, bad(key)
			}
			switch el {
			case 4, 5:
				list := make([]int32, n)
				for i := range list {
					list[i] = int32(u32())
				}
				kv[key] = list
			case 6:
				list := make([]float32, n)
				for i := range list {
					list[i] = math.Float32frombits(u32())
				}
				kv[key] = list
			default:
				at += int(n * size[el])
			}
		case typ > 12 || size[typ] == 0 || !need(size[typ]):
			return nil, bad(key)
		case typ == 4:
			kv[key] = u32()
		case typ == 5:
			kv[key] = int32(u32())
		case typ == 7:
			kv[key] = b[at] != 0
			at++
		case typ == 10:
			kv[key] = u64()
		case typ == 11:
			kv[key] = int64(u64())
		default:
			at += int(size[typ])
		}
	}
	return kv, nil
}
