package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Convert turns a row into an Example. Its errors are *RowError: the row does not fit the dataset's format.
// mediaDir is where relative image, video and audio paths lie; a path that is no file there stays as it is.
func (a *Attr) Convert(row *Row, mediaDir string) (*Example, error) {
	ex := &Example{File: row.File, Line: row.Line}
	c := converter{attr: a, row: row, ex: ex, media: mediaDir}
	if err := c.convert(); err != nil {
		return nil, &RowError{File: row.File, Line: row.Line, Err: err}
	}
	return ex, nil
}

type converter struct {
	attr  *Attr
	row   *Row
	ex    *Example
	media string
}

func (c *converter) convert() error {
	col := c.attr.Columns
	var err error
	switch c.attr.Formatting {
	case Text:
		if c.ex.Text, err = c.text(col.Prompt, true); err == nil && strings.TrimSpace(c.ex.Text) == "" {
			err = fmt.Errorf("column %s: no text", col.Prompt)
		}
	case Alpaca:
		err = c.alpaca()
	case ShareGPT, OpenAI:
		err = c.conversation()
	case TRL:
		err = c.trl()
	default:
		err = fmt.Errorf("formatting %q", c.attr.Formatting)
	}
	if err != nil {
		return err
	}
	if c.ex.System == "" {
		if c.ex.System, err = c.text(col.System, false); err != nil {
			return err
		}
	}
	if f, ok := c.row.Get(col.Tools); ok && !f.IsNull() {
		if s, ok := f.String(); ok {
			c.ex.Tools = s
		} else if raw := f.JSON(); string(raw) != "[]" {
			c.ex.Tools = string(raw)
		}
	}
	if err := c.medias(); err != nil {
		return err
	}
	used := map[string]bool{"": true, col.Prompt: true, col.Query: true, col.Response: true, col.History: true, col.Messages: true, col.System: true,
		col.Tools: true, col.Images: true, col.Videos: true, col.Audios: true, col.Chosen: true, col.Rejected: true, col.KTOTag: true}
	for _, f := range c.row.Fields {
		if !used[f.Name] {
			c.ex.Extra = append(c.ex.Extra, f)
		}
	}
	return nil
}

// text returns a string column; a missing or null one is "" unless required.
func (c *converter) text(column string, required bool) (string, error) {
	f, ok := c.row.Get(column)
	if !ok || f.IsNull() {
		if required {
			return "", fmt.Errorf("no column %q; the record has %s", column, strings.Join(c.row.Names(), ", "))
		}
		return "", nil
	}
	s, ok := f.String()
	if !ok {
		return "", fmt.Errorf("column %s: want a string, got %s", column, f.kind())
	}
	return s, nil
}

func (c *converter) alpaca() error {
	col := c.attr.Columns
	if f, ok := c.row.Get(col.History); ok && !f.IsNull() {
		var history [][]string
		if err := json.Unmarshal(f.JSON(), &history); err != nil {
			return fmt.Errorf("column %s: want a list of [question, answer]: %v", col.History, err)
		}
		for i, h := range history {
			if len(h) != 2 {
				return fmt.Errorf("column %s: entry %d: want [question, answer], got %d strings", col.History, i, len(h))
			}
			c.ex.Prompt = append(c.ex.Prompt, Turn{Role: User, Content: h[0]}, Turn{Role: Assistant, Content: h[1]})
		}
	}
	prompt, err := c.text(col.Prompt, false)
	if err != nil {
		return err
	}
	query, err := c.text(col.Query, false)
	if err != nil {
		return err
	}
	if query != "" && prompt != "" {
		prompt += "\n" + query
	} else if query != "" {
		prompt = query
	}
	if prompt == "" {
		if _, ok := c.row.Get(col.Prompt); !ok {
			return fmt.Errorf("no column %q; the record has %s", col.Prompt, strings.Join(c.row.Names(), ", "))
		}
		return fmt.Errorf("column %s: empty prompt", col.Prompt)
	}
	c.ex.Prompt = append(c.ex.Prompt, Turn{Role: User, Content: prompt})
	if c.attr.Ranking {
		return c.pair(func(f Field) (Turn, error) {
			s, ok := f.String()
			if !ok {
				return Turn{}, fmt.Errorf("want a string, got %s", f.kind())
			}
			return Turn{Role: Assistant, Content: s}, nil
		})
	}
	if col.Response == "" {
		return c.label()
	}
	f, ok := c.row.Get(col.Response)
	if !ok || f.IsNull() && f.Raw != nil {
		return c.label()
	}
	answer, ok := f.String()
	if !ok {
		return fmt.Errorf("column %s: want a string, got %s", col.Response, f.kind())
	}
	c.ex.Answers = []Turn{{Role: Assistant, Content: answer}}
	return c.label()
}

