package tokenizer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxVocab bounds the pieces a file may declare.
const maxVocab = 1 << 20

// spmModel is what a SentencePiece ModelProto (sentencepiece_model.proto) says that encoding needs.
type spmModel struct {
	pieces        []string
	scores        []float32
	kinds         []Kind
	modelType     uint64
	suffix        bool
	charsmap      []byte
	dummyPrefix   bool
	removeSpaces  bool
	unk, bos, eos int32
	pad           int32
}

// The model types of a trainer_spec.
const (
	spmUnigram = 1
	spmBPE     = 2
)

// protoFields walks the fields of one message. Numbers come as uint64, fixed32 too; strings and messages as bytes.
func protoFields(b []byte, visit func(num protowire.Number, v uint64, s []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		var s []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var w uint32
			w, n = protowire.ConsumeFixed32(b)
			v = uint64(w)
		case protowire.BytesType:
			s, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		if err := visit(num, v, s); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func parseSPM(data []byte) (*spmModel, error) {
	m := &spmModel{modelType: spmUnigram, dummyPrefix: true, removeSpaces: true, unk: 0, bos: 1, eos: 2, pad: -1}
	err := protoFields(data, func(num protowire.Number, _ uint64, s []byte) error {
		switch num {
		case 1:
			if len(m.pieces) == maxVocab {
				return fmt.Errorf("pieces: want at most %d", maxVocab)
			}
			piece, score, kind := "", float32(0), Normal
			err := protoFields(s, func(num protowire.Number, v uint64, s []byte) error {
				switch num {
				case 1:
					piece = string(s)
				case 2:
					score = math.Float32frombits(uint32(v))
				case 3:
					if v < 1 || v > 6 {
						return fmt.Errorf("type: want 1 to 6, got %d", v)
					}
					kind = Kind(v)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("piece %d: %w", len(m.pieces), err)
			}
			m.pieces, m.scores, m.kinds = append(m.pieces, piece), append(m.scores, score), append(m.kinds, kind)
		case 2:
			return protoFields(s, func(num protowire.Number, v uint64, _ []byte) error {
				switch num {
				case 3:
					m.modelType = v
				case 24:
					m.suffix = v != 0
				case 40:
					m.unk = int32(v)
				case 41:
					m.bos = int32(v)
				case 42:
					m.eos = int32(v)
				case 43:
					m.pad = int32(v)
				}
				return nil
			})
		case 3:
			return protoFields(s, func(num protowire.Number, v uint64, s []byte) error {
				switch num {
				case 2:
					m.charsmap = s
				case 3:
					m.dummyPrefix = v != 0
				case 4:
					m.removeSpaces = v != 0
				}
				return nil
			})
		}
		return nil
	})
	return m, err
}

// fromSPM reads a SentencePiece .model file.
func fromSPM(source string, data []byte) (*Tokenizer, error) {
	t := newTokenizer(source)
	m, err := parseSPM(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: sentencepiece model: %w", source, err)
	}
	return t, t.initSPM(m)
}

// initSPM builds the tokenizer of a SentencePiece vocabulary.
func (t *Tokenizer) initSPM(m *spmModel) error {
	n := len(m.pieces)
	if n == 0 {
		return t.fail("pieces", "want at least one, got none")
	}
	if m.modelType != spmUnigram && m.modelType != spmBPE {
		return t.fail("trainer_spec.model_type", "want 1 (unigram) or 2 (BPE), got %d", m.modelType)
	}
	v, err := t.readSPMPieces(m)
	if err != nil {
		return err
	}
	if m.modelType == spmBPE {
		if err := t.initSPMBPE(m, v); err != nil {
			return err
		}
	} else if err := t.initSPMUnigram(m, v); err != nil {
		return err
	}
	t.setPieces(m.pieces, v.decoded, m.kinds)
	t.setAdded(append(v.added, v.user...))
	step := &spmStep{dummyPrefix: m.dummyPrefix, removeSpaces: m.removeSpaces, spaceAsSuffix: m.suffix}
	if len(v.user) > 0 {
		step.keep = newMatcher(v.user)
	}
	if len(m.charsmap) > 0 {
		c, err := newCharsmap(m.charsmap)
		if err != nil {
			return t.fail("normalizer_spec.precompiled_charsmap", "%v", err)
		}
		step.charsmap = c
	}
	t.normalizer = []normStep{step}
	t.decode = decodeRules{stripSpace: m.dummyPrefix, stripAll: m.removeSpaces}
	valid := func(id int32) int32 {
		if id < 0 || int(id) >= n || m.kinds[id] != Control {
			return -1
		}
		return id
	}
	t.bos, t.eos, t.pad, t.unk = valid(m.bos), valid(m.eos), m.pad, v.unk
	if m.pad >= int32(n) {
		t.pad = -1
	}
	if t.bos >= 0 {
		t.prefix = []int32{t.bos}
	}
	return nil
}

// spmPieces is a SentencePiece vocabulary sorted by what its pieces do.
type spmPieces struct {
	toks, decoded []string // what each piece matches and what it decodes to, with plain spaces
	added, user   []AddedToken
	byteID        [256]int32
	fallback      bool
	unk           int32
}

func (t *Tokenizer) readSPMPieces(m *spmModel) (*spmPieces, error) {
	n := len(m.pieces)
	v := &spmPieces{toks: make([]string, n), decoded: make([]string, n), unk: -1}
	for i := range v.byteID {
		v.byteID[i] = -1
	}
	for i, p := range m.pieces {
		if s := m.scores[i]; s != s {
			return nil, t.fail(fmt.Sprintf("piece %d", i), "score: want a number, got NaN")
		}
		text := strings.ReplaceAll(p, "\u2581", " ")
		v.decoded[i] = text
		switch m.kinds[i] {
		case Normal, Unused:
			v.toks[i] = text
		case UserDefined:
			if p == "" {
				return nil, t.fail(fmt.Sprintf("piece %d", i), "want the text of a user-defined piece, got none")
			}
			v.user = append(v.user, AddedToken{ID: int32(i), Content: text, Normalized: true})
		case Byte:
			b, ok := byteOfPiece(p)
			if !ok {
				return nil, t.fail(fmt.Sprintf("piece %d", i), "want a byte piece such as <0x0A>, got %q", clip(p))
			}
			v.byteID[b], v.fallback = int32(i), true
			v.decoded[i] = string([]byte{b})
		case Unknown:
			v.unk = int32(i)
			v.decoded[i] = " \u2047 "
			v.added = append(v.added, AddedToken{ID: int32(i), Content: p, Special: true})
		case Control:
			v.decoded[i] = p
			v.added = append(v.added, AddedToken{ID: int32(i), Content: p, Special: true})
		}
	}
	return v, nil
}

// byteOfPiece reads a byte-fallback piece such as <0x0A>.
func byteOfPiece(p string) (byte, bool) {
	if len(p) != 6 || !strings.HasPrefix(p, "<0x") || p[5] != '>' {
		return 0, false
	}
	b, err := strconv.ParseUint(p[3:5], 16, 8)
	return byte(b), err == nil
}

func (t *Tokenizer) initSPMBPE(m *spmModel, v *spmPieces) error {
	model := &bpe{toks: v.toks, chars: true, unk: v.unk, fuseUnk: true, metaByte: true, byteID: v.byteID, fallback: v.fallback}
	// SentencePiece 0.2 orders scores as bits do: -0, the score of a trained model's first merge, comes after 0.
	order := make([]int32, len(m.scores))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		x, y := m.scores[a], m.scores[b]
		return cmp.Or(cmp.Compare(y, x), cmp.Compare(math.Float32bits(x), math.Float32bits(y)), cmp.Compare(a, b))
	})
	rank := make([]uint32, len(order))
	for i := 1; i < len(order); i++ {
		rank[i] = rank[i-1]
		if math.Float32bits(m.scores[order[i]]) != math.Float32bits(m.scores[order[i-1]]) {
			rank[i]++
		}
	}
	model.table = newStringTable(model.toks)
	model.finish()
	if err := model.pairsFromText(order, rank); err != nil {
		return t.fail("pieces", "%v", err)
	}
	t.model, t.bpe = model, model
	return nil
}

func (t *Tokenizer) initSPMUnigram(m *spmModel, v *spmPieces) error {
	if v.fallback && slices.Contains(v.byteID[:], -1) {
		return t.fail("pieces", "want all 256 byte pieces or none")
	}
	toks := slices.Clone(v.toks)
	for i, k := range m.kinds {
		if k == Unused {
			toks[i] = ""
		}
	}
	model := &unigram{toks: toks, scores: m.scores, byteID: v.byteID, fallback: v.fallback, unk: v.unk, fuseUnk: true}
	if err := model.finish(); err != nil {
		return t.fail("pieces", "%v", err)
	}
	t.model, t.unigram = model, model
	return nil
}
