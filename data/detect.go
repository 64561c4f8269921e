package data

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Detect reads the first records of a file or folder and says what format it has: plain text, alpaca, sharegpt, OpenAI
// messages or a TRL record, with preference, KTO, tool and media columns.
func Detect(path string) (*Attr, error) {
	files, err := Open([]string{path}, ReadOptions{})
	if err != nil {
		return nil, err
	}
	defer files.Close()
	var first error
	for range 100 {
		row, err := files.Next()
		var bad *RowError
		if errors.As(err, &bad) {
			if first == nil {
				first = err
			}
			continue
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		a, err := detectRow(&row)
		if err != nil {
			return nil, fmt.Errorf("data: %s: %w; name the columns in %s", path, err, InfoFile)
		}
		a.Name, a.Paths, a.Detected, a.Split = path, []string{path}, true, "train"
		if ext, _ := splitExt(row.File); ext == ".txt" || ext == ".text" || ext == ".md" {
			a.TextUnit = "line"
			paragraphs, err := looksLikeParagraphs(row.File)
			if err != nil {
				return nil, err
			}
			if paragraphs {
				a.TextUnit = "paragraph"
			}
		}
		return a, nil
	}
	if first != nil {
		return nil, fmt.Errorf("data: %s: no readable record: %w", path, first)
	}
	return nil, fmt.Errorf("data: %s: empty dataset: no record in it", path)
}

func detectRow(row *Row) (*Attr, error) {
	has := func(name string) bool { _, ok := row.Get(name); return ok }
	pick := func(names ...string) string {
		for _, n := range names {
			if has(n) {
				return n
			}
		}
		return ""
	}
	common := func(c Columns) Columns {
		c.System = pick("system", "system_prompt")
		c.Tools = pick("tools")
		c.Images = pick("images", "image")
		c.Videos = pick("videos", "video")
		c.Audios = pick("audios", "audio")
		return c
	}
	chosen, rejected := pick("chosen", "chosen_messages"), pick("rejected", "rejected_messages")
	ranking := chosen != "" && rejected != ""
	tag := ""
	for _, n := range []string{"kto_tag", "label"} {
		if f, ok := row.Get(n); ok && f.kind() == "boolean" {
			tag = n
		}
	}
	if m := pick("conversations", "messages", "conversation"); m != "" {
		f, _ := row.Get(m)
		var turns []map[string]json.RawMessage
		if err := json.Unmarshal(f.JSON(), &turns); err != nil || len(turns) == 0 {
			return nil, fmt.Errorf("column %s: want a non-empty list of messages, got %s", m, f.kind())
		}
		c := common(Columns{Messages: m, KTOTag: tag})
		if c.System == "system_prompt" {
			c.System = ""
		}
		if ranking {
			c.Chosen, c.Rejected = chosen, rejected
		}
		a := &Attr{Formatting: ShareGPT, Ranking: ranking, Columns: c, Tags: DefaultTags}
		if _, ok := turns[0]["role"]; ok {
			a.Formatting, a.Tags = OpenAI, MessageTags
		} else if _, ok := turns[0]["from"]; !ok {
			return nil, fmt.Errorf("column %s: messages have neither role nor from", m)
		}
		return a, nil
	}
	if p := pick("instruction"); p != "" {
		// Columns that many records leave out are read where they appear, whatever the first record has.
		c := common(Columns{Prompt: p, Query: cmp.Or(pick("input", "query"), "input"), Response: pick("output", "response", "completion"), History: "history", KTOTag: tag})
		c.System = cmp.Or(c.System, "system")
		if ranking {
			c.Chosen, c.Rejected = chosen, rejected
		}
		return &Attr{Formatting: Alpaca, Ranking: ranking, Columns: c, Tags: DefaultTags}, nil
	}
	if ranking {
		c := common(Columns{Prompt: pick("prompt", "question"), Chosen: chosen, Rejected: rejected})
		return &Attr{Formatting: TRL, Ranking: true, Columns: c, Tags: MessageTags}, nil
	}
	if p, r := pick("prompt", "question", "query", "problem"), pick("completion", "response", "answer", "output", "solution"); p != "" && (r != "" || p == "prompt") {
		c := common(Columns{Prompt: p, Response: r, KTOTag: tag})
		return &Attr{Formatting: TRL, Columns: c, Tags: MessageTags}, nil
	}
	if t := pick("text", "content"); t != "" {
		return &Attr{Formatting: Text, Columns: Columns{Prompt: t}, Tags: DefaultTags}, nil
	}
	return nil, fmt.Errorf("unknown columns %s", strings.Join(row.Names(), ", "))
}