// label reads the KTO tag.
func (c *converter) label() error {
	f, ok := c.row.Get(c.attr.Columns.KTOTag)
	if !ok {
		if c.attr.Columns.KTOTag != "" && c.attr.Formatting != TRL {
			return fmt.Errorf("no column %q; the record has %s", c.attr.Columns.KTOTag, strings.Join(c.row.Names(), ", "))
		}
		return nil
	}
	var b bool
	if f.Raw == nil {
		v, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(f.Text)))
		if err != nil {
			return fmt.Errorf("column %s: want true or false, got %q", f.Name, f.Text)
		}
		b = v
	} else if err := json.Unmarshal(f.Raw, &b); err != nil || f.IsNull() {
		return fmt.Errorf("column %s: want true or false, got %s", f.Name, f.kind())
	}
	if len(c.ex.Answers) != 1 {
		return fmt.Errorf("column %s: a label without an answer", f.Name)
	}
	c.ex.Label = &b
	return nil
}

// pair reads chosen and rejected.
func (c *converter) pair(read func(Field) (Turn, error)) error {
	for _, column := range []string{c.attr.Columns.Chosen, c.attr.Columns.Rejected} {
		f, ok := c.row.Get(column)
		if !ok || f.IsNull() {
			return fmt.Errorf("no column %q; the record has %s", column, strings.Join(c.row.Names(), ", "))
		}
		t, err := read(f)
		if err != nil {
			return fmt.Errorf("column %s: %w", column, err)
		}
		if t.asks() {
			return fmt.Errorf("column %s: want an answer, got a message of role %s", column, t.Role)
		}
		c.ex.Answers = append(c.ex.Answers, t)
	}
	return nil
}

// medias reads image, video and audio paths.
func (c *converter) medias() error {
	col := c.attr.Columns
	for _, m := range []struct {
		column, placeholder string
		to                  *[]string
	}{{col.Images, "<image>", &c.ex.Images}, {col.Videos, "<video>", &c.ex.Videos}, {col.Audios, "<audio>", &c.ex.Audios}} {
		f, ok := c.row.Get(m.column)
		if ok && !f.IsNull() {
			paths, err := mediaPaths(f)
			if err != nil {
				return fmt.Errorf("column %s: %w", m.column, err)
			}
			*m.to = append(*m.to, paths...)
		}
		if len(*m.to) == 0 {
			continue
		}
		for i, p := range *m.to {
			if local := filepath.Join(c.media, filepath.FromSlash(p)); !filepath.IsAbs(p) && isFile(local) {
				(*m.to)[i] = local
			}
		}
		places := 0
		for _, t := range append(append([]Turn(nil), c.ex.Prompt...), c.ex.Answers...) {
			places += strings.Count(t.Content, m.placeholder)
		}
		if places != len(*m.to) {
			return fmt.Errorf("%d %s in the text, %d files in column %s", places, m.placeholder, len(*m.to), m.column)
		}
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// mediaPaths reads a path, a list of paths, or Hugging Face image objects {path, bytes}.
func mediaPaths(f Field) ([]string, error) {
	if s, ok := f.String(); ok && !strings.HasPrefix(strings.TrimSpace(s), "[") {
		return []string{s}, nil
	}
	raw := f.JSON()
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		list = []json.RawMessage{raw}
	}
	var paths []string
	for _, item := range list {
		var s string
		if json.Unmarshal(item, &s) == nil {
			paths = append(paths, s)
			continue
		}
		var object struct {
			Path  string `json:"path"`
			Bytes string `json:"bytes"`
		}
		if err := json.Unmarshal(item, &object); err != nil {
			return nil, fmt.Errorf("want a path or a list of paths, got %s", kindOfJSON(item))
		}
		if object.Bytes != "" {
			paths = append(paths, object.Bytes)
		} else if object.Path != "" {
			paths = append(paths, object.Path)
		} else {
			return nil, errors.New("an image object without path and bytes")
		}
	}
	return paths, nil
}
