package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// The parts of tokenizer.json (Hugging Face tokenizers, serialized form).
type (
	jsonPattern struct{ String, Regex string }
	jsonStep    struct {
		Type           string
		Normalizers    []jsonStep
		Pretokenizers  []jsonStep
		Decoders       []jsonStep
		Processors     []jsonStep
		Prepend        string
		Pattern        jsonPattern
		Content        string
		Behavior       string
		Invert         bool
		AddPrefixSpace bool   `json:"add_prefix_space"`
		UseRegex       *bool  `json:"use_regex"`
		Individual     bool   `json:"individual_digits"`
		PrependScheme  string `json:"prepend_scheme"`
		Split          *bool
		Start          int
		Single         []map[string]struct{ ID string }
		SpecialTokens  map[string]struct{ IDs []int32 } `json:"special_tokens"`
	}
	jsonFile struct {
		Added []struct {
			ID         int32
			Content    string
			SingleWord bool `json:"single_word"`
			LStrip     bool
			RStrip     bool
			Normalized bool
			Special    bool
		} `json:"added_tokens"`
		Normalizer    *jsonStep
		PreTokenizer  *jsonStep `json:"pre_tokenizer"`
		PostProcessor *jsonStep `json:"post_processor"`
		Decoder       *jsonStep
		Model         struct {
			Type         string
			Dropout      *float64
			Unk          *string `json:"unk_token"`
			FuseUnk      bool    `json:"fuse_unk"`
			ByteFallback bool    `json:"byte_fallback"`
			IgnoreMerges bool    `json:"ignore_merges"`
			Prefix       string  `json:"continuing_subword_prefix"`
			Suffix       string  `json:"end_of_word_suffix"`
			Vocab        map[string]int64
			Merges       []json.RawMessage
		}
	}
)

// fromJSON reads a tokenizer.json with a BPE model.
func fromJSON(source string, data []byte) (*Tokenizer, error) {
	t := newTokenizer(source)
	var f jsonFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", source, err)
	}
	if (f.Model.Type != "BPE" && f.Model.Type != "") || f.Model.Prefix != "" || f.Model.Suffix != "" || f.Model.Dropout != nil && *f.Model.Dropout != 0 {
		return nil, t.fail("model", "want a BPE model without affixes and dropout, got %q", f.Model.Type)
	}
	var added []AddedToken
	for _, a := range f.Added {
		added = append(added, AddedToken{a.ID, a.Content, a.Special, a.LStrip, a.RStrip, a.SingleWord, a.Normalized})
	}
	pieces, err := t.pieceList("model.vocab", f.Model.Vocab, added)
	if err != nil {
		return nil, err
	}
	kinds := make([]Kind, len(pieces))
	for i := range kinds {
		kinds[i] = Normal
		if pieces[i] == "" {
			kinds[i] = Unused
		}
	}
	merges := make([][2]string, len(f.Model.Merges))
	for i, raw := range f.Model.Merges {
		var line string
		if json.Unmarshal(raw, &merges[i]) == nil {
			continue
		}
		if err := json.Unmarshal(raw, &line); err != nil {
			return nil, t.fail(fmt.Sprintf("model.merges[%d]", i), "want a string or a pair of strings")
		}
		a, b, ok := strings.Cut(line, " ")
		if !ok || a == "" || b == "" {
			return nil, t.fail(fmt.Sprintf("model.merges[%d]", i), "want two pieces, got %q", clip(line))
		}
		merges[i] = [2]string{a, b}
	}
	bytesLevel := false
	if f.PreTokenizer != nil {
		if bytesLevel, err = t.readPre(f.PreTokenizer); err != nil {
			return nil, err
		}
	}
	if f.Normalizer != nil {
		if err := t.readNormalizer(f.Normalizer); err != nil {
			return nil, err
		}
	}
	if bytesLevel {
		for i := range merges {
			for k := range merges[i] {
				merges[i][k], _ = fromAlphabet(merges[i][k])
			}
		}
		if err := t.initAlphabet(pieces, kinds, merges); err != nil {
			return nil, err
		}
	} else if err := t.initCharJSON(&f, pieces, kinds, merges); err != nil {
		return nil, err
	}
	t.model.ignoreMerges = f.Model.IgnoreMerges
	for _, a := range added {
		t.pieces[a.ID], t.kinds[a.ID] = a.Content, UserDefined
		if a.Special {
			t.kinds[a.ID] = Control
		}
		t.bytes[a.ID] = a.Content
		if bytesLevel {
			t.bytes[a.ID], _ = fromAlphabet(a.Content)
		}
		t.byText[a.Content] = a.ID
	}
	for i := range added {
		if added[i].Normalized && len(t.normalizer) > 0 {
			added[i].Content = string(normalize(t.normalizer, []byte(added[i].Content), nil))
		}
	}
	t.setAdded(added)
	if f.PostProcessor != nil {
		if err := t.readPost(f.PostProcessor); err != nil {
			return nil, err
		}
	}
	if f.Decoder != nil {
		t.readDecoder(f.Decoder)
	}
	if len(t.prefix) > 0 {
		t.bos = t.prefix[0]
	}
	return t, nil
}

