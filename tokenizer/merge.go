package tokenizer

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Merged says what Merge did.
type Merged struct {
	Base, Second int // sizes of the two vocabularies
	Overlap      int // pieces of the second that the base holds, meta pieces included
	Appended     int
	Size         int
}

// Merge appends to a SentencePiece vocabulary the pieces of a second one that it does not hold, in the second's order,
// as normal pieces of score 0 (the procedure of Chinese-LLaMA, Cui et al. 2023, section 3.1). The base keeps its ids,
// its meta pieces, its options and its normaliser. It returns the bytes of the new .model file.
func Merge(base, second *Tokenizer) ([]byte, *Merged, error) {
	file, err := base.spmFile()
	if err != nil {
		return nil, nil, err
	}
	other, err := second.spmFile()
	if err != nil {
		return nil, nil, err
	}
	a, err := parseSPM(file)
	if err != nil {
		return nil, nil, fmt.Errorf("tokenizer: merge: %s: %w", base.Source, err)
	}
	b, err := parseSPM(other)
	if err != nil {
		return nil, nil, fmt.Errorf("tokenizer: merge: %s: %w", second.Source, err)
	}
	if a.modelType != spmBPE || b.modelType != spmBPE {
		return nil, nil, fmt.Errorf("tokenizer: merge: model_type: want two BPE vocabularies, got %d and %d", a.modelType, b.modelType)
	}
	if base.VocabSize() > len(a.pieces) {
		return nil, nil, fmt.Errorf("tokenizer: merge: %s: added tokens: %d ids above the pieces would be taken by new pieces; merge the .model alone and add them after it",
			base.Source, base.VocabSize()-len(a.pieces))
	}
	report := &Merged{Base: len(a.pieces), Second: len(b.pieces)}
	known := make(map[string]bool, len(a.pieces))
	for _, p := range a.pieces {
		known[p] = true
	}
	var added []byte
	for _, p := range b.pieces {
		if known[p] {
			report.Overlap++
			continue
		}
		known[p] = true
		added = appendPiece(added, p, 0, Normal)
		report.Appended++
	}
	report.Size = report.Base + report.Appended
	at, err := piecesEnd(file)
	if err != nil {
		return nil, nil, fmt.Errorf("tokenizer: merge: %s: %w", base.Source, err)
	}
	return bytes.Join([][]byte{file[:at], added, file[at:]}, nil), report, nil
}

// spmFile returns the .model file that a tokenizer was read from.
func (t *Tokenizer) spmFile() ([]byte, error) {
	for _, data := range t.original {
		if m, err := parseSPM(data); err == nil && len(m.pieces) > 0 {
			return data, nil
		}
	}
	return nil, fmt.Errorf("tokenizer: merge: %s: want a SentencePiece .model file", t.Source)
}

// piecesEnd is where the last piece of a model ends.
func piecesEnd(file []byte) (end int, err error) {
	for at := 0; at < len(file); {
		num, _, n := protowire.ConsumeField(file[at:])
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		at += n
		if num == 1 {
			end = at
		}
	}
	return end, nil
}

// FromSPM reads the bytes of a SentencePiece .model file.
func FromSPM(source string, data []byte) (*Tokenizer, error) {
	t, err := fromSPM(source, data)
	if err != nil {
		return nil, err
	}
	t.original["tokenizer.model"] = data
	return t, nil
}

// Spelling returns the ids with which t writes the text of a piece of another vocabulary, for giving a new piece the mean
// of known embeddings.
func (t *Tokenizer) Spelling(o *Tokenizer, id int32) []int {
	if t.byteLevel || o.byteLevel || o.kinds[id] == UserDefined || o.kinds[id] == Control {
		return asInts(t.Encode(string(o.Bytes(id)), Options{}))
	}
	text := []byte(plainSpaces(o.Piece(id)))
	st := t.take()
	defer t.give(st)
	return asInts(t.model.appendWord(nil, st, text, 0, len(text)))
}

func asInts(ids []int32) (out []int) {
	for _, v := range ids {
		out = append(out, int(v))
	}
	return out
}
