package tokenizer

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// A tiktoken file holds ranks only: pattern and special tokens are in each family's code.
type tiktokenVocab struct {
	ranks   int // in the published file
	pre     string
	special []string // in id order after the ranks
	prefix  []string // begin every text
}

// tiktokenFamily finds the family by the class in tokenizer_config.json, by the file's name, or by the number of ranks,
// which differs between all published files. Special tokens that added_tokens_decoder lists replace the family's own.
func tiktokenFamily(name string, data []byte, c *modelConfig) tiktokenVocab {
	ranks := bytes.Count(data, []byte("\n"))
	if len(data) > 0 && data[len(data)-1] != '\n' {
		ranks++
	}
	f := llama3Vocab
	switch {
	case c.class == "ChatGLM4Tokenizer" || ranks == glm4Vocab.ranks:
		f = glm4Vocab
	case strings.HasPrefix(c.class, "QWen"):
		f = qwenVocab
		f.special = append(slices.Clip(f.special), numbered("<|extra_%d|>", 0, 205)...)
	case strings.HasPrefix(name, "qwen") || ranks == qwenVocab.ranks:
		f = qwenVocab
	case ranks != llama3Vocab.ranks:
		f.special = []string{"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}
	}
	for _, a := range c.added {
		if int(a.ID) == ranks {
			f.special = nil
			if f.prefix != nil && !c.names(f.prefix) {
				f.prefix = nil
			}
		}
	}
	return f
}

// names reports whether the added tokens hold all the texts.
func (c *modelConfig) names(texts []string) bool {
	found := 0
	for _, a := range c.added {
		for _, s := range texts {
			if a.Content == s {
				found++
			}
		}
	}
	return found == len(texts)
}

var (
	// llama-models, tokenizer.py
	llama3Vocab = tiktokenVocab{128000, "llama3", append([]string{"<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
		"<|reserved_special_token_1|>", "<|reserved_special_token_2|>", "<|reserved_special_token_3|>", "<|start_header_id|>",
		"<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"}, numbered("<|reserved_special_token_%d|>", 5, 251)...),
		[]string{"<|begin_of_text|>"}}
	// Qwen, tokenization_qwen.py; its first version also has 205 spare tokens
	qwenVocab = tiktokenVocab{151643, "qwen", []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}, nil}
	// GLM-4, tokenization_chatglm.py
	glm4Vocab = tiktokenVocab{151329, "glm4", []string{"<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>",
		"<|user|>", "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"},
		[]string{"[gMASK]", "<sop>"}}
)

func numbered(format string, from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}
