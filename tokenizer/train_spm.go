package tokenizer

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SPMTrainer trains a SentencePiece BPE vocabulary with spm_train's options, the same pieces and scores as
// sentencepiece's bpe_model_trainer.cc. DefaultSPM has the defaults.
//
// What makes it fast changes no result: a sentence is cut wherever no piece may cross (white space, a change of script,
// digits), and equal parts are counted instead of kept.
type SPMTrainer struct {
	VocabSize                 int
	CharacterCoverage         float32
	MaxSentenceLength         int // in bytes; longer lines are left out
	MaxSentencePieceLength    int // in characters
	ByteFallback              bool
	SplitByUnicodeScript      bool
	SplitByNumber             bool
	SplitByWhitespace         bool
	SplitDigits               bool
	TreatWhitespaceAsSuffix   bool
	AllowWhitespaceOnlyPieces bool
	ControlSymbols            []string
	UserDefinedSymbols        []string
	RequiredChars             string
	UnkID, BOSID, EOSID       int32 // -1: none
	PadID                     int32
	UnkPiece, BOSPiece        string
	EOSPiece, PadPiece        string
	UnkSurface                string
	NormalizationRuleName     string // identity, nfkc, nfkc_cf, nmt_nfkc, nmt_nfkc_cf
	AddDummyPrefix            bool
	RemoveExtraWhitespaces    bool
	HardVocabLimit            bool
	Tell                      func(symbols int) // progress of Train, may be nil

	count   wordCount
	classes *scriptTable
	meta    []metaPiece // by id order
	match   *matcher    // the meta pieces' texts, which no piece may hold
	norm    *spmStep
}

// DefaultSPM returns spm_train's defaults for BPE.
func DefaultSPM() *SPMTrainer {
	return &SPMTrainer{VocabSize: 8000, CharacterCoverage: 0.9995, MaxSentenceLength: 4192, MaxSentencePieceLength: 16,
		SplitByUnicodeScript: true, SplitByNumber: true, SplitByWhitespace: true, UnkID: 0, BOSID: 1, EOSID: 2, PadID: -1,
		UnkPiece: "<unk>", BOSPiece: "<s>", EOSPiece: "</s>", PadPiece: "<pad>", UnkSurface: " \u2047 ",
		NormalizationRuleName: "nmt_nfkc", AddDummyPrefix: true, RemoveExtraWhitespaces: true, HardVocabLimit: true}
}

const (
	unkChar      = 0x2585 // stands for characters outside the alphabet; no piece holds it
	boundaryChar = '\t'   // stands for meta pieces
)

type metaPiece struct {
	id    int32
	piece string
	kind  Kind
}

func (s *SPMTrainer) words() *wordCount {
	if s.count.table == nil {
		s.count = newWordCount()
	}
	return &s.count
}

func (s *SPMTrainer) options() string {
	return fmt.Sprintf("sentencepiece %s %v %v %v %v %v %v %v %v %d %q", s.NormalizationRuleName, s.AddDummyPrefix, s.RemoveExtraWhitespaces,
		s.SplitByUnicodeScript, s.SplitByNumber, s.SplitByWhitespace, s.SplitDigits, s.TreatWhitespaceAsSuffix,
		s.AllowWhitespaceOnlyPieces, s.MaxSentenceLength, s.meta)
}

func (s *SPMTrainer) fork() (Trainer, error) {
	if err := s.start(); err != nil {
		return nil, err
	}
	f := *s
	f.count = newWordCount()
	return &f, nil
}

