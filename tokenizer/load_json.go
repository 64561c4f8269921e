package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
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
		Charsmap       []byte `json:"precompiled_charsmap"`
		StripLeft      bool   `json:"strip_left"`
		StripRight     bool   `json:"strip_right"`
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
			UnkID        *int32  `json:"unk_id"`
			Vocab        json.RawMessage
			Merges       []json.RawMessage
		}
	}
)

// plainSpaces turns the pieces' spelling of a space into the space itself.
func plainSpaces(s string) string { return strings.ReplaceAll(s, "\u2581", " ") }

// fromJSON reads a tokenizer.json with a BPE or unigram model.
func fromJSON(source string, data []byte) (*Tokenizer, error) {
	t := newTokenizer(source)
	t.normalizeAdded = true
	var f jsonFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", source, err)
	}
	if f.Model.Prefix != "" || f.Model.Suffix != "" || f.Model.Dropout != nil && *f.Model.Dropout != 0 {
		return nil, t.fail("model", "want no continuing_subword_prefix, end_of_word_suffix and dropout")
	}
	var added []AddedToken
	for _, a := range f.Added {
		if a.ID < 0 || a.ID >= maxVocab {
			return nil, t.fail("added_tokens", "id of %q: want 0 to %d, got %d", clip(a.Content), maxVocab-1, a.ID)
		}
		added = append(added, AddedToken{a.ID, a.Content, a.Special, a.LStrip, a.RStrip, a.SingleWord, a.Normalized})
	}
	if f.Normalizer != nil {
		if err := t.readNormalizer(f.Normalizer); err != nil {
			return nil, err
		}
	}
	bytesLevel := false
	if f.PreTokenizer != nil {
		var err error
		if bytesLevel, err = t.readPre(f.PreTokenizer); err != nil {
			return nil, err
		}
	}
	var err error
	switch f.Model.Type {
	case "BPE", "":
		err = t.readBPE(&f, added, bytesLevel)
	case "Unigram":
		err = t.readUnigram(&f, added)
	default:
		err = t.fail("model.type", "want BPE or Unigram, got %q", clip(f.Model.Type))
	}
	if err != nil {
		return nil, err
	}
	for _, a := range added {
		t.place(a)
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

// place gives an added token its id in the tables, which reach so far.
func (t *Tokenizer) place(a AddedToken) {
	t.pieces[a.ID], t.kinds[a.ID], t.bytes[a.ID] = a.Content, UserDefined, a.Content
	if a.Special {
		t.kinds[a.ID] = Control
	}
	if t.byteLevel {
		t.bytes[a.ID], _ = fromAlphabet(a.Content)
	}
	t.byText[a.Content] = a.ID
}

func (t *Tokenizer) readBPE(f *jsonFile, added []AddedToken, bytesLevel bool) error {
	var vocab map[string]int64
	if err := json.Unmarshal(f.Model.Vocab, &vocab); err != nil {
		return t.fail("model.vocab", "%v", err)
	}
	pieces, err := t.pieceList("model.vocab", vocab, added)
	if err != nil {
		return err
	}
	kinds := make([]Kind, len(pieces))
	for i := range kinds {
		kinds[i] = Normal
		if pieces[i] == "" {
			kinds[i] = Unused
		}
	}
	merges, err := t.readMerges(f.Model.Merges)
	if err != nil {
		return err
	}
	if !bytesLevel {
		err = t.initCharJSON(f, vocab, pieces, kinds, merges)
	} else {
		for i := range merges {
			for k := range merges[i] {
				merges[i][k], _ = fromAlphabet(merges[i][k])
			}
		}
		err = t.initAlphabet(pieces, kinds, merges)
	}
	if err != nil {
		return err
	}
	t.bpe.ignoreMerges = f.Model.IgnoreMerges
	return nil
}

// readMerges reads merges as pairs of pieces, or as lines with a space between them (files of before 2024).
func (t *Tokenizer) readMerges(list []json.RawMessage) ([][2]string, error) {
	merges := make([][2]string, len(list))
	for i, raw := range list {
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
	return merges, nil
}

// readUnigram reads a model of pieces with scores.
func (t *Tokenizer) readUnigram(f *jsonFile, added []AddedToken) error {
	var vocab []scoredPiece
	if err := json.Unmarshal(f.Model.Vocab, &vocab); err != nil {
		return t.fail("model.vocab", "%v", err)
	}
	n := len(vocab)
	if n == 0 || n > maxVocab {
		return t.fail("model.vocab", "want 1 to %d pieces, got %d", maxVocab, n)
	}
	control := map[int32]bool{}
	for _, a := range added {
		n = max(n, int(a.ID)+1)
		control[a.ID] = a.Special
	}
	m := &unigram{toks: make([]string, len(vocab)), scores: make([]float32, len(vocab)), unk: -1, fuseUnk: true, fallback: f.Model.ByteFallback}
	if id := f.Model.UnkID; id != nil {
		if *id < 0 || int(*id) >= len(vocab) {
			return t.fail("model.unk_id", "want 0 to %d, got %d", len(vocab)-1, *id)
		}
		m.unk, t.unk = *id, *id
	}
	pieces, decoded, kinds := make([]string, n), make([]string, n), make([]Kind, n)
	bytesFound := 0
	for i := range n {
		kinds[i] = Unused
		if i >= len(vocab) {
			continue
		}
		p := vocab[i].piece
		pieces[i], decoded[i], kinds[i], m.scores[i] = p, plainSpaces(p), Normal, vocab[i].score
		if b, ok := byteOfPiece(p); ok && m.fallback {
			m.byteID[b], kinds[i], decoded[i] = int32(i), Byte, string([]byte{b})
			bytesFound++
		} else if int32(i) != m.unk && !control[int32(i)] {
			m.toks[i] = plainSpaces(p)
		}
	}
	if m.fallback && bytesFound < 256 {
		return t.fail("model.byte_fallback", "want the 256 byte pieces, got %d", bytesFound)
	}
	if err := m.finish(); err != nil {
		return t.fail("model.vocab", "%v", err)
	}
	t.model, t.unigram = m, m
	t.setPieces(pieces, decoded, kinds)
	return nil
}

// scoredPiece is a pair [piece, score].
type scoredPiece struct {
	piece string
	score float32
}

func (p *scoredPiece) UnmarshalJSON(data []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("want [piece, score], got %s", clip(string(data)))
	}
	if err := json.Unmarshal(pair[0], &p.piece); err != nil {
		return err
	}
	return json.Unmarshal(pair[1], &p.score)
}

// initCharJSON builds a BPE over characters, as conversions of SentencePiece models have it.
func (t *Tokenizer) initCharJSON(f *jsonFile, vocab map[string]int64, pieces []string, kinds []Kind, merges [][2]string) error {
	m := &bpe{toks: make([]string, len(pieces)), chars: true, unk: -1, fuseUnk: f.Model.FuseUnk, fallback: f.Model.ByteFallback, metaByte: true}
	decoded := make([]string, len(pieces))
	for i := range m.byteID {
		m.byteID[i] = -1
	}
	for i, p := range pieces {
		text := plainSpaces(p)
		decoded[i] = text
		if b, ok := byteOfPiece(p); ok && m.fallback {
			m.byteID[b], kinds[i], decoded[i] = int32(i), Byte, string([]byte{b})
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
			merges[i][k] = plainSpaces(merges[i][k])
		}
	}
	if err := t.addMerges(m, merges); err != nil {
		return err
	}
	if f.Model.Unk != nil {
		id, ok := vocab[*f.Model.Unk]
		if !ok {
			return t.fail("model.unk_token", "%q is not in the vocabulary", clip(*f.Model.Unk))
		}
		m.unk, t.unk = int32(id), int32(id)
	}
	t.model, t.bpe = m, m
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
		return add(prependStep(plainSpaces(s.Prepend)))
	case "Replace":
		if s.Pattern.String == " " && s.Content == "\u2581" {
			return add(metaStep)
		}
		if s.Pattern.String != "" {
			return add(replaceStep{s.Pattern.String, plainSpaces(s.Content)})
		}
		p, err := newPattern(s.Pattern.Regex)
		if err != nil {
			return t.fail("normalizer", "%v", err)
		}
		return add(&replacePatternStep{&splitter{expr: s.Pattern.Regex, pattern: p}, plainSpaces(s.Content)})
	case "Strip":
		return add(stripStep{s.StripLeft, s.StripRight})
	case "Precompiled":
		c, err := newCharsmap(s.Charsmap)
		if err != nil {
			return t.fail("normalizer.precompiled_charsmap", "%v", err)
		}
		return add(charsmapStep{c})
	}
	return t.fail("normalizer", "%q is not supported", clip(s.Type))
}

var behaviors = map[string]splitBehavior{"Isolated": splitIsolated, "Removed": splitRemoved, "MergedWithPrevious": splitWithPrevious,
	"MergedWithNext": splitWithNext, "Contiguous": splitContiguous}

// readPre reads the pre-tokenizer and reports whether it ends in bytes.
func (t *Tokenizer) readPre(s *jsonStep) (bytesLevel bool, err error) {
	plain := func(s string) string { return s }
	if slices.Contains(t.normalizer, normStep(metaStep)) {
		plain = plainSpaces
	}
	add := func(expr string, b splitBehavior, invert bool) error {
		expr = plain(expr)
		p, err := newPattern(expr)
		if err != nil {
			return t.fail("pre_tokenizer", "%v", err)
		}
		t.pre = append(t.pre, preStep{split: &splitter{expr, p, b, invert}})
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
			t.pre = append(t.pre, preStep{split: &splitter{"", literalPattern(plain(s.Pattern.String)), b, s.Invert}})
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
			t.pre = append(t.pre, preStep{split: &splitter{"", literalPattern(" "), splitWithNext, false}})
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
