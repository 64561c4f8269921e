package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"danlu/chat"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/tokenizer"
)

// tokenizerOf reads the tokenizer of a model folder, a weight file's folder, or a GGUF file.
func tokenizerOf(path string) (*tokenizer.Tokenizer, error) {
	if strings.HasSuffix(path, ".safetensors") {
		path = filepath.Dir(path)
	}
	return tokenizer.Load(path)
}

// sampling holds the flags that choose among tokens; those that are not given keep the model's own defaults.
type sampling struct{ generate.Sampling }

func (s *sampling) flags(f *pflag.FlagSet) {
	own := locale.Text("; default: the model's generation_config.json", "；默认取模型的 generation_config.json")
	f.Float64Var(&s.Temperature, "temperature", 0, locale.Text("0: always the most probable token", "0 表示总取概率最大的 token")+own)
	f.IntVar(&s.TopK, "top-k", 0, locale.Text("choose among so many; 0: all", "只在前 K 个中选择；0 表示全部")+own)
	f.Float64Var(&s.TopP, "top-p", 0, locale.Text("choose among the fewest whose probability exceeds this; 0: all", "累计概率阈值；0 表示全部")+own)
	f.Float64Var(&s.MinP, "min-p", 0, locale.Text("leave out what is less probable than this share of the best; 0: nothing", "剔除概率低于最大概率此比例者；0 表示不剔除")+own)
	f.Float64Var(&s.RepetitionPenalty, "repetition-penalty", 0, locale.Text("above 1 makes repetition less likely", "大于 1 时抑制重复")+own)
	f.Uint64Var(&s.Seed, "seed", 0, locale.Text("of the choices", "随机种子"))
}

// over returns the model's defaults with the given flags in their place. otherwise stands in where the model says nothing.
func (s *sampling) over(f *pflag.FlagSet, d generate.Defaults, otherwise generate.Sampling) generate.Sampling {
	out := d.Sampling
	if !d.Sampled {
		out.Temperature, out.TopK, out.TopP = otherwise.Temperature, otherwise.TopK, otherwise.TopP
	}
	for name, set := range map[string]func(){
		"temperature":        func() { out.Temperature = s.Temperature },
		"top-k":              func() { out.TopK = s.TopK },
		"top-p":              func() { out.TopP = s.TopP },
		"min-p":              func() { out.MinP = s.MinP },
		"repetition-penalty": func() { out.RepetitionPenalty = s.RepetitionPenalty },
	} {
		if f.Changed(name) {
			set()
		}
	}
	out.Seed = s.Seed
	return out
}

// dialectOf returns how a model converses: the named format, or its own template.
func dialectOf(path, template string, tok *tokenizer.Tokenizer) (*chat.Dialect, error) {
	if strings.HasSuffix(path, ".safetensors") {
		path = filepath.Dir(path)
	}
	d, err := chat.Open(path, template, tok)
	if isNoTemplate(err) {
		names, which := chat.Fitting(tok), locale.Text("its vocabulary has the tokens of", "其词表含有这些格式的 token：")
		if len(names) == 0 {
			names, which = chat.Names(), locale.Text("known are", "可用：")
		}
		return nil, fmt.Errorf(locale.Text("MODEL: %s has no chat template (a base model?); choose a format with --template NAME, %s %s", "MODEL：%s 没有对话模板（基座模型？）；用 --template 名称 选择格式，%s %s"),
			path, which, strings.Join(names, ", "))
	}
	return d, err
}

// parseThinking reads a switch for thinking; "" leaves it to the template.
func parseThinking(value string) (*bool, error) {
	if value == "" {
		return nil, nil
	}
	if value != "on" && value != "off" {
		return nil, fmt.Errorf(locale.Text("thinking: want on or off, got %q", "thinking：需要 on 或 off，得到 %q"), value)
	}
	on := value == "on"
	return &on, nil
}

// endTokens joins the ids that end an answer, from wherever they are named.
func endTokens(info family.Info, d generate.Defaults, more ...int32) []int32 {
	ids := slices.Concat(d.End, more)
	for _, id := range info.EOS {
		ids = append(ids, int32(id))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// longPrompt is the number of tokens from which reading a prompt is shown.
const longPrompt = 512

// prefillBar returns a callback that shows how far a long prompt was read, and what ends it.
func prefillBar(tokens int, quiet bool) (show func(done, total int), end func()) {
	if tokens < longPrompt || quiet {
		return nil, func() {}
	}
	bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("reading the prompt", "读取提示"), Total: int64(tokens), Chinese: locale.Chinese()})
	return func(done, total int) {
		bar.Update(int64(done))
		if done == total {
			bar.Done()
		}
	}, bar.Done
}