func (s *SPMTrainer) start() error {
	if s.classes != nil {
		return nil
	}
	if s.CharacterCoverage < 0.98 || s.CharacterCoverage > 1 {
		return fmt.Errorf("tokenizer: train: character_coverage: want 0.98 to 1, got %g", s.CharacterCoverage)
	}
	if s.MaxSentencePieceLength < 1 || s.MaxSentencePieceLength > 512 {
		return fmt.Errorf("tokenizer: train: max_sentencepiece_length: want 1 to 512, got %d", s.MaxSentencePieceLength)
	}
	if s.MaxSentenceLength < 1 || s.MaxSentenceLength > maxLine {
		return fmt.Errorf("tokenizer: train: max_sentence_length: want 1 to %d, got %d", maxLine, s.MaxSentenceLength)
	}
	if err := s.placeMeta(); err != nil {
		return err
	}
	rule, err := normalizationRule(s.NormalizationRuleName)
	if err != nil {
		return err
	}
	var list []AddedToken
	for _, m := range s.meta {
		list = append(list, AddedToken{ID: m.id, Content: m.piece})
	}
	s.match = newMatcher(list)
	s.norm = &spmStep{charsmap: rule, keep: s.match, dummyPrefix: s.AddDummyPrefix, removeSpaces: s.RemoveExtraWhitespaces, spaceAsSuffix: s.TreatWhitespaceAsSuffix}
	s.classes = newScriptTable()
	return nil
}

// placeMeta gives ids to the pieces that are not learnt: those with an id of their own, then control symbols, user
// symbols and bytes at the lowest free ids.
func (s *SPMTrainer) placeMeta() error {
	used := map[int32]metaPiece{}
	put := func(option string, id int32, piece string, kind Kind) error {
		if id < 0 {
			return nil
		}
		if old, taken := used[id]; taken || int(id) >= s.VocabSize {
			return fmt.Errorf("tokenizer: train: %s: want a free id below %d, got %d %s", option, s.VocabSize, id, old.piece)
		}
		used[id] = metaPiece{id, piece, kind}
		return nil
	}
	if s.UnkID < 0 {
		return fmt.Errorf("tokenizer: train: unk_id: want 0 or more, got %d", s.UnkID)
	}
	roles := []struct {
		option string
		id     int32
		piece  string
		kind   Kind
	}{{"unk_id", s.UnkID, s.UnkPiece, Unknown}, {"bos_id", s.BOSID, s.BOSPiece, Control}, {"eos_id", s.EOSID, s.EOSPiece, Control}, {"pad_id", s.PadID, s.PadPiece, Control}}
	for _, r := range roles {
		if err := put(r.option, r.id, r.piece, r.kind); err != nil {
			return err
		}
	}
	free := int32(0)
	seen := map[string]bool{}
	insert := func(option, piece string, kind Kind) error {
		if piece == "" || seen[piece] || piece == s.UnkPiece {
			return fmt.Errorf("tokenizer: train: %s: %q is empty, defined twice or the unknown piece", option, piece)
		}
		seen[piece] = true
		for _, r := range roles[1:] {
			if r.piece == piece && r.id >= 0 {
				used[r.id] = metaPiece{r.id, piece, kind}
				return nil
			}
		}
		for _, taken := used[free]; taken; _, taken = used[free] {
			free++
		}
		used[free] = metaPiece{free, piece, kind}
		return nil
	}
	for _, p := range s.ControlSymbols {
		if err := insert("control_symbols", p, Control); err != nil {
			return err
		}
	}
	for _, p := range s.UserDefinedSymbols {
		if err := insert("user_defined_symbols", p, UserDefined); err != nil {
			return err
		}
	}
	if s.ByteFallback {
		for b := range 256 {
			if err := insert("byte_fallback", fmt.Sprintf("<0x%02X>", b), Byte); err != nil {
				return err
			}
		}
	}
	s.meta = slices.SortedFunc(maps.Values(used), func(a, b metaPiece) int { return cmp.Compare(a.id, b.id) })
	return nil
}

