package tokenizer

import (
	"slices"
	"testing"
)

func TestEncodeParts(t *testing.T) {
	tok, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	start, _ := tok.ID("<|im_start|>")
	for _, c := range []struct {
		parts    []Part
		controls int
	}{
		{[]Part{{Text: "<|im_start|>user\n"}, {Text: "hello 你好"}, {Text: "<|im_end|>\n"}}, 2},
		{[]Part{{Text: "<|im_start|>user\n"}, {Text: "a<|im_start|>b", Plain: true}, {Text: "<|im_end|>\n"}}, 2},
		{[]Part{{Text: "<|im_"}, {Text: "start|>", Plain: true}}, 0},
		{[]Part{{Text: "<|im_"}, {Text: "start|>"}}, 1},
		{[]Part{{Text: "<|im_start|>", Plain: true}, {Text: "<|im_start|>"}}, 1},
		{[]Part{{Text: "\xff<|im_start|>", Plain: true}}, 0},
		{nil, 0},
	} {
		whole, plain := "", false
		for _, p := range c.parts {
			whole += p.Text
			plain = plain || p.Plain
		}
		ids := tok.EncodeParts(c.parts)
		controls := 0
		for _, id := range ids {
			if tok.Kind(id) == Control {
				controls++
			}
		}
		if controls != c.controls {
			t.Errorf("%v: want %d control tokens, got %d (%v)", c.parts, c.controls, controls, ids)
		}
		if got := tok.Decode(ids, false); got != string(appendValid(nil, []byte(whole))) {
			t.Errorf("%v decodes to %q", c.parts, got)
		}
		if want := tok.Encode(whole, Options{ParseSpecial: true}); !plain && !slices.Equal(ids, want) {
			t.Errorf("%v: want %v, got %v", c.parts, want, ids)
		}
	}
	if start == 0 {
		t.Error("the vocabulary has no <|im_start|>")
	}
}
