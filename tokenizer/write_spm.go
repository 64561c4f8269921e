package tokenizer

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of sentencepiece_model.proto that are written; the trainer's options are there for the record, as
// spm_train leaves them.
func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendBool(b []byte, field protowire.Number, v bool) []byte {
	return appendVarint(b, field, protowire.EncodeBool(v))
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendFloat(b []byte, field protowire.Number, v float32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(b, field, protowire.Fixed32Type), math.Float32bits(v))
}

// appendPiece appends one piece of a ModelProto.
func appendPiece(b []byte, piece string, score float32, kind Kind) []byte {
	p := appendBytes(nil, 1, []byte(piece))
	p = appendFloat(p, 2, score)
	if kind != Normal {
		p = appendVarint(p, 3, uint64(kind))
	}
	return appendBytes(b, 1, p)
}

// marshal writes the model as a SentencePiece ModelProto.
func (m *spmModel) marshal(s *SPMTrainer) []byte {
	var out []byte
	for i, p := range m.pieces {
		out = appendPiece(out, p, m.scores[i], m.kinds[i])
	}
	signed := func(b []byte, field protowire.Number, v int32) []byte {
		return appendVarint(b, field, uint64(int64(v)))
	}
	spec := appendVarint(nil, 3, m.modelType)
	spec = appendVarint(spec, 4, uint64(len(m.pieces)))
	spec = appendFloat(spec, 10, s.CharacterCoverage)
	spec = appendVarint(spec, 18, uint64(s.MaxSentenceLength))
	spec = appendVarint(spec, 20, uint64(s.MaxSentencePieceLength))
	spec = appendBool(spec, 21, s.SplitByUnicodeScript)
	spec = appendBool(spec, 22, s.SplitByWhitespace)
	spec = appendBool(spec, 23, s.SplitByNumber)
	spec = appendBool(spec, 24, s.TreatWhitespaceAsSuffix)
	spec = appendBool(spec, 25, s.SplitDigits)
	spec = appendBool(spec, 26, s.AllowWhitespaceOnlyPieces)
	for _, p := range s.ControlSymbols {
		spec = appendBytes(spec, 30, []byte(p))
	}
	for _, p := range s.UserDefinedSymbols {
		spec = appendBytes(spec, 31, []byte(p))
	}
	spec = appendBool(spec, 33, s.HardVocabLimit)
	spec = appendBool(spec, 35, s.ByteFallback)
	spec = appendBytes(spec, 36, []byte(s.RequiredChars))
	for i, id := range []int32{m.unk, m.bos, m.eos, m.pad} {
		spec = signed(spec, protowire.Number(40+i), id)
	}
	spec = appendBytes(spec, 44, []byte(s.UnkSurface))
	for i, p := range []string{s.UnkPiece, s.BOSPiece, s.EOSPiece, s.PadPiece} {
		spec = appendBytes(spec, protowire.Number(45+i), []byte(p))
	}
	out = appendBytes(out, 2, spec)
	norm := appendBytes(nil, 1, []byte(s.NormalizationRuleName))
	norm = appendBytes(norm, 2, m.charsmap)
	norm = appendBool(norm, 3, m.dummyPrefix)
	norm = appendBool(norm, 4, m.removeSpaces)
	norm = appendBool(norm, 5, true)
	return appendBytes(out, 3, norm)
}
