package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Save writes the tokenizer into the folder dir. The files it was read from are copied byte for byte; where tokenizer.json
// is not among them it is written beside them, with a tokenizer_config.json that names no class of its own, so that
// transformers.AutoTokenizer reads it and gives the same ids.
func (t *Tokenizer) Save(dir string) error {
	files := maps.Clone(t.original)
	if files["tokenizer.json"] == nil {
		data, err := t.marshalJSON()
		if err != nil {
			return err
		}
		files["tokenizer.json"] = data
		if files["tokenizer_config.json"], err = t.marshalConfig(t.original["tokenizer_config.json"]); err != nil {
			return err
		}
	} else if files["tokenizer_config.json"] == nil {
		var err error
		if files["tokenizer_config.json"], err = t.marshalConfig(nil); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return fmt.Errorf("tokenizer: save: %w", err)
		}
	}
	return nil
}

// object is a JSON object of tokenizer.json.
type object = map[string]any

func typed(kind string, fields object) object {
	out := object{"type": kind}
	maps.Copy(out, fields)
	return out
}

func sequence(kind, field string, steps []object) any {
	switch len(steps) {
	case 0:
		return nil
	case 1:
		return steps[0]
	}
	return object{"type": kind, field: steps}
}

// marshalConfig writes tokenizer_config.json: the special tokens by role, and what base holds besides those and besides
// the class, whose code this tokenizer.json replaces.
func (t *Tokenizer) marshalConfig(base []byte) ([]byte, error) {
	config := object{}
	if base != nil {
		if err := json.Unmarshal(base, &config); err != nil {
			return nil, fmt.Errorf("tokenizer: save: tokenizer_config.json: %w", err)
		}
	}
	for _, key := range []string{"auto_map", "added_tokens_decoder", "legacy", "sp_model_kwargs", "use_fast", "add_prefix_space", "add_bos_token", "add_eos_token"} {
		delete(config, key)
	}
	config["tokenizer_class"] = "PreTrainedTokenizerFast"
	config["clean_up_tokenization_spaces"] = false
	for key, id := range map[string]int32{"bos_token": t.bos, "eos_token": t.eos, "pad_token": t.pad} {
		if id >= 0 {
			config[key] = t.Piece(id)
		}
	}
	if t.unk >= 0 {
		config["unk_token"] = t.Piece(t.unk)
	}
	if t.chatTemplate != "" && config["chat_template"] == nil {
		config["chat_template"] = t.chatTemplate
	}
	return marshal(config, "  ")
}

func marshal(v any, indent string) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("tokenizer: save: %w", err)
	}
	return buf.Bytes(), nil
}

// marshalJSON writes tokenizer.json.
func (t *Tokenizer) marshalJSON() ([]byte, error) {
	normalizer, err := t.marshalNormalizer()
	if err != nil {
		return nil, err
	}
	pre, err := t.marshalPre()
	if err != nil {
		return nil, err
	}
	model, err := t.marshalModel()
	if err != nil {
		return nil, err
	}
	added := []object{}
	for _, a := range slices.SortedFunc(slices.Values(t.added), func(a, b AddedToken) int { return cmp.Compare(a.ID, b.ID) }) {
		if t.byText[t.pieces[a.ID]] != a.ID || t.isUserPiece(a) {
			continue // a second id of the same text can never be produced
		}
		added = append(added, object{"id": a.ID, "content": t.pieces[a.ID], "single_word": a.SingleWord, "lstrip": a.LStrip,
			"rstrip": a.RStrip, "normalized": a.Normalized, "special": a.Special})
	}
	return marshal(object{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": normalizer,
		"pre_tokenizer": pre, "post_processor": t.marshalPost(), "decoder": t.marshalDecoder(), "model": model}, "")
}

// visible spells a space as tokenizer.json does in vocabularies over characters.
func (t *Tokenizer) visible(s string) string {
	if t.byteLevel {
		return s
	}
	return strings.ReplaceAll(s, " ", "\u2581")
}