// Add counts the words of one line.
func (s *SPMTrainer) Add(line []byte) error {
	if err := s.start(); err != nil {
		return err
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	switch {
	case len(line) == 0:
		return nil
	case len(line) > s.MaxSentenceLength:
		s.words().long++
		return nil
	case bytes.Contains(line, []byte("\u2585")):
		return nil // reserved
	}
	if !utf8.Valid(line) {
		line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	}
	text := s.norm.apply(line)
	s.match.split(text, nil, func(part []byte, id int32, _ bool) {
		if id >= 0 {
			s.words().chars[boundaryChar]++
		} else {
			s.addPart(part)
		}
	})
	return nil
}

// addPart counts the words of a text without meta pieces. Spaces are plain.
func (s *SPMTrainer) addPart(text []byte) {
	w := s.words()
	start := 0
	prev := scriptClass(0)
	chars := 0
	flush := func(end int) {
		if chars > 1 {
			w.table.add(text[start:end], 1)
		} else {
			for _, r := range string(text[start:end]) {
				w.chars[r]++
			}
		}
		start, chars = end, 0
	}
	for i := 0; i < len(text); {
		r, n := runeAt(text, i)
		c := s.classes.of(r)
		if chars > 0 && s.cuts(prev, c) {
			flush(i)
		}
		chars++
		prev = c
		i += n
	}
	if chars > 0 {
		flush(len(text))
	}
}

// cuts reports whether no piece may hold two neighbours of the classes. What it does not see, allowed does.
func (s *SPMTrainer) cuts(a, b scriptClass) bool {
	switch {
	case a == classBoundary || b == classBoundary:
		return true
	case a == classSpace || b == classSpace:
		if !s.SplitByWhitespace {
			return false
		}
		if s.TreatWhitespaceAsSuffix {
			return a == classSpace && (b != classSpace || !s.AllowWhitespaceOnlyPieces)
		}
		return b == classSpace && (a != classSpace || !s.AllowWhitespaceOnlyPieces)
	case s.SplitDigits && (a.digit() || b.digit()):
		return true
	case !s.SplitByUnicodeScript || a.script() == classInherited || b.script() == classInherited:
		return false
	case !s.SplitByNumber && (a.digit() || b.digit()):
		return false
	}
	return a.script() != b.script()
}

// allowed reports whether a text may be a piece (trainer_interface.cc, IsValidSentencePiece). Spaces are plain.
func (s *SPMTrainer) allowed(piece []rune) bool {
	if len(piece) > s.MaxSentencePieceLength {
		return false
	}
	const anyScript = scriptClass(0xff)
	prev := anyScript
	blank := !slices.ContainsFunc(piece, func(r rune) bool { return r != ' ' })
	for i, r := range piece {
		c := s.classes.of(r)
		if c == classBoundary {
			return false
		}
		if c == classSpace {
			if !s.spaceAllowed(i, len(piece), blank) {
				return false
			}
			continue
		}
		script := c.script()
		if script == classInherited {
			script = prev
		}
		if !s.SplitByNumber && c.digit() {
			script = anyScript
		}
		if s.SplitByUnicodeScript && script != anyScript && prev != anyScript && script != prev {
			return false
		}
		if s.SplitDigits && c.digit() && len(piece) > 1 {
			return false
		}
		prev = script
	}
	return true
}

// spaceAllowed reports whether a piece of n characters may hold a space at i: at its start, or at its end where spaces
// are suffixes; inside only where words are not split.
func (s *SPMTrainer) spaceAllowed(i, n int, blank bool) bool {
	switch {
	case s.AllowWhitespaceOnlyPieces && blank:
		return true
	case s.TreatWhitespaceAsSuffix:
		return i == n-1 || !s.SplitByWhitespace && i > 0
	}
	return i == 0 || !s.SplitByWhitespace && i < n-1
}

// alphabet returns the characters that must be pieces, most frequent first: those that cover CharacterCoverage of the
// text, and RequiredChars.
func (s *SPMTrainer) alphabet() []rune {
	w := s.words()
	counts := maps.Clone(w.chars)
	w.table.each(func(word []byte, n int64) {
		for i := 0; i < len(word); {
			r, size := runeAt(word, i)
			counts[r] += n
			i += size
		}
	})
	delete(counts, 0)
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	for _, r := range s.RequiredChars {
		if _, ok := counts[r]; !ok {
			counts[r] = 0
		}
	}
	shown := func(r rune) rune { // as pieces spell it
		if r == ' ' {
			return metaSpace
		}
		return r
	}
	order := slices.SortedFunc(maps.Keys(counts), func(a, b rune) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(shown(a), shown(b)))
	})
	covered := int64(0)
	for i, r := range order {
		if float32(float64(covered)/float64(total)) >= s.CharacterCoverage {
			rest := slices.DeleteFunc(slices.Clone(order[i:]), func(r rune) bool { return !strings.ContainsRune(s.RequiredChars, r) })
			order = append(order[:i:i], rest...)
			break
		}
		covered += counts[r]
	}
	// Boundaries count as text but are no characters.
	return slices.DeleteFunc(order, func(r rune) bool { return r == boundaryChar })
}