// initCharJSON builds a BPE over characters, as conversions of SentencePiece models have it.
func (t *Tokenizer) initCharJSON(f *jsonFile, pieces []string, kinds []Kind, merges [][2]string) error {
	m := &bpe{toks: make([]string, len(pieces)), chars: true, unk: -1, fuseUnk: f.Model.FuseUnk, fallback: f.Model.ByteFallback, metaByte: true}
	decoded := make([]string, len(pieces))
	for i := range m.byteID {
		m.byteID[i] = -1
	}
	for i, p := range pieces {
		text := strings.ReplaceAll(p, "\u2581", " ")
		decoded[i] = text
		var v int
		if n, _ := fmt.Sscanf(p, "<0x%02X>", &v); m.fallback && n == 1 && len(p) == 6 && v < 256 {
			m.byteID[v], kinds[i], decoded[i] = int32(i), Byte, string([]byte{byte(v)})
			continue
		}
		if text != p || !strings.Contains(p, " ") { // a piece with a plain space can never occur
			m.toks[i] = text
		}
	}
	m.table = newStringTable(m.toks)
	m.finish()
	for i := range merges {
		for k := range merges[i] {
			merges[i][k] = strings.ReplaceAll(merges[i][k], "\u2581", " ")
		}
	}
	if err := t.addMerges(m, merges); err != nil {
		return err
	}
	if f.Model.Unk != nil {
		id, ok := f.Model.Vocab[*f.Model.Unk]
		if !ok {
			return t.fail("model.unk_token", "%q is not in the vocabulary", clip(*f.Model.Unk))
		}
		m.unk = int32(id)
	}
	t.model = m
	t.setPieces(pieces, decoded, kinds)
	return nil
}

func (t *Tokenizer) readNormalizer(s *jsonStep) error {
	add := func(n normStep) error { t.normalizer = append(t.normalizer, n); return nil }
	switch s.Type {
	case "Sequence":
		for i := range s.Normalizers {
			if err := t.readNormalizer(&s.Normalizers[i]); err != nil {
				return err
			}
		}
		return nil
	case "NFC":
		return add(formStep{norm.NFC})
	case "NFD":
		return add(formStep{norm.NFD})
	case "NFKC":
		return add(formStep{norm.NFKC})
	case "NFKD":
		return add(formStep{norm.NFKD})
	case "Lowercase":
		return add(lowerStep{})
	case "Prepend":
		return add(prependStep(strings.ReplaceAll(s.Prepend, "\u2581", " ")))
	case "Replace":
		if s.Pattern.String == " " && s.Content == "\u2581" {
			return add(metaStep)
		}
		if s.Pattern.String != "" {
			return add(replaceStep{s.Pattern.String, s.Content})
		}
	}
	return t.fail("normalizer", "%q is not supported", clip(s.Type))
}