func (t *Tokenizer) marshalNormalizer() (any, error) {
	forms := map[norm.Form]string{norm.NFC: "NFC", norm.NFD: "NFD", norm.NFKC: "NFKC", norm.NFKD: "NFKD"}
	var steps []object
	toMeta := func() {
		steps = append(steps, typed("Replace", object{"pattern": object{"String": " "}, "content": "\u2581"}))
	}
	for _, n := range t.normalizer {
		switch n := n.(type) {
		case formStep:
			steps = append(steps, object{"type": forms[n.form]})
		case lowerStep:
			steps = append(steps, object{"type": "Lowercase"})
		case prependStep:
			steps = append(steps, typed("Prepend", object{"prepend": t.visible(string(n))}))
		case stripStep:
			steps = append(steps, typed("Strip", object{"strip_left": n.left, "strip_right": n.right}))
		case charsmapStep:
			steps = append(steps, typed("Precompiled", object{"precompiled_charsmap": n.m.file}))
		case *replacePatternStep:
			steps = append(steps, typed("Replace", object{"pattern": object{"Regex": n.find.expr}, "content": t.visible(n.to)}))
		case replaceStep:
			if n == metaStep {
				toMeta()
				continue
			}
			steps = append(steps, typed("Replace", object{"pattern": object{"String": n.from}, "content": n.to}))
		case *spmStep:
			if n.spaceAsSuffix {
				return nil, fmt.Errorf("tokenizer: save: treat_whitespace_as_suffix has no form in tokenizer.json")
			}
			if n.charsmap != nil {
				steps = append(steps, typed("Precompiled", object{"precompiled_charsmap": n.charsmap.file}))
			}
			if n.removeSpaces {
				steps = append(steps, typed("Replace", object{"pattern": object{"Regex": patternEnds}, "content": ""}),
					typed("Replace", object{"pattern": object{"Regex": " {2,}"}, "content": " "}))
			}
			if n.dummyPrefix {
				steps = append(steps, typed("Prepend", object{"prepend": "\u2581"}))
			}
			toMeta()
		default:
			return nil, fmt.Errorf("tokenizer: save: normalizer %T has no form in tokenizer.json", n)
		}
	}
	return sequence("Sequence", "normalizers", steps), nil
}

func (t *Tokenizer) marshalPre() (any, error) {
	names := map[splitBehavior]string{}
	for name, b := range behaviors {
		names[b] = name
	}
	var steps []object
	if user := t.userPieces(); user != nil {
		steps = append(steps, typed("Split", object{"pattern": object{"Regex": alternation(user)}, "behavior": "Isolated", "invert": false}))
	}
	for i, p := range t.pre {
		switch {
		case p.prefixSpace && t.byteLevel:
			steps = append(steps, typed("ByteLevel", object{"add_prefix_space": true, "trim_offsets": true, "use_regex": false}))
			if i != len(t.pre)-1 {
				return nil, fmt.Errorf("tokenizer: save: a prefix space before a split has no form in tokenizer.json")
			}
			return sequence("Sequence", "pretokenizers", steps), nil
		case p.prefixSpace:
			scheme := "always"
			if p.firstOnly {
				scheme = "first"
			}
			steps = append(steps, typed("Metaspace", object{"replacement": "\u2581", "prepend_scheme": scheme, "split": false}))
		default:
			pattern := object{"Regex": p.split.expr}
			if lit, ok := p.split.pattern.(literalPattern); ok {
				pattern = object{"String": t.visible(string(lit))}
			}
			steps = append(steps, typed("Split", object{"pattern": pattern, "behavior": names[p.split.behavior], "invert": p.split.invert}))
		}
	}
	if t.byteLevel {
		steps = append(steps, typed("ByteLevel", object{"add_prefix_space": false, "trim_offsets": true, "use_regex": false}))
	}
	return sequence("Sequence", "pretokenizers", steps), nil
}

// isUserPiece reports whether a token is a user-defined piece of a SentencePiece vocabulary, which is matched in the
// normalised text: tokenizer.json has it as a pre-token that is a piece.
func (t *Tokenizer) isUserPiece(a AddedToken) bool {
	return a.Normalized && !a.Special && !t.byteLevel && !t.normalizeAdded
}

func (t *Tokenizer) userPieces() (texts []string) {
	for _, a := range t.added {
		if t.isUserPiece(a) {
			texts = append(texts, t.visible(a.Content))
		}
	}
	return texts
}

