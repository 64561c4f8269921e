package chat

import (
	"strings"
	"testing"

	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// A format written as a chat template reads as the format itself.
func TestFormatsAsTemplates(t *testing.T) {
	_, toks := readLLaMAFactory(t)
	conversations := [][]Turn{
		{{User, "Hi there"}},
		{{User, "What's 1+1?\n"}, {Assistant, "It's \\2."}, {User, "你好"}},
		{{User, "a"}, {Assistant, "b"}, {User, "c"}, {Assistant, "d"}, {User, "e"}},
	}
	checked := 0
	for vocabulary, tok := range toks {
		for _, name := range Names() {
			f, err := Lookup(name, tok)
			if err != nil {
				t.Fatal(err)
			}
			tpl, err := NewTemplate(f.Jinja(), jinja.NewDict())
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, system := range []string{"", "Be 'brief'.\nAlways."} {
				for _, turns := range conversations {
					want, err := f.Prompt(system, "", turns)
					if err != nil {
						t.Fatal(err)
					}
					c := &Conversation{Open: true}
					if system != "" {
						c.Messages = append(c.Messages, NewMessage(System, system))
					}
					for _, turn := range turns {
						c.Messages = append(c.Messages, NewMessage(turn.Role, turn.Content))
					}
					text, err := tpl.Render(c)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						continue
					}
					// Formats encode slot by slot, and a SentencePiece vocabulary puts a space before each: there the texts
					// are compared without spaces.
					got := tok.Decode(tok.Encode(text, tokenizer.Options{ParseSpecial: true}), false)
					asked := tok.Decode(want, false)
					if vocabulary == "sp" {
						got, asked = strings.ReplaceAll(got, " ", ""), strings.ReplaceAll(asked, " ", "")
					}
					if got != asked {
						t.Errorf("%s %s: %q, want %q", vocabulary, name, got, asked)
					}
					checked++
				}
			}
		}
	}
	if checked == 0 {
		t.Fatal("nothing was checked")
	}
}