const metaSpace = '\u2581'

// Train learns the pieces. It returns an error when the text does not support VocabSize pieces and HardVocabLimit is set.
func (s *SPMTrainer) Train() (*Tokenizer, error) {
	if err := s.start(); err != nil {
		return nil, err
	}
	table := s.words().table
	if table.n == 0 && len(s.count.chars) == 0 {
		return nil, fmt.Errorf("tokenizer: train: the text is empty")
	}
	chars := s.alphabet()
	if least := len(chars) + len(s.meta); s.VocabSize <= least || s.VocabSize > maxVocab {
		return nil, fmt.Errorf("tokenizer: train: vocab_size: want more than %d (%d characters and %d meta pieces), got %d; ask for more or lower character_coverage",
			least, len(chars), len(s.meta), s.VocabSize)
	}
	if err := tooMany(table); err != nil {
		return nil, err
	}
	l := &learner{limit: s.VocabSize - len(s.meta), tell: s.Tell}
	ids := make(map[rune]int32, len(chars))
	for i, r := range chars {
		ids[r] = int32(i)
		if r == ' ' {
			r = metaSpace
		}
		l.toks, l.units = append(l.toks, string(r)), append(l.units, 1)
	}
	l.valid = s.validPair(l)
	l.before = shorterFirst(l)
	s.addWords(l, ids)
	l.learn(1)
	pieces := append(slices.Clone(l.toks[len(chars):]), l.toks[:len(chars)]...)
	if missing := s.VocabSize - len(s.meta) - len(pieces); missing > 0 && s.HardVocabLimit {
		return nil, fmt.Errorf("tokenizer: train: vocab_size: the text supports %d pieces, got %d; ask for fewer, give more text or set hard_vocab_limit=false",
			s.VocabSize-missing, s.VocabSize)
	}
	return s.build(pieces)
}

// addWords gives the learner the words, cut at characters outside the alphabet.
func (s *SPMTrainer) addWords(l *learner, ids map[rune]int32) {
	var fast [1 << 16]int32
	for i := range fast {
		fast[i] = -1
	}
	for r, id := range ids {
		if r < 1<<16 {
			fast[r] = id
		}
	}
	var list []int32
	s.words().table.each(func(word []byte, n int64) {
		list = list[:0]
		for i := 0; i < len(word); {
			r, size := runeAt(word, i)
			i += size
			id := int32(-1)
			if r < 1<<16 {
				id = fast[r]
			} else if v, ok := ids[r]; ok {
				id = v
			}
			if id < 0 {
				l.addWord(list, n)
				list = list[:0]
				continue
			}
			list = append(list, id)
		}
		l.addWord(list, n)
	})
}

func (s *SPMTrainer) validPair(l *learner) func(left, right int32) bool {
	var piece []rune
	return func(left, right int32) bool {
		if int(l.units[left]+l.units[right]) > s.MaxSentencePieceLength {
			return false
		}
		piece = piece[:0]
		for _, id := range [2]int32{left, right} {
			for _, r := range l.toks[id] {
				if r == metaSpace {
					r = ' '
				}
				piece = append(piece, r)
			}
		}
		return s.allowed(piece)
	}
}

// shorterFirst orders pairs of equal counts by their number of characters, then by their text.
func shorterFirst(l *learner) func(a, b [2]int32) bool {
	return func(a, b [2]int32) bool {
		if x, y := l.units[a[0]]+l.units[a[1]], l.units[b[0]]+l.units[b[1]]; x != y {
			return x < y
		}
		return compareJoined(l.toks[a[0]], l.toks[a[1]], l.toks[b[0]], l.toks[b[1]]) < 0
	}
}

