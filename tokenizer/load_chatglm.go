package tokenizer

import (
	"fmt"
	"slices"
	"strings"
)

// addChatGLM adds what the tokenizer code of the ChatGLM models holds besides the SentencePiece file
// (tokenization_chatglm.py): ChatGLM2 and 3 have special tokens after the pieces, ChatGLM-6B spells white space.
func (t *Tokenizer) addChatGLM(c *modelConfig) error {
	if c.images != nil {
		return t.addChatGLM6B(*c.images)
	}
	special := []string{"[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"}
	var list []AddedToken
	for i, s := range special {
		list = append(list, AddedToken{ID: int32(len(t.pieces) + i), Content: s, Special: true})
	}
	t.addTokens(list)
	t.pad = t.unk
	t.prefix = []int32{list[1].ID, list[3].ID}
	return nil
}

// addChatGLM6B makes line breaks, tabs and runs of spaces the pieces <n>, <|tab|> and <|blank_N|>. A text ends with
// [gMASK] and <sop>.
func (t *Tokenizer) addChatGLM6B(images int32) error {
	if images != 0 {
		return t.fail("num_image_tokens", "want 0, as in the published files, got %d", images)
	}
	step := &chatGLMStep{}
	for _, id := range t.userDefined() {
		switch p := t.pieces[id]; {
		case p == "<n>":
			t.bytes[id] = "\n"
		case p == "<|tab|>":
			t.bytes[id] = "\t"
		case strings.HasPrefix(p, "<|blank_"):
			var n int
			if _, err := fmt.Sscanf(p, "<|blank_%d|>", &n); err == nil && n > 1 && n <= maxBlank {
				t.bytes[id] = strings.Repeat(" ", n)
				step.longest = max(step.longest, n)
			}
		}
	}
	t.normalizer = slices.Insert(t.normalizer, 0, normStep(step))
	for _, s := range []string{"[gMASK]", "<sop>"} {
		id, ok := t.ID(s)
		if !ok {
			return t.fail("pieces", "want %q among them, as in the published file", s)
		}
		t.suffix = append(t.suffix, id)
	}
	t.prefix = nil
	return nil
}

// maxBlank is the longest run of spaces with a piece of its own.
const maxBlank = 80

func (t *Tokenizer) userDefined() []int32 {
	var ids []int32
	for id, k := range t.kinds {
		if k == UserDefined || k == Normal && strings.HasPrefix(t.pieces[id], "<") {
			ids = append(ids, int32(id))
		}
	}
	return ids
}

// chatGLMStep spells white space as ChatGLM-6B's pieces.
type chatGLMStep struct{ longest int }

func (s *chatGLMStep) apply(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		switch text[i] {
		case '\n':
			out = append(out, "<n>"...)
		case '\t':
			out = append(out, "<|tab|>"...)
		case ' ':
			n := 1
			for n < s.longest && i+n < len(text) && text[i+n] == ' ' {
				n++
			}
			if n > 1 {
				out = fmt.Appendf(out, "<|blank_%d|>", n)
				i += n
				continue
			}
			out = append(out, ' ')
		default:
			out = append(out, text[i])
		}
		i++
	}
	return out
}
