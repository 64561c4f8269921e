package tokenizer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrForm says that a vocabulary has no form in a format.
var ErrForm = errors.New("the vocabulary has no form in this format")

// MarshalTiktoken writes a tiktoken rank file: the tokens that are merged, with their ids as ranks. Special tokens are
// not part of such files.
func (t *Tokenizer) MarshalTiktoken() ([]byte, error) {
	if !t.byteLevel {
		return nil, fmt.Errorf("tokenizer: tiktoken: %w", ErrForm)
	}
	var buf bytes.Buffer
	for id, s := range t.bpe.toks {
		if s != "" {
			fmt.Fprintf(&buf, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(s)), id)
		}
	}
	return buf.Bytes(), nil
}

// MarshalVocabMerges writes vocab.json and merges.txt, as GPT-2 and Qwen have them.
func (t *Tokenizer) MarshalVocabMerges() (vocab, merges []byte, err error) {
	if !t.byteLevel {
		return nil, nil, fmt.Errorf("tokenizer: vocab.json: %w", ErrForm)
	}
	raw, err := t.marshalVocab()
	if err != nil {
		return nil, nil, err
	}
	var buf bytes.Buffer
	buf.WriteString("#version: 0.2\n")
	for _, m := range t.Merges() {
		fmt.Fprintf(&buf, "%s %s\n", t.spell(m[0]), t.spell(m[1]))
	}
	return raw, buf.Bytes(), nil
}

// WriteFiles writes a trained vocabulary into a folder, in every format it has a form in: tokenizer.json with
// tokenizer_config.json, and either tokenizer.model or vocab.json, merges.txt and tokenizer.tiktoken.
func (t *Tokenizer) WriteFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	if err := t.Save(dir); err != nil {
		return err
	}
	if !t.byteLevel {
		return nil
	}
	ranks, err := t.MarshalTiktoken()
	if err != nil {
		return err
	}
	vocab, merges, err := t.MarshalVocabMerges()
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"tokenizer.tiktoken": ranks, "vocab.json": vocab, "merges.txt": merges} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("tokenizer: %w", err)
		}
	}
	return nil
}

// WritePrefix writes a trained SentencePiece vocabulary as spm_train does: prefix.model, and prefix.vocab with a line
// "piece<tab>score" for each.
func (t *Tokenizer) WritePrefix(prefix string) error {
	data := t.original["tokenizer.model"]
	if data == nil {
		return fmt.Errorf("tokenizer: %s.model: %w", prefix, ErrForm)
	}
	m, err := parseSPM(data)
	if err != nil {
		return err
	}
	var vocab strings.Builder
	for i, p := range m.pieces {
		fmt.Fprintf(&vocab, "%s\t%g\n", p, m.scores[i])
	}
	if err := os.WriteFile(prefix+".model", data, 0o644); err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	if err := os.WriteFile(prefix+".vocab", []byte(vocab.String()), 0o644); err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	return nil
}

// Patterns are the names of the families' pre-tokenizer patterns, for training.
var Patterns = map[string]string{"gpt2": patternGPT2, "llama3": patternLlama3, "qwen2": patternQwen2, "qwen3.5": patternQwen35, "deepseek-v3": patternDeepSeek}

// PatternNames lists the keys of Patterns.
func PatternNames() []string {
	var names []string
	for n := range Patterns {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// JSONString writes a text as one line of JSON.
func JSONString(text string) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(text)
	return buf.Bytes(), err
}
