package data

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"danlu/chat"
	"danlu/tokenizer"
)

// Ids and labels of whole conversations are LLaMA-Factory's, under every format, cut-off and mask.
func TestChatEncoderAsLLaMAFactory(t *testing.T) {
	f, err := os.Open("../chat/testdata/llamafactory.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Conversations map[string]struct {
			System, Tools string
			Messages      []Turn
		}
		Cases []struct {
			Tokenizer, Template, Conversation string
			Thinking                          bool    `json:"enable_thinking"`
			MaskHistory                       bool    `json:"mask_history"`
			Preserve                          bool    `json:"preserve_thinking"`
			CutoffLen                         int     `json:"cutoff_len"`
			IDs                               []int32 `json:"input_ids"`
			Labels                            []int32
			Vocab                             int
			OneTurn                           []int32
			PromptTokens                      int `json:"prompt_tokens"`
			Error                             string
		}
	}
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	toks := map[string]*tokenizer.Tokenizer{}
	for _, name := range []string{"bpe", "sp"} {
		if toks[name], err = tokenizer.Load("../chat/testdata/" + name); err != nil {
			t.Fatal(err)
		}
	}
	checked := 0
	for i, c := range all.Cases {
		if c.Error != "" || c.Vocab > toks[c.Tokenizer].VocabSize() { // yi_vl's stop word is not added here
			continue
		}
		format, err := chat.Lookup(c.Template, toks[c.Tokenizer])
		if err != nil {
			t.Fatal(err)
		}
		format.Thinking, format.PreserveThinking, format.Trusted = c.Thinking, c.Preserve, true
		format.Now = func() time.Time { return time.Date(2024, 7, 26, 9, 8, 7, 0, time.UTC) }
		conv := all.Conversations[c.Conversation]
		last := len(conv.Messages) - 1
		ex := &Example{System: conv.System, Tools: conv.Tools, Prompt: conv.Messages[:last], Answers: conv.Messages[last:]}
		name := fmt.Sprintf("case %d %s %s %s cutoff %d", i, c.Tokenizer, c.Template, c.Conversation, c.CutoffLen)
		e := &ChatEncoder{Template: Formatted{format, c.MaskHistory}, CutoffLen: c.CutoffLen, MaskHistory: c.MaskHistory, EfficientEOS: format.EfficientEOS()}
		got, err := e.Encode(ex)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checked++
		if s := got.Sequences[0]; !slices.Equal(s.IDs, c.IDs) || !slices.Equal(s.Labels, c.Labels) {
			t.Errorf("%s thinking=%v history=%v:\nwant %.200s\n     %.200s\ngot  %.200s\n     %.200s", name, c.Thinking, c.MaskHistory, fmt.Sprint(c.IDs), fmt.Sprint(c.Labels), fmt.Sprint(s.IDs), fmt.Sprint(s.Labels))
		}
		if c.OneTurn == nil || c.Preserve {
			continue
		}
		prompt, response, err := oneTurn(Formatted{format, true}, ex, 0, -1)
		if err != nil || len(prompt) != c.PromptTokens || !slices.Equal(append(prompt, response...), c.OneTurn) {
			t.Errorf("%s: one turn: want %d+%d tokens, got %d+%d, %v", name, c.PromptTokens, len(c.OneTurn)-c.PromptTokens, len(prompt), len(response), err)
		}
	}
	if checked < 500 {
		t.Errorf("only %d cases were compared", checked)
	}
}
