package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"danlu/family"
	"danlu/hub"
	"danlu/tokenizer"
)

// tokenizer opens the vocabulary: tokenizer_name_or_path, else what the model brings.
func (j *job) tokenizer() (*tokenizer.Tokenizer, error) {
	key, path := "tokenizer_name_or_path", j.Model.Tokenizer
	if path == "" {
		key, path = "model_name_or_path", j.source.path
	}
	t, err := tokenizer.Open(hub.Resolve(path))
	if err != nil {
		if _, preset := presetOnly(path); preset {
			return nil, j.Errorf("tokenizer_name_or_path", "is missing: %s is a shape without a vocabulary", path)
		}
		return nil, j.Errorf(key, "%v", err)
	}
	if err := j.extend(t, key); err != nil {
		return nil, err
	}
	family.FindBlanks(j.source.model, t)
	return t, nil
}

// beginning is the id that the tokenizer puts before each text, -1 when it puts none.
func beginning(t *tokenizer.Tokenizer) int32 {
	ids := t.Encode("", tokenizer.Options{AddSpecial: true})
	if len(ids) > 0 && ids[0] == t.BOS() {
		return ids[0]
	}
	return -1
}

// padding is an id for places that no one reads.
func padding(t *tokenizer.Tokenizer) int32 {
	for _, id := range []int32{t.PAD(), t.EOS()} {
		if id >= 0 {
			return id
		}
	}
	return 0
}

// plainText reads the text of a document: without ids around it, and with special tokens written in it taken as such
// unless split_special_tokens is set.
type plainText struct {
	*tokenizer.Tokenizer
	split bool
}

// Encode implements data.Tokenizer.
func (p plainText) Encode(text string) []int32 {
	return p.Tokenizer.Encode(text, tokenizer.Options{ParseSpecial: !p.split})
}

// vocabularyPrint identifies a tokenizer: its pieces, and the files that say how text is cut.
func vocabularyPrint(t *tokenizer.Tokenizer) string {
	h := sha256.New()
	for id := range int32(t.VocabSize()) {
		fmt.Fprintf(h, "%q %d\n", t.Piece(id), t.Kind(id))
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		h.Write(t.Original()[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
