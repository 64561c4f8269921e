package chat

import (
	"strings"
	"testing"
	"unicode/utf8"

	"danlu/tokenizer"
)

func TestText(t *testing.T) {
	for _, name := range []string{"bpe", "sp"} {
		tok, err := tokenizer.Load("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		end, _ := tok.ID("<|im_end|>")
		for _, c := range []struct {
			text, want string
			stops      []string
			stop       bool
		}{
			{"Hello 你好 🙂 wörld", "Hello 你好 🙂 wörld", nil, false},
			{"Hello STOP here", "Hello ", []string{"STOP"}, true},
			{"Hello STO here", "Hello STO here", []string{"STOP"}, false},
			{"Hello STO", "Hello STO", []string{"STOP"}, false},
			{"a\n\n\nb", "a", []string{"\n\n", "\n\n\n"}, true},
			{"好的。用户：你好", "好的。", []string{"用户：", "\nUser:"}, true},
			{"xaab", "x", []string{"aab"}, true},
			{"xaaab", "xa", []string{"aab"}, true},
		} {
			ids := tok.Encode(c.text, tokenizer.Options{})
			ids = append(ids[:len(ids):len(ids)], end) // a control token is no text
			x := NewText(tok, nil, c.stops, nil)
			var b strings.Builder
			stopped := false
			for _, id := range ids {
				s, stop := x.Next(id)
				b.WriteString(s)
				if !utf8.ValidString(s) {
					t.Errorf("%s %q: part of a character in %q", name, c.text, s)
				}
				for _, stop := range c.stops {
					if strings.Contains(b.String(), stop) {
						t.Errorf("%s %q: the stop string was shown", name, c.text)
					}
				}
				if stopped = stopped || stop; stop {
					break
				}
			}
			b.WriteString(x.Flush())
			if b.String() != c.want || stopped != c.stop {
				t.Errorf("%s %q stops %q: want %q %v, got %q %v", name, c.text, c.stops, c.want, c.stop, b.String(), stopped)
			}
		}
	}
}

// A continuation keeps its leading space, a text of its own has none.
func TestTextAfterPrompt(t *testing.T) {
	tok, err := tokenizer.Load("testdata/sp")
	if err != nil {
		t.Fatal(err)
	}
	ids := tok.Encode("hello world", tokenizer.Options{})
	cut := 0
	for i, id := range ids {
		if i > 0 && strings.HasPrefix(string(tok.Bytes(id)), " ") {
			cut = i
		}
	}
	if cut == 0 {
		t.Fatal("no id begins with a space")
	}
	for _, c := range []struct {
		prompt []int32
		want   string
	}{{ids[:cut], " world"}, {nil, "world"}} {
		x := NewText(tok, c.prompt, nil, nil)
		got := ""
		for _, id := range ids[cut:] {
			s, _ := x.Next(id)
			got += s
		}
		if got += x.Flush(); got != c.want {
			t.Errorf("behind %v: want %q, got %q", c.prompt, c.want, got)
		}
	}
}