// compareJoined compares a+b with c+d.
func compareJoined(a, b, c, d string) int {
	for {
		n := min(len(a), len(c))
		if x := strings.Compare(a[:n], c[:n]); x != 0 {
			return x
		}
		a, c = a[n:], c[n:]
		if a == "" {
			a, b = b, ""
		}
		if c == "" {
			c, d = d, ""
		}
		if a == "" || c == "" {
			return cmp.Compare(len(a), len(c))
		}
	}
}

// build writes the model and reads it back.
func (s *SPMTrainer) build(pieces []string) (*Tokenizer, error) {
	m := &spmModel{modelType: spmBPE, dummyPrefix: s.AddDummyPrefix, removeSpaces: s.RemoveExtraWhitespaces, suffix: s.TreatWhitespaceAsSuffix,
		unk: s.UnkID, bos: s.BOSID, eos: s.EOSID, pad: s.PadID}
	if s.norm.charsmap != nil {
		m.charsmap = s.norm.charsmap.file
	}
	next := 0
	for id := int32(0); len(m.pieces) < len(s.meta)+len(pieces); id++ {
		piece, score, kind := "", float32(0), Normal
		if i, ok := slices.BinarySearchFunc(s.meta, id, func(p metaPiece, id int32) int { return cmp.Compare(p.id, id) }); ok {
			piece, kind = s.meta[i].piece, s.meta[i].kind
		} else if next < len(pieces) {
			piece, score = pieces[next], -float32(next)
			next++
		} else {
			return nil, fmt.Errorf("tokenizer: train: id %d: no piece is left for it; lower the ids of the meta pieces", id)
		}
		m.pieces, m.scores, m.kinds = append(m.pieces, piece), append(m.scores, score), append(m.kinds, kind)
	}
	data := m.marshal(s)
	t, err := fromSPM("trained vocabulary", data)
	if err != nil {
		return nil, err
	}
	t.original["tokenizer.model"] = data
	return t, nil
}

// scriptClass is what cutting needs to know of a character: its script, and whether it is a digit.
type scriptClass uint16

const (
	classSpace     scriptClass = iota // the space, U+2581 in files
	classBoundary                     // no piece holds it
	classInherited                    // takes the script before it
	classCommon
	classScripts // the first of the others

	digitBit scriptClass = 1 << 15
)

func (c scriptClass) digit() bool         { return c&digitBit != 0 }
func (c scriptClass) script() scriptClass { return c &^ digitBit }

// scriptTable holds the class of each character of the basic plane, and the scripts for others.
type scriptTable struct {
	low    [1 << 16]scriptClass
	tables []*unicode.RangeTable
	class  []scriptClass
}

func newScriptTable() *scriptTable {
	t := &scriptTable{}
	for i := range t.low {
		t.low[i] = classCommon
	}
	next := classScripts
	han := next
	next++
	for _, name := range slices.Sorted(maps.Keys(unicode.Scripts)) {
		c := next
		switch name {
		case "Common":
			c = classCommon
		case "Inherited":
			c = classInherited
		case "Han", "Hiragana", "Katakana": // written together
			c = han
		default:
			next++
		}
		table := unicode.Scripts[name]
		t.tables, t.class = append(t.tables, table), append(t.class, c)
		for _, r := range table.R16 {
			for v := uint32(r.Lo); v <= uint32(r.Hi); v += uint32(r.Stride) {
				t.low[v] = c
			}
		}
	}
	t.low[0x30fc] = han // the long vowel mark is Common in Unicode
	for d := rune(0); d < 10; d++ {
		t.low['0'+d] |= digitBit
		t.low[0xff10+d] |= digitBit
	}
	t.low[' '], t.low[metaSpace] = classSpace, classSpace
	t.low[boundaryChar], t.low[unkChar], t.low[0] = classBoundary, classBoundary, classBoundary
	return t
}

func (t *scriptTable) of(r rune) scriptClass {
	if r < 1<<16 {
		return t.low[r]
	}
	for i, table := range t.tables {
		if unicode.Is(table, r) {
			return t.class[i]
		}
	}
	return classCommon
}
