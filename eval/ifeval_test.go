package eval

import (
	"testing"

	"danlu/chat/jinja"
)

// Each instruction has answers that follow it and answers that do not.
func TestInstructions(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []struct {
		id      string
		kwargs  Doc
		yes, no string
	}{
		{"keywords:existence", newDoc("keywords", jinja.List{"red", "blue"}), "Red and blue.", "Red only."},
		{"keywords:frequency", newDoc("keyword", "go", "frequency", int64(2), "relation", "at least"), "Go, go.", "Go."},
		{"keywords:forbidden_words", newDoc("forbidden_words", jinja.List{"cat"}), "A category.", "A cat."},
		{"keywords:letter_frequency", newDoc("letter", "e", "let_frequency", int64(4), "let_relation", "less than"), "we see", "we see me"},
		{"language:response_language", newDoc("language", "de"), "Das ist ein Haus und der Hund ist nicht da.", "This is a house and the dog is not there."},
		{"language:response_language", newDoc("language", "zh"), "这是一座房子。", "This is a house."},
		{"language:response_language", newDoc("language", "hi"), "यह एक घर है और कुत्ता वहाँ नहीं है", "Это дом, и собаки там нет"},
		{"length_constraints:number_sentences", newDoc("num_sentences", int64(3), "relation", "at least"), "Mr. Lee came. He sat. He left!", "Mr. Lee came. He sat."},
		{"length_constraints:number_paragraphs", newDoc("num_paragraphs", int64(2)), "One\n***\nTwo", "One\n***\n***\nTwo"},
		{"length_constraints:number_words", newDoc("num_words", int64(3), "relation", "at least"), "one two three", "one two"},
		{"length_constraints:nth_paragraph_first_word", newDoc("num_paragraphs", int64(2), "nth_paragraph", int64(2), "first_word", "hello"), "a b\n\n\"Hello, you", "Hello\n\na b"},
		{"detectable_content:number_placeholders", newDoc("num_placeholders", int64(2)), "[name] of [place]", "[name]"},
		{"detectable_content:postscript", newDoc("postscript_marker", "P.S."), "Text\nP.S. more", "Text PS more"},
		{"detectable_content:postscript", newDoc("postscript_marker", "P.P.S"), "Text\nP.P.S more", "Text\nP.S. more"},
		{"detectable_format:number_bullet_lists", newDoc("num_bullets", int64(2)), "* a\n- b", "* a\n** b"},
		{"detectable_format:constrained_response", newDoc(), "My answer is no.", "No."},
		{"detectable_format:number_highlighted_sections", newDoc("num_highlights", int64(2)), "*a* and *b*", "*a* and * *"},
		{"detectable_format:multiple_sections", newDoc("section_spliter", "Section", "num_sections", int64(2)), "Section 1\na\nSection 2\nb", "Section 1\na"},
		{"detectable_format:json_format", newDoc(), "```json\n{\"a\": [1]}\n```", "{a: 1}"},
		{"detectable_format:title", newDoc(), "<<A title>>\ntext", "<< >>"},
		{"combination:two_responses", newDoc(), "one\n******\ntwo", "one\n******\none"},
		{"combination:repeat_prompt", newDoc("prompt_to_repeat", "Say it."), "say it. Yes.", "Yes."},
		{"startend:end_checker", newDoc("end_phrase", "The end."), "Once. \"the end.\"", "The end. Bye."},
		{"startend:quotation", newDoc(), "\"all of it\"", "\"all\" of it"},
		{"change_case:capital_word_frequency", newDoc("capital_frequency", int64(2), "capital_relation", "at least"), "A BIG-ONE here", "A big one here"},
		{"change_case:english_capital", newDoc(), "THE DOG IS NOT HERE", "THE DOG is NOT HERE"},
		{"change_case:english_lowercase", newDoc(), "the dog is not here", "The dog is not here"},
		{"punctuation:no_comma", newDoc(), "no comma", "a, comma"},
	} {
		seen[c.id] = true
		for answer, want := range map[string]float64{c.yes: 1, c.no: 0} {
			d := newDoc("instruction_id_list", jinja.List{c.id}, "kwargs", jinja.List{c.kwargs})
			got, err := judgeInstructions(d, []string{answer})
			if err != nil || got["prompt_level_strict_acc"].X != want {
				t.Errorf("%s of %q: want %v, got %v %v", c.id, answer, want, got, err)
			}
		}
	}
	for id := range instructions {
		if !seen[id] {
			t.Errorf("%s is not tested", id)
		}
	}
}

// The loose judgement forgives a first line, a last line and stars; instructions are counted one by one.
func TestLooseInstructions(t *testing.T) {
	d := newDoc("instruction_id_list", jinja.List{"startend:quotation", "punctuation:no_comma"}, "kwargs", jinja.List{newDoc(), newDoc()})
	got, err := judgeInstructions(d, []string{"Sure:\n\"*text*\""})
	if err != nil {
		t.Fatal(err)
	}
	if got["prompt_level_strict_acc"].X != 0 || got["prompt_level_loose_acc"].X != 1 || got["inst_level_strict_acc"] != (Value{1, 2}) || got["inst_level_loose_acc"] != (Value{2, 2}) {
		t.Errorf("got %v", got)
	}
	if got, _ = judgeInstructions(d, []string{" "}); got["inst_level_loose_acc"].X != 0 {
		t.Error("an empty answer follows instructions")
	}
	d.SetString("kwargs", jinja.List{newDoc()})
	if _, err := judgeInstructions(d, []string{"x"}); err == nil {
		t.Error("kwargs of another number were taken")
	}
	d = newDoc("instruction_id_list", jinja.List{"keywords:frequency"}, "kwargs", jinja.List{newDoc("keyword", "(")})
	if _, err := judgeInstructions(d, []string{"x"}); err == nil {
		t.Error("a broken pattern was taken")
	}
}
