package tokenizer

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

//go:generate go run builtin_gen.go

//go:embed builtin.json.gz
var builtinFile []byte

// Builtin returns the built-in bilingual vocabulary of 4,096 ids, trained on this project's corpus: byte-level BPE over
// all 256 bytes, every digit a piece of its own, with the special tokens <|endoftext|> (BOS, EOS and PAD),
// <|im_start|> and <|im_end|>.
func Builtin() (*Tokenizer, error) {
	z, err := gzip.NewReader(bytes.NewReader(builtinFile))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: built-in vocabulary: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(z, maxFile))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: built-in vocabulary: %w", err)
	}
	t, err := fromJSON("built-in tokenizer.json", data)
	if err != nil {
		return nil, err
	}
	t.original["tokenizer.json"] = data
	t.bos, t.eos, t.pad = 0, 0, 0
	return t, nil
}

// builtinModels are the presets whose models read the built-in vocabulary.
var builtinModels = []string{"llama-tiny", "glm-tiny", "stories15m-v4k", "qwen3-tiny", "qwen3-moe-tiny", "yi-tiny", "baichuan2-tiny", "deepseek-v3-tiny"}

// Open returns the tokenizer of a model folder, a vocabulary file, a GGUF or, where there is no such file, a preset with
// the built-in vocabulary.
func Open(model string) (*Tokenizer, error) {
	if _, err := os.Stat(model); err != nil {
		if slices.Contains(builtinModels, model) {
			return Builtin()
		}
		return nil, fmt.Errorf("tokenizer: %s: neither a folder, a file nor one of %s", model, strings.Join(builtinModels, ", "))
	}
	return Load(model)
}
