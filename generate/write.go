package generate

import (
	"context"
	"strings"

	"danlu/chat"
	"danlu/tokenizer"
)

// Writing is a Request whose answer is wanted as text.
type Writing struct {
	Request
	Tokenizer *tokenizer.Tokenizer
	Fresh     bool              // the text stands for itself and does not go on with the prompt's: an answer
	Stops     []string          // strings that end the text and are no part of it
	Keep      map[int32]bool    // control tokens that are part of the text
	Write     func(text string) // told of text as soon as it is certain; nil: nobody
}

// Written is what a Writing came to.
type Written struct {
	Result
	Text string
}

// Write generates text. The sequence is extended as by Generate.
func (r *Runner) Write(ctx context.Context, s *Sequence, w Writing) (Written, error) {
	before := append(s.IDs[max(0, len(s.IDs)-4):len(s.IDs):len(s.IDs)], w.Prompt...)
	if w.Fresh {
		before = nil
	}
	text := chat.NewText(w.Tokenizer, before, w.Stops, w.Keep)
	var b strings.Builder
	put := func(piece string) {
		b.WriteString(piece)
		if w.Write != nil && piece != "" {
			w.Write(piece)
		}
	}
	also := w.Token
	w.Token = func(t Token) bool {
		piece, stop := text.Next(t.ID)
		put(piece)
		return also != nil && also(t) || stop
	}
	res, err := r.Generate(ctx, s, w.Request)
	put(text.Flush())
	return Written{res, b.String()}, err
}

// Resume cuts a sequence back to what it shares with a new prompt, and returns the rest of the prompt, which is at
// least its last token. A sequence whose first tokens see each other both ways is read anew. pictures are the prompt's.
func (r *Runner) Resume(s *Sequence, prompt []int32, pictures *Pictures) (rest []int32) {
	n := s.Shared(prompt, pictures)
	r.Truncate(s, n)
	s.Pictures = pictures
	return prompt[len(s.IDs):]
}
