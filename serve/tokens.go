package serve

import (
	"net/http"

	"danlu/tokenizer"
)

// tokenize answers /tokenize: the ids of a text or of a conversation.
func (s *Server) tokenize(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	m := s.named(f)
	if m == nil {
		return f.err
	}
	special, spelled := true, false
	f.bool("add_special_tokens", &special)
	f.bool("return_token_strs", &spelled)
	var ids []int32
	var text string
	if read(f, "prompt", "a text", &text) {
		ids = m.Tokenizer.Encode(text, tokenizer.Options{ParseSpecial: true, AddSpecial: special})
	} else if f.err == nil {
		if ids, e = m.converse(f); e != nil {
			return e
		}
	}
	if e := f.done(); e != nil {
		return e
	}
	out := map[string]any{"tokens": append([]int32{}, ids...), "count": len(ids), "max_model_len": m.Runner.Context()}
	if spelled {
		words := []string{}
		for _, id := range ids {
			words = append(words, m.Tokenizer.Piece(id))
		}
		out["token_strs"] = words
	}
	writeJSON(w, out)
	return nil
}

// converse is the prompt that a conversation comes to.
func (m *Model) converse(f *fields) ([]int32, *apiError) {
	if m.Dialect == nil {
		return nil, badField("messages", "the model %q has no chat template", m.ID)
	}
	choice, _ := f.take("tool_choice")
	c, e := conversation(f, m.Dialect.Speech(), nil)
	if e != nil {
		return nil, e
	}
	if string(choice) == `"none"` {
		c.Tools = nil
	}
	p, err := m.Dialect.Prompt(c)
	if err != nil {
		return nil, badField("messages", "%v", err)
	}
	return p.IDs, nil
}

// detokenize answers /detokenize: the text of ids.
func (s *Server) detokenize(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	m := s.named(f)
	if m == nil {
		return f.err
	}
	var ids []int32
	if !read(f, "tokens", "a list of token ids", &ids) && f.err == nil {
		f.fail(badField("tokens", "is missing"))
	}
	vocab := m.Tokenizer.VocabSize()
	for _, id := range ids {
		if id < 0 || int(id) >= vocab {
			f.fail(badField("tokens", "want token ids of 0 to %d, got %d", vocab-1, id))
			break
		}
	}
	if e := f.done(); e != nil {
		return e
	}
	writeJSON(w, map[string]string{"prompt": m.Tokenizer.Decode(ids, false)})
	return nil
}
