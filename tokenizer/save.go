package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Save writes the tokenizer into dir: the files it was read from byte for byte, or tokenizer.json for one trained here.
func (t *Tokenizer) Save(dir string) error {
	if len(t.original) == 0 {
		return fmt.Errorf("tokenizer: %s: save: the vocabulary has no file of its own", t.Source)
	}
	for name, data := range t.original {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("tokenizer: save: %w", err)
		}
	}
	return nil
}

// marshalByteLevel writes tokenizer.json for a byte-level vocabulary: pieces in id order, merges as pairs of pieces.
func marshalByteLevel(pieces []string, merges [][2]string, special []string, expr string, nfc bool) ([]byte, error) {
	type object = map[string]any
	byteLevel := func(useRegex bool) object {
		return object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": useRegex}
	}
	var added []object
	ids := make(map[string]int, len(pieces))
	for i, p := range pieces {
		ids[p] = i
	}
	for _, s := range special {
		added = append(added, object{"id": ids[s], "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
	}
	var normalizer any
	if nfc {
		normalizer = object{"type": "NFC"}
	}
	if merges == nil {
		merges = [][2]string{}
	}
	split := object{"type": "Split", "pattern": object{"Regex": expr}, "behavior": "Isolated", "invert": false}
	file := object{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": normalizer,
		"pre_tokenizer":  object{"type": "Sequence", "pretokenizers": []object{split, byteLevel(false)}},
		"post_processor": nil, "decoder": byteLevel(true),
		"model": object{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": ids, "merges": merges},
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(file); err != nil {
		return nil, fmt.Errorf("tokenizer: save: %w", err)
	}
	return buf.Bytes(), nil
}
