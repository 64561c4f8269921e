package chat

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"danlu/tokenizer"
)

// longest returns the longest reference conversation of a template.
func longest(b *testing.B, name string) *Conversation {
	b.Helper()
	f, err := os.Open(filepath.Join("../testdata/goldens/templates", name, "cases.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	var best []byte
	for lines.Scan() {
		var c struct{ Rendered string }
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			b.Fatal(err)
		}
		if c.Rendered != "" && len(lines.Bytes()) > len(best) {
			best = append([]byte(nil), lines.Bytes()...)
		}
	}
	c, err := ParseConversation(best)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkRender(b *testing.B) {
	for _, name := range []string{"qwen2.5", "qwen3-0.6b", "llama-3.1", "deepseek-r1-distill-qwen"} {
		b.Run(name, func(b *testing.B) {
			source, err := os.ReadFile(filepath.Join("../testdata/goldens/templates", name, "template.jinja"))
			if err != nil {
				b.Fatal(err)
			}
			t, err := NewTemplate(string(source), nil)
			if err != nil {
				b.Fatal(err)
			}
			c := longest(b, name)
			text, err := t.Render(c)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := t.Render(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParser(b *testing.B) {
	tok, err := tokenizer.Load("testdata/bpe")
	if err != nil {
		b.Fatal(err)
	}
	s := Speech{Think: [2]string{"<think>", "</think>"}}
	s, _ = s.WithCalls(Hermes)
	text := "<think>\nlet me think about it, 好的\n</think>\n\nSome answer text that goes on and on.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"
	ids := tok.Encode(text, tokenizer.Options{ParseSpecial: true})
	b.ReportAllocs()
	for b.Loop() {
		p, x := s.Parser(false, nil), NewText(tok, nil, nil, nil)
		for _, id := range ids {
			piece, _ := x.Next(id)
			p.Feed(piece)
		}
		p.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ids)), "ns/token")
}
