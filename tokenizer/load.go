package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds the vocabulary files that are read whole; the largest published ones are near 35 MB.
const maxFile = 1 << 28

// Load reads the tokenizer of a model folder or of one file. In a folder it takes the first of tokenizer.json,
// tokenizer.model, *.tiktoken, vocab.json with merges.txt and *.gguf; Source says which.
func Load(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if info.IsDir() {
		for _, name := range []string{"tokenizer.json", "tokenizer.model", "*.tiktoken", "vocab.json", "*.gguf"} {
			if found, _ := filepath.Glob(filepath.Join(path, name)); len(found) > 0 {
				return Load(found[0])
			}
		}
		return nil, fmt.Errorf("tokenizer: %s: want tokenizer.json, tokenizer.model, *.tiktoken, vocab.json or *.gguf, found none", path)
	}
	if strings.HasSuffix(path, ".gguf") {
		return loadGGUF(path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("tokenizer: %s: size: want at most %d bytes, got %d", path, maxFile, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	name := filepath.Base(path)
	var t *Tokenizer
	switch {
	case name == "vocab.json":
		merges, err := os.ReadFile(filepath.Join(filepath.Dir(path), "merges.txt"))
		if err != nil {
			return nil, fmt.Errorf("tokenizer: %w", err)
		}
		var config struct {
			Class string `json:"tokenizer_class"`
		}
		if b, err := os.ReadFile(filepath.Join(filepath.Dir(path), "tokenizer_config.json")); err == nil {
			if err := json.Unmarshal(b, &config); err != nil {
				return nil, fmt.Errorf("tokenizer: %s: tokenizer_config.json: %w", path, err)
			}
		}
		pre := "gpt-2"
		if strings.HasPrefix(config.Class, "Qwen2") {
			pre = "qwen2"
		}
		if t, err = fromVocabMerges(path, data, merges, pre); err != nil {
			return nil, err
		}
		t.original["merges.txt"] = merges
	case strings.HasSuffix(name, ".json"):
		t, err = fromJSON(path, data)
	case strings.HasSuffix(name, ".tiktoken") && strings.HasPrefix(name, "qwen"):
		t, err = fromTiktoken(path, data, "qwen", []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"})
	case isTiktoken(data):
		t, err = fromTiktoken(path, data, "llama3", llama3Tokens(data))
	default:
		t, err = fromSPM(path, data)
	}
	if err != nil {
		return nil, err
	}
	t.original[name] = data
	if err := t.readConfig(filepath.Dir(path), name); err != nil {
		return nil, err
	}
	return t, nil
}

// isTiktoken reports whether the first line is base64, a space and a number.
func isTiktoken(data []byte) bool {
	line, _, _ := bytes.Cut(data[:min(len(data), 1<<10)], []byte("\n"))
	text, num, ok := strings.Cut(string(line), " ")
	return ok && len(text)%4 == 0 && strings.Trim(num, "0123456789\r") == "" && num != ""
}

// llama3Tokens returns the 256 special tokens of Llama 3. A file of fewer than 100,000 ranks is not Llama 3's own, and
// takes only those that a conversation needs.
func llama3Tokens(data []byte) []string {
	if bytes.Count(data, []byte("\n")) < 100000 {
		return []string{"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}
	}
	all := append([]string(nil), llama3Special...)
	for i := 5; len(all) < 256; i++ {
		all = append(all, fmt.Sprintf("<|reserved_special_token_%d|>", i))
	}
	return all
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
