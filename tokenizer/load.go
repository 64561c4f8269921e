package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds the files that are read whole; the largest published vocabularies are near 35 MB.
const maxFile = 1 << 28

// vocabularies are the files that Load looks for in a folder, best first.
var vocabularies = []string{"tokenizer.json", "tokenizer.model", "*.tiktoken", "ice_text.model", "*.model", "vocab.json", "*.gguf"}

// ErrNone says that a model brings no vocabulary.
var ErrNone = errors.New("there is no vocabulary")

// Load reads the tokenizer of a model folder or of one file: tokenizer.json, a SentencePiece or tiktoken .model,
// *.tiktoken, vocab.json with merges.txt beside it, or a GGUF; in a folder, the first of these that is there. Source
// says which it was. What tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat_template.jinja
// beside the vocabulary say is applied.
func Load(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if info.IsDir() {
		for _, name := range vocabularies {
			if found, _ := filepath.Glob(filepath.Join(path, name)); len(found) > 0 {
				return Load(found[0])
			}
		}
		return nil, fmt.Errorf("tokenizer: %s: %w: want one of %s", path, ErrNone, strings.Join(vocabularies, ", "))
	}
	if strings.HasSuffix(path, ".gguf") {
		return loadGGUF(path)
	}
	data, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	config, err := readConfig(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	t, err := parse(path, data, config)
	if err != nil {
		return nil, err
	}
	t.original[filepath.Base(path)] = data
	config.apply(t)
	return t, nil
}

// readLimited reads a file of at most maxFile bytes.
func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("tokenizer: %s: size: want at most %d bytes", path, maxFile)
	}
	return data, nil
}

// parse reads a vocabulary file by its name and content.
func parse(path string, data []byte, c *modelConfig) (*Tokenizer, error) {
	name := filepath.Base(path)
	switch {
	case name == "vocab.json":
		merges, err := readLimited(filepath.Join(filepath.Dir(path), "merges.txt"))
		if err != nil {
			return nil, fmt.Errorf("tokenizer: %w", err)
		}
		pre := "gpt-2"
		if strings.HasPrefix(c.class, "Qwen2") {
			pre = "qwen2"
		}
		t, err := fromVocabMerges(path, data, merges, pre)
		if err == nil {
			t.original["merges.txt"] = merges
		}
		return t, err
	case strings.HasSuffix(name, ".json"):
		return fromJSON(path, data)
	case isTiktoken(data):
		f := tiktokenFamily(name, data, c)
		return fromTiktoken(path, data, f.pre, f.special, f.prefix)
	}
	t, err := fromSPM(path, data)
	if err == nil && c.class == "ChatGLMTokenizer" {
		err = t.addChatGLM(c)
	}
	return t, err
}

// isTiktoken reports whether the first line is base64, a space and a number.
func isTiktoken(data []byte) bool {
	line, _, _ := bytes.Cut(data[:min(len(data), 1<<10)], []byte("\n"))
	text, num, ok := strings.Cut(string(line), " ")
	return ok && len(text)%4 == 0 && strings.Trim(num, "0123456789\r") == "" && num != ""
}

func fromVocabMerges(source string, vocab, merges []byte, pre string) (*Tokenizer, error) {
	t := newTokenizer(source)
	var ids map[string]int64
	if err := json.Unmarshal(vocab, &ids); err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", source, err)
	}
	pieces, err := t.pieceList("vocab", ids, nil)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range strings.Split(strings.TrimRight(string(merges), "\r\n"), "\n") {
		if l = strings.TrimRight(l, "\r"); l != "" && !strings.HasPrefix(l, "#version") {
			lines = append(lines, l)
		}
	}
	pairs, err := t.parseMerges("merges.txt", lines)
	if err != nil {
		return nil, err
	}
	kinds := make([]Kind, len(pieces))
	for i := range kinds {
		kinds[i] = Normal
	}
	if err := t.initAlphabet(pieces, kinds, pairs); err != nil {
		return nil, err
	}
	if id, ok := t.ID("<|endoftext|>"); ok {
		t.eos = id
		t.kinds[id] = Control
		t.setAdded([]AddedToken{{ID: id, Content: "<|endoftext|>", Special: true}})
	}
	if t.normalizer, t.pre, err = preByName(pre); err != nil {
		return nil, t.fail("tokenizer_class", "%v", err)
	}
	return t, nil
}

// pieceList orders a vocabulary by id. Ids may leave gaps, but not more than the entries can explain.
func (t *Tokenizer) pieceList(field string, ids map[string]int64, added []AddedToken) ([]string, error) {
	top := int64(-1)
	for p, id := range ids {
		if id < 0 || id >= maxVocab {
			return nil, t.fail(field, "id of %q: want 0 to %d, got %d", clip(p), maxVocab-1, id)
		}
		top = max(top, id)
	}
	for _, a := range added {
		if a.ID < 0 || a.ID >= maxVocab {
			return nil, t.fail("added_tokens", "id of %q: want 0 to %d, got %d", clip(a.Content), maxVocab-1, a.ID)
		}
		top = max(top, int64(a.ID))
	}
	if top < 0 {
		return nil, t.fail(field, "want at least one piece, got none")
	}
	pieces := make([]string, top+1)
	for p, id := range ids {
		if pieces[id] != "" {
			return nil, t.fail(field, "id %d: both %q and %q", id, clip(pieces[id]), clip(p))
		}
		pieces[id] = p
	}
	return pieces, nil
}