var behaviors = map[string]splitBehavior{"Isolated": splitIsolated, "Removed": splitRemoved, "MergedWithPrevious": splitWithPrevious,
	"MergedWithNext": splitWithNext, "Contiguous": splitContiguous}

// readPre reads the pre-tokenizer and reports whether it ends in bytes.
func (t *Tokenizer) readPre(s *jsonStep) (bytesLevel bool, err error) {
	add := func(expr string, b splitBehavior, invert bool) error {
		p, err := newPattern(expr)
		if err != nil {
			return t.fail("pre_tokenizer", "%v", err)
		}
		t.pre = append(t.pre, preStep{split: &splitter{p, b, invert}})
		return nil
	}
	switch s.Type {
	case "Sequence":
		for i := range s.Pretokenizers {
			b, err := t.readPre(&s.Pretokenizers[i])
			if err != nil {
				return false, err
			}
			bytesLevel = bytesLevel || b
		}
		return bytesLevel, nil
	case "ByteLevel":
		if s.AddPrefixSpace {
			t.pre = append(t.pre, preStep{prefixSpace: true})
		}
		if s.UseRegex == nil || *s.UseRegex {
			err = add(patternGPT2, splitIsolated, false)
		}
		return true, err
	case "Split":
		b, ok := behaviors[s.Behavior]
		if !ok {
			return false, t.fail("pre_tokenizer", "behavior %q is not known", clip(s.Behavior))
		}
		if s.Pattern.String != "" {
			t.pre = append(t.pre, preStep{split: &splitter{literalPattern(s.Pattern.String), b, s.Invert}})
			return false, nil
		}
		return false, add(s.Pattern.Regex, b, s.Invert)
	case "Digits":
		if s.Individual {
			return false, add(`\p{N}`, splitIsolated, false)
		}
		return false, add(`\p{N}+`, splitIsolated, false)
	case "Metaspace":
		t.normalizer = append(t.normalizer, metaStep)
		if s.PrependScheme != "never" {
			t.pre = append(t.pre, preStep{prefixSpace: true, firstOnly: s.PrependScheme == "first"})
		}
		if s.Split == nil || *s.Split {
			t.pre = append(t.pre, preStep{split: &splitter{literalPattern(" "), splitWithNext, false}})
		}
		return false, nil
	}
	return false, t.fail("pre_tokenizer", "%q is not supported", clip(s.Type))
}

func (t *Tokenizer) readPost(s *jsonStep) error {
	switch s.Type {
	case "ByteLevel":
		return nil
	case "Sequence":
		for i := range s.Processors {
			if err := t.readPost(&s.Processors[i]); err != nil {
				return err
			}
		}
		return nil
	case "TemplateProcessing":
		after := false
		for _, part := range s.Single {
			if sp, ok := part["SpecialToken"]; ok {
				if after {
					t.suffix = append(t.suffix, s.SpecialTokens[sp.ID].IDs...)
				} else {
					t.prefix = append(t.prefix, s.SpecialTokens[sp.ID].IDs...)
				}
			}
			if _, ok := part["Sequence"]; ok {
				after = true
			}
		}
		return nil
	}
	return t.fail("post_processor", "%q is not supported", clip(s.Type))
}

func (t *Tokenizer) readDecoder(s *jsonStep) {
	switch s.Type {
	case "Sequence":
		for i := range s.Decoders {
			t.readDecoder(&s.Decoders[i])
		}
	case "ByteFallback":
		t.decode.wholeRuns = true
	case "Strip":
		t.decode.stripSpace = s.Content == " " && s.Start > 0
	case "Metaspace":
		t.decode.stripSpace = s.PrependScheme != "never"
	}
}
