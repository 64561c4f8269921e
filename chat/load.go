package chat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"danlu/chat/jinja"
	"danlu/format/gguf"
	"danlu/tokenizer"
)

// ErrNoTemplate says that a model brings no chat template: it is a base model, or it leaves the format to its programs.
var ErrNoTemplate = errors.New("the model has no chat template")

// FromModel reads the chat template of a model folder (chat_template.jinja, additional_chat_templates/*.jinja,
// chat_template.json, chat_template of tokenizer_config.json), of a GGUF file, or of a .jinja file. Without one the
// error is ErrNoTemplate. Special-token strings that the files do not name come from tok, which may be nil.
func FromModel(path string, tok *tokenizer.Tokenizer) (*Template, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	read := readGGUF
	switch {
	case info.IsDir():
		read = readFolder
	case strings.HasSuffix(path, ".jinja"):
		read = func(path string) (map[string]string, *jinja.Dict, error) {
			b, err := os.ReadFile(path)
			return map[string]string{"default": string(b)}, jinja.NewDict(), err
		}
	case !strings.HasSuffix(path, ".gguf"):
		path, read = filepath.Dir(path), readFolder
	}
	sources, tokens, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("chat: %s: %w", path, err)
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("chat: %s: %w", path, ErrNoTemplate)
	}
	if tok != nil {
		for name, id := range map[string]int32{"bos_token": tok.BOS(), "eos_token": tok.EOS(), "pad_token": tok.PAD()} {
			if _, ok := tokens.Get(name); !ok && id >= 0 {
				tokens.SetString(name, tok.Piece(id))
			}
		}
	}
	t, err := newTemplates(sources, tokens)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// readFolder returns the templates by name and the special-token strings of a model folder.
func readFolder(dir string) (map[string]string, *jinja.Dict, error) {
	sources, tokens := map[string]string{}, jinja.NewDict()
	for _, name := range []string{"special_tokens_map.json", "tokenizer_config.json", "chat_template.json"} {
		d, err := readObject(filepath.Join(dir, name))
		if err != nil {
			return nil, nil, err
		}
		if d == nil {
			continue
		}
		if v, ok := d.Get("chat_template"); ok {
			if err := addTemplates(sources, v); err != nil {
				return nil, nil, fmt.Errorf("%s: chat_template: %w", name, err)
			}
		}
		specialTokens(tokens, d)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "chat_template.jinja")); err == nil {
		sources["default"] = string(b)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	more, _ := filepath.Glob(filepath.Join(dir, "additional_chat_templates", "*.jinja"))
	for _, file := range more {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		sources[strings.TrimSuffix(filepath.Base(file), ".jinja")] = string(b)
	}
	return sources, tokens, nil
}

// readObject reads a JSON object, nil when there is no such file.
func readObject(path string) (*jinja.Dict, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := jinja.ParseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	d, ok := v.(*jinja.Dict)
	if !ok {
		return nil, fmt.Errorf("%s: want an object", filepath.Base(path))
	}
	return d, nil
}

// addTemplates reads a template, or a list of {name, template}.
func addTemplates(sources map[string]string, v jinja.Value) error {
	switch x := v.(type) {
	case nil:
		return nil
	case string:
		sources["default"] = x
		return nil
	case jinja.List:
		for i, item := range x {
			d, ok := item.(*jinja.Dict)
			if !ok || entry(d, "name") == "" || entry(d, "template") == "" {
				return fmt.Errorf("entry %d: want {name, template}", i)
			}
			sources[entry(d, "name")] = entry(d, "template")
		}
		return nil
	}
	return errors.New("want a string or a list of {name, template}")
}

// specialTokens adds every entry NAME_token of a config, written as a string or as {"content": ...}.
func specialTokens(tokens, config *jinja.Dict) {
	for i := range config.Len() {
		k, v := config.At(i)
		key := k.(string)
		if d, ok := v.(*jinja.Dict); ok && strings.HasSuffix(key, "_token") {
			v, _ = d.Get("content")
		}
		if s, ok := v.(string); ok && strings.HasSuffix(key, "_token") {
			tokens.SetString(key, s)
		}
		if d, ok := v.(*jinja.Dict); ok && key == "extra_special_tokens" {
			specialTokens(tokens, d)
		}
		if l, ok := v.(jinja.List); ok && key == "additional_special_tokens" {
			tokens.SetString(key, l)
		}
	}
}

// readGGUF returns the templates in a GGUF file: tokenizer.chat_template and tokenizer.chat_template.NAME.
func readGGUF(path string) (map[string]string, *jinja.Dict, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	const key = "tokenizer.chat_template"
	sources := map[string]string{}
	for _, k := range f.Keys() {
		rest, ok := strings.CutPrefix(k, key)
		v, _ := f.Value(k)
		text, isText := v.(string)
		if !ok || !isText {
			continue
		}
		if rest == "" {
			sources["default"] = text
		} else if name, ok := strings.CutPrefix(rest, "."); ok {
			sources[name] = text
		}
	}
	return sources, jinja.NewDict(), nil
}
