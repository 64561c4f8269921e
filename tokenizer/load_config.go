package tokenizer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// modelConfig is what the files beside a vocabulary say: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json and chat_template.jinja.
type modelConfig struct {
	dir    string
	files  map[string][]byte // by name
	class  string            // tokenizer_class
	images *int32            // num_image_tokens: ChatGLM-6B
	roles  map[string]string // bos_token, eos_token, pad_token, unk_token
	addBOS *bool
	addEOS *bool
	added  []AddedToken // with ids
	chat   string
}

// tokenText reads a special token: a string, or an object with its content.
func tokenText(raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	var o struct{ Content string }
	err := json.Unmarshal(raw, &o)
	return o.Content, err
}

var roleNames = []string{"bos_token", "eos_token", "pad_token", "unk_token"}

// readConfig reads the files beside a vocabulary; those that are not there say nothing.
func readConfig(dir string) (*modelConfig, error) {
	c := &modelConfig{dir: dir, files: map[string][]byte{}, roles: map[string]string{}}
	for _, name := range []string{"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"} {
		data, err := readLimited(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.files[name] = data
	}
	if err := c.readAdded(); err != nil {
		return nil, err
	}
	for _, name := range []string{"tokenizer_config.json", "special_tokens_map.json"} {
		if err := c.readRoles(name); err != nil {
			return nil, err
		}
	}
	c.chat = cmp.Or(string(c.files["chat_template.jinja"]), c.chat)
	return c, nil
}

func (c *modelConfig) fail(name, field string, err error) error {
	return fmt.Errorf("tokenizer: %s: %s: %w", filepath.Join(c.dir, name), field, err)
}

// readRoles reads the special tokens by role; what an earlier file said stays.
func (c *modelConfig) readRoles(name string) error {
	data := c.files[name]
	if data == nil {
		return nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("tokenizer: %s: %w", filepath.Join(c.dir, name), err)
	}
	for _, role := range roleNames {
		if v, ok := raw[role]; ok && c.roles[role] == "" {
			text, err := tokenText(v)
			if err != nil {
				return c.fail(name, role, err)
			}
			c.roles[role] = text
		}
	}
	if name != "tokenizer_config.json" {
		return nil
	}
	read := func(key string, to any) error {
		if v, ok := raw[key]; ok {
			if err := json.Unmarshal(v, to); err != nil {
				return c.fail(name, key, err)
			}
		}
		return nil
	}
	_ = json.Unmarshal(raw["chat_template"], &c.chat) // a list of named templates is package chat's business
	var decoder map[string]addedEntry
	if err := cmp.Or(read("tokenizer_class", &c.class), read("add_bos_token", &c.addBOS), read("add_eos_token", &c.addEOS),
		read("num_image_tokens", &c.images), read("added_tokens_decoder", &decoder)); err != nil {
		return err
	}
	known := map[int32]bool{}
	for key, e := range decoder {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 || id >= maxVocab {
			return c.fail(name, "added_tokens_decoder", fmt.Errorf("id: want 0 to %d, got %q", maxVocab-1, clip(key)))
		}
		c.added = append(c.added, AddedToken{int32(id), e.Content, e.Special, e.LStrip, e.RStrip, e.SingleWord, e.Normalized})
		known[int32(id)] = true
	}
	c.added = slices.DeleteFunc(c.added, func(a AddedToken) bool { return a.fromOldFile() && known[a.ID] })
	slices.SortFunc(c.added, func(a, b AddedToken) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

// addedEntry is a token of added_tokens_decoder.
type addedEntry struct {
	Content    string
	LStrip     bool
	RStrip     bool
	SingleWord bool `json:"single_word"`
	Normalized bool
	Special    bool
}

// fromOldFile reports whether the token says nothing but its text, as added_tokens.json has it.
func (a AddedToken) fromOldFile() bool {
	return a == AddedToken{ID: a.ID, Content: a.Content}
}

// readAdded reads added_tokens.json, from texts to ids.
func (c *modelConfig) readAdded() error {
	const name = "added_tokens.json"
	if c.files[name] == nil {
		return nil
	}
	var ids map[string]int32
	if err := json.Unmarshal(c.files[name], &ids); err != nil {
		return fmt.Errorf("tokenizer: %s: %w", filepath.Join(c.dir, name), err)
	}
	for _, text := range slices.Sorted(maps.Keys(ids)) {
		id := ids[text]
		if id < 0 || id >= maxVocab {
			return c.fail(name, text, fmt.Errorf("want 0 to %d, got %d", maxVocab-1, id))
		}
		c.added = append(c.added, AddedToken{ID: id, Content: text})
	}
	return nil
}

// apply completes a tokenizer with what the files beside its vocabulary say.
func (c *modelConfig) apply(t *Tokenizer) {
	t.addTokens(c.added)
	id := func(role string) (int32, bool) {
		text, ok := c.roles[role]
		if !ok {
			return -1, false
		}
		if text == "" {
			return -1, true // null: none
		}
		v, found := t.ID(text)
		if !found {
			slog.Warn("tokenizer: a special token is not in the vocabulary and is left out", "dir", c.dir, "role", role, "token", clip(text))
			return -1, false
		}
		return v, true
	}
	for role, to := range map[string]*int32{"bos_token": &t.bos, "eos_token": &t.eos, "pad_token": &t.pad} {
		if v, ok := id(role); ok {
			*to = v
		}
	}
	t.prefix = withEnd(t.prefix, c.addBOS, t.bos, func(ids []int32, id int32) []int32 { return append([]int32{id}, ids...) })
	t.suffix = withEnd(t.suffix, c.addEOS, t.eos, func(ids []int32, id int32) []int32 { return append(ids, id) })
	t.chatTemplate = cmp.Or(c.chat, t.chatTemplate)
	maps.Copy(t.original, c.files)
}

// withEnd adds or removes id as want says; nil leaves ids alone.
func withEnd(ids []int32, want *bool, id int32, add func([]int32, int32) []int32) []int32 {
	switch {
	case want == nil || id < 0 || *want == slices.Contains(ids, id):
		return ids
	case *want:
		return add(ids, id)
	}
	return slices.DeleteFunc(slices.Clone(ids), func(v int32) bool { return v == id })
}

// addTokens adds tokens, or says more of those that are there. Ids above the vocabulary extend it.
func (t *Tokenizer) addTokens(list []AddedToken) {
	if len(list) == 0 {
		return
	}
	added := slices.Clone(t.added)
	for _, a := range list {
		for int(a.ID) >= len(t.pieces) {
			t.pieces, t.bytes, t.kinds = append(t.pieces, ""), append(t.bytes, ""), append(t.kinds, Unused)
		}
		i := slices.IndexFunc(added, func(b AddedToken) bool { return b.ID == a.ID })
		switch {
		case i < 0:
			added = append(added, a)
		case a.fromOldFile() && added[i].Content == a.Content:
			continue
		case t.kinds[a.ID] == Unknown || t.kinds[a.ID] == UserDefined:
			continue // the vocabulary's own, which decode and match in their own way
		default:
			added[i] = a
		}
		t.place(a)
	}
	t.setAdded(added)
}
