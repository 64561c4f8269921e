//go:build ignore

// Command builtin_gen trains the built-in vocabulary on documents of the corpus' training split.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"log"
	"os"

	"danlu/data/corpus"
	"danlu/tokenizer"
)

const (
	documents = 40000
	size      = 4096
	maxBytes  = 12 // four Chinese characters: pieces are words, not whole sentences of the generator
)

func main() {
	special := []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
	train := func(special []string, n int) (*tokenizer.Tokenizer, error) {
		tr := &tokenizer.ByteTrainer{VocabSize: n, SpecialTokens: special, MaxTokenLength: maxBytes, Pattern: tokenizer.DigitPattern}
		for i := range uint64(documents) {
			t := corpus.TurnAt(corpus.Train, i)
			for _, s := range []string{corpus.Document(corpus.Train, i), t.Prompt, t.Reply} {
				if err := tr.Add([]byte(s)); err != nil {
					return nil, err
				}
			}
		}
		return tr.Train()
	}
	t, err := train(special, size)
	if err != nil {
		// The generator's language is small. Ids that no merge fills are reserved tokens.
		n := 0
		if _, scan := fmt.Sscanf(err.Error(), "tokenizer: train: vocab_size: the text supports %d pieces", &n); scan != nil {
			log.Fatal(err)
		}
		for i := range size - n {
			special = append(special, fmt.Sprintf("<|reserved_%d|>", i))
		}
		if t, err = train(special, size); err != nil {
			log.Fatal(err)
		}
		log.Printf("%d reserved", size-n)
	}
	var buf bytes.Buffer
	z, _ := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if _, err := z.Write(t.Original()["tokenizer.json"]); err != nil {
		log.Fatal(err)
	}
	if err := z.Close(); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("builtin.json.gz", buf.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}