func (t *Tokenizer) marshalPost() any {
	single := []object{}
	special := object{}
	add := func(ids []int32) {
		for _, id := range ids {
			p := t.Piece(id)
			single = append(single, object{"SpecialToken": object{"id": p, "type_id": 0}})
			special[p] = object{"id": p, "ids": []int32{id}, "tokens": []string{p}}
		}
	}
	add(t.prefix)
	single = append(single, object{"Sequence": object{"id": "A", "type_id": 0}})
	add(t.suffix)
	pair := slices.Clone(single)
	for _, part := range single {
		if _, ok := part["Sequence"]; ok {
			part = object{"Sequence": object{"id": "B", "type_id": 1}}
		}
		pair = append(pair, part)
	}
	return typed("TemplateProcessing", object{"single": single, "pair": pair, "special_tokens": special})
}

func (t *Tokenizer) marshalDecoder() any {
	if t.byteLevel {
		return typed("ByteLevel", object{"add_prefix_space": true, "trim_offsets": true, "use_regex": true})
	}
	steps := []object{
		typed("Replace", object{"pattern": object{"String": "\u2581"}, "content": " "}),
		{"type": "ByteFallback"}, {"type": "Fuse"},
	}
	if t.decode.stripSpace || t.decode.stripAll {
		steps = append(steps, typed("Strip", object{"content": " ", "start": 1, "stop": 0}))
	}
	return sequence("Sequence", "decoders", steps)
}

// marshalVocab writes the pieces in id order. Reserved ids are left out: a vocabulary may have gaps.
func (t *Tokenizer) marshalVocab() (json.RawMessage, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for id, p := range t.pieces {
		if p == "" || t.byText[p] != int32(id) || t.byteLevel && t.kinds[id] == Unused {
			continue
		}
		key, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("tokenizer: save: %w", err)
		}
		if buf.Len() > 1 {
			buf.WriteByte(',')
		}
		fmt.Fprintf(&buf, "%s:%d", key, id)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

func (t *Tokenizer) marshalModel() (object, error) {
	if t.unigram != nil {
		return t.marshalUnigram(), nil
	}
	vocab, err := t.marshalVocab()
	if err != nil {
		return nil, err
	}
	merges, err := t.marshalMerges()
	if err != nil {
		return nil, err
	}
	var unk any
	if t.bpe.unk >= 0 {
		unk = t.Piece(t.bpe.unk)
	}
	return object{"type": "BPE", "dropout": nil, "unk_token": unk, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": t.bpe.fuseUnk, "byte_fallback": t.bpe.fallback, "ignore_merges": t.bpe.ignoreMerges || t.userPieces() != nil, "vocab": vocab, "merges": merges}, nil
}

// Merges returns the merges of a BPE vocabulary in order of rank, as ids: the left symbol, the right one and the piece
// they become. Of merges with one rank the longer left symbol comes first, as in conversions of SentencePiece models.
// Symbols at VocabSize and above are characters that are no piece.
func (t *Tokenizer) Merges() [][3]int32 {
	if t.bpe == nil {
		return nil
	}
	type merge struct {
		ids  [3]int32
		rank uint32
	}
	var list []merge
	t.bpe.pairs.each(func(left, right int32, order uint32) {
		list = append(list, merge{[3]int32{left, right, t.bpe.pairs.id[order]}, t.bpe.pairs.rankOf(order)})
	})
	length := func(id int32) int {
		if int(id) < len(t.bpe.toks) {
			return len(t.bpe.toks[id])
		}
		return 1
	}
	slices.SortFunc(list, func(a, b merge) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(length(b.ids[0]), length(a.ids[0])), cmp.Compare(length(b.ids[1]), length(a.ids[1])), cmp.Compare(a.ids[2], b.ids[2]))
	})
	out := make([][3]int32, len(list))
	for i, m := range list {
		out[i] = m.ids
	}
	return out
}

// spell is a symbol as vocabulary files write it.
func (t *Tokenizer) spell(id int32) string {
	if t.byteLevel {
		return toAlphabet(view(t.bpe.toks[id]))
	}
	return t.visible(t.bpe.toks[id])
}

func (t *Tokenizer) marshalMerges() ([][2]string, error) {
	merges := t.Merges()
	out := make([][2]string, 0, len(merges))
	for _, m := range merges {
		for _, id := range m[:2] {
			if int(id) >= len(t.bpe.toks) {
				return nil, fmt.Errorf("tokenizer: save: piece %q: holds a character that is no piece, for which tokenizer.json has no form", t.Piece(m[2]))
			}
		}
		out = append(out, [2]string{t.spell(m[0]), t.spell(m[1])})
	}
	return out, nil
}
