package chat

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"danlu/tokenizer"
)

// llamaFactory is what LLaMA-Factory 0.9.5 (0.9.4 for belle, chatglm2, baichuan and baichuan2) gives for conversations
// under every format here, with two small vocabularies that hold all of the formats' tokens.
type llamaFactory struct {
	Conversations map[string]struct {
		System, Tools string
		Messages      []Turn
	}
	Cases []struct {
		Tokenizer, Template, Conversation string
		Thinking                          bool         `json:"enable_thinking"`
		LastOnly                          bool         `json:"mask_history"`
		Preserve                          bool         `json:"preserve_thinking"`
		Pairs                             [][2][]int32 // absent where the case is about truncation
		EOS, Vocab                        int32
		OneTurn                           []int32 // prompt and answer of a preference stage, where they are not the pairs joined
		PromptTokens                      int     `json:"prompt_tokens"`
		Error                             string
	}
}

func readLLaMAFactory(t *testing.T) (*llamaFactory, map[string]*tokenizer.Tokenizer) {
	t.Helper()
	f, err := os.Open("testdata/llamafactory.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all llamaFactory
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	toks := map[string]*tokenizer.Tokenizer{}
	for _, name := range []string{"bpe", "sp"} {
		if toks[name], err = tokenizer.Load("testdata/" + name); err != nil {
			t.Fatal(err)
		}
	}
	return &all, toks
}

// yiVL is the one format whose stop word LLaMA-Factory adds to a vocabulary that lacks it; here it stays text.
const yiVL = "yi_vl"

func TestFormatsAsLLaMAFactory(t *testing.T) {
	all, toks := readLLaMAFactory(t)
	checked := map[string]int{}
	for i, c := range all.Cases {
		conv := all.Conversations[c.Conversation]
		f, err := Lookup(c.Template, toks[c.Tokenizer])
		if err != nil {
			t.Fatal(err)
		}
		f.Thinking, f.PreserveThinking, f.Trusted = c.Thinking, c.Preserve, true
		f.Now = func() time.Time { return time.Date(2024, 7, 26, 9, 8, 7, 0, time.UTC) }
		name := c.Tokenizer + " " + c.Template + " " + c.Conversation
		pairs, err := f.Pairs(conv.System, conv.Tools, conv.Messages, c.LastOnly)
		if c.Error != "" {
			if err == nil {
				t.Errorf("%s: want an error like %q", name, c.Error)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.Template == yiVL && int(c.Vocab) > toks[c.Tokenizer].VocabSize() {
			continue
		}
		if f.EOS() != c.EOS {
			t.Errorf("%s: EOS: want %d, got %d", name, c.EOS, f.EOS())
		}
		if c.Pairs == nil {
			continue
		}
		checked[c.Template]++
		same := len(pairs) == len(c.Pairs)
		for k := 0; same && k < len(pairs); k++ {
			same = slices.Equal(pairs[k].Source, c.Pairs[k][0]) && slices.Equal(pairs[k].Target, c.Pairs[k][1])
		}
		if !same {
			t.Errorf("case %d %s thinking=%v last=%v preserve=%v:\nwant %.300s\ngot  %.300s", i, name, c.Thinking, c.LastOnly, c.Preserve, fmt.Sprint(c.Pairs), fmt.Sprint(pairs))
		}
	}
	for _, name := range Names() {
		if checked[name] == 0 && name != yiVL && name != chatGLM6B {
			t.Errorf("%s: no case was compared", name)
		}
	}
}

func TestChatGLM6B(t *testing.T) {
	_, toks := readLLaMAFactory(t)
	tok := toks["bpe"]
	f, err := Lookup("chatglm", tok)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		turns []Turn
		want  string
	}{
		{[]Turn{{User, "你好"}}, "你好[gMASK]<sop>"},
		{[]Turn{{User, "你好"}, {Assistant, "好"}, {User, "<sop>?"}}, "[Round 0]\n问：你好\n答：好\n[Round 1]\n问：<sop>?\n答：[gMASK]<sop>"},
	} {
		ids, err := f.Prompt("", "", c.turns)
		if err != nil {
			t.Fatal(err)
		}
		controls := 0
		for _, id := range ids {
			if tok.Kind(id) == tokenizer.Control {
				controls++
			}
		}
		if got := tok.Decode(ids, false); got != c.want || controls != 2 {
			t.Errorf("want %q, got %q with %d control tokens", c.want, got, controls)
		}
	}
	pairs, err := f.Pairs("", "", []Turn{{User, "a"}, {Assistant, "b"}, {User, "c"}, {Assistant, "d"}}, false)
	if err != nil || len(pairs) != 1 || tok.Decode(pairs[0].Target, false) != "d"+tok.Piece(f.EOS()) {
		t.Errorf("want one pair that ends with the last answer, got %v, %v", pairs, err)
	}
	if _, err := f.Prompt("", `[{"name":"f"}]`, []Turn{{User, "x"}}); err == nil {
		t.Error("tools: want an error")
	}
}

func TestFitting(t *testing.T) {
	tok, err := tokenizer.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	got := Fitting(tok)
	if !slices.Contains(got, "chatml") || slices.Contains(got, "llama3") || slices.Contains(got, "alpaca") {
		t.Errorf("a vocabulary of ChatML fits %v", got)
	}
}
