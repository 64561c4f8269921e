package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/tokenizer"
)

// trainFlags are the flags of danlu tokenizer train that are no option of spm_train's trainer.
type trainFlags struct {
	input          []string
	prefix, dir    string
	kind           string
	pattern        string
	special        []string
	minFrequency   int64
	maxTokenLength int
	nfc            bool
	vocabSize      int
	maxWords       int
	state          string
	numThreads     int
	trainer        *tokenizer.SPMTrainer
	spm            map[string]*string
}

// underscores lets flags be spelled as spm_train spells them.
func underscores(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
}

// byteOnly are the flags that only byte-level training takes.
var byteOnly = []string{"pattern", "special-tokens", "min-frequency", "max-token-length", "nfc"}

func newTokenizerTrain(o *options) *cobra.Command {
	t := &trainFlags{trainer: tokenizer.DefaultSPM(), spm: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "train --input FILES (--model_prefix PREFIX | --output_dir DIR) [--model_type bpe|byte_bpe]",
		Short: locale.Text("Train a vocabulary on text files", "在文本文件上训练词表"),
		Long: locale.Text(`Train a vocabulary on text files, one paragraph a line (.gz and .zst are unpacked on the way).

--model_type bpe trains a SentencePiece BPE model and takes spm_train's flags, with its defaults. --model_type byte_bpe
trains a byte-level BPE vocabulary as Hugging Face tokenizers do, with the pre-tokenizer pattern of a family.
--output_dir writes a folder that danlu, transformers and the original libraries load; --model_prefix writes PREFIX.model
and PREFIX.vocab as spm_train does. Flags may be spelled with _ or -.`, `在文本文件上训练词表，每行一段（.gz 与 .zst 会自动解压）。

--model_type bpe 训练 SentencePiece BPE，参数名与默认值同 spm_train。--model_type byte_bpe 训练字节级 BPE（同 Hugging Face
tokenizers），用某个模型家族的预切分模式。--output_dir 写出 danlu、transformers 与原始库都能加载的目录；--model_prefix 如
spm_train 写出 PREFIX.model 与 PREFIX.vocab。参数可用 _ 或 - 书写。`),
		Example: "  danlu tokenizer train --input zh.txt,en.txt --output_dir tok --vocab_size 32000 --byte_fallback --split_digits\n" +
			"  danlu tokenizer train --input corpus.txt.zst --output_dir tok --model_type byte_bpe --pattern qwen2 --special_tokens '<|endoftext|>'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.run(cmd, o) },
	}
	f := cmd.Flags()
	f.SetNormalizeFunc(underscores)
	f.StringSliceVar(&t.input, "input", nil, locale.Text("text files", "文本文件"))
	f.StringVar(&t.dir, "output-dir", "", locale.Text("folder to write", "输出目录"))
	f.StringVar(&t.prefix, "model-prefix", "", locale.Text("write PREFIX.model and PREFIX.vocab", "写出 PREFIX.model 与 PREFIX.vocab"))
	f.StringVar(&t.kind, "model-type", "bpe", locale.Text("bpe (SentencePiece) or byte_bpe", "bpe（SentencePiece）或 byte_bpe"))
	f.IntVar(&t.numThreads, "num-threads", 0, locale.Text("counting threads (default --threads)", "统计线程数（默认同 --threads）"))
	f.StringVar(&t.state, "state", "", locale.Text("file that keeps the counts, so that counting goes on where it stopped", "保存统计进度的文件，中断后可继续"))
	f.IntVar(&t.maxWords, "max-words", 50e6, locale.Text("distinct words kept in memory; beyond it the rarest are dropped", "内存中保留的不同词数，超出时丢弃最少见者"))
	for _, name := range tokenizer.SPMOptionNames() {
		v := new(string)
		t.spm[name] = v
		f.StringVar(v, strings.ReplaceAll(name, "_", "-"), t.trainer.Get(name), locale.Text("as in spm_train", "同 spm_train"))
		if b := t.trainer.Get(name); b == "true" || b == "false" {
			f.Lookup(name).NoOptDefVal = "true"
		}
	}
	f.StringVar(&t.pattern, "pattern", "gpt2", locale.Text("byte_bpe: a regular expression or one of ", "byte_bpe：正则表达式，或 ")+strings.Join(tokenizer.PatternNames(), ", "))
	f.StringSliceVar(&t.special, "special-tokens", nil, locale.Text("byte_bpe: special tokens, the first ids", "byte_bpe：特殊 token，占最前的 id"))
	f.Int64Var(&t.minFrequency, "min-frequency", 0, locale.Text("byte_bpe: count that a merge needs", "byte_bpe：合并所需的最少次数"))
	f.IntVar(&t.maxTokenLength, "max-token-length", 0, locale.Text("byte_bpe: longest token in bytes, 0: no limit", "byte_bpe：token 最大字节数，0 为不限"))
	f.BoolVar(&t.nfc, "nfc", false, locale.Text("byte_bpe: normalise to NFC, as Qwen2 does", "byte_bpe：先做 NFC 规范化（同 Qwen2）"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// build makes the trainer from the flags.
func (t *trainFlags) build(cmd *cobra.Command) (tokenizer.Trainer, func(tell func(int)), error) {
	set := func(name string) bool { return cmd.Flags().Lookup(name).Changed }
	switch t.kind {
	case "bpe":
		for _, name := range byteOnly {
			if set(name) {
				return nil, nil, fmt.Errorf("--%s: is for --model_type byte_bpe", name)
			}
		}
		for name, v := range t.spm {
			if set(name) {
				if err := t.trainer.Set(name, *v); err != nil {
					return nil, nil, err
				}
			}
		}
		t.vocabSize = t.trainer.VocabSize
		return t.trainer, func(tell func(int)) { t.trainer.Tell = tell }, nil
	case "byte_bpe":
		if t.prefix != "" {
			return nil, nil, errors.New("--model_prefix: is for --model_type bpe; use --output_dir")
		}
		for name := range t.spm {
			if name != "vocab_size" && set(name) {
				return nil, nil, fmt.Errorf("--%s: is for --model_type bpe", name)
			}
		}
		if err := t.trainer.Set("vocab_size", *t.spm["vocab_size"]); err != nil {
			return nil, nil, err
		}
		pattern, ok := tokenizer.Patterns[t.pattern]
		if !ok {
			pattern = t.pattern
		}
		t.vocabSize = t.trainer.VocabSize
		b := &tokenizer.ByteTrainer{VocabSize: t.vocabSize, SpecialTokens: t.special, MinFrequency: t.minFrequency,
			MaxTokenLength: t.maxTokenLength, Pattern: pattern, NFC: t.nfc}
		return b, func(tell func(int)) { b.Tell = tell }, nil
	}
	return nil, nil, fmt.Errorf("--model_type: want bpe or byte_bpe, got %q", t.kind)
}

func (t *trainFlags) run(cmd *cobra.Command, o *options) error {
	if len(t.input) == 0 {
		return errors.New("--input: is missing; give text files")
	}
	if t.prefix == "" && t.dir == "" {
		return errors.New("--output_dir: is missing; give a folder, or --model_prefix")
	}
	trainer, onSymbol, err := t.build(cmd)
	if err != nil {
		return err
	}
	threads := o.threads
	if t.numThreads > 0 {
		threads = t.numThreads
	}
	quiet := o.quiet || o.json
	var total int64
	for _, f := range t.input {
		info, err := os.Stat(f)
		if err != nil {
			return fmt.Errorf("--input: %w", err)
		}
		if strings.HasSuffix(f, ".gz") || strings.HasSuffix(f, ".zst") {
			total = -1 << 62 // the size of the text is not known
		}
		total += info.Size()
	}
	bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("counting", "统计"), Total: max(total, 0), Quiet: quiet, Chinese: locale.Chinese()})
	var read atomic.Int64
	count := &tokenizer.Counting{Files: t.input, Threads: threads, MaxWords: t.maxWords, State: t.state, Tell: func(n int64) { bar.Update(read.Add(n)) }}
	err = count.Run(cmd.Context(), trainer)
	bar.Done()
	if err != nil {
		return err
	}
	if count.Dropped > 0 {
		fmt.Fprintf(os.Stderr, locale.Text("%d rare words were dropped to stay within --max_words\n", "为不超过 --max_words，丢弃了 %d 个罕见词\n"), count.Dropped)
	}
	bar = progress.New(os.Stderr, progress.Options{Label: locale.Text("merging", "合并"), Total: int64(t.vocabSize), Quiet: quiet, Chinese: locale.Chinese()})
	onSymbol(func(n int) { bar.Update(int64(n)) })
	tok, err := trainer.Train()
	bar.Done()
	if err != nil {
		return err
	}
	if t.prefix != "" {
		if err := tok.WritePrefix(t.prefix); err != nil {
			return err
		}
	}
	if t.dir != "" {
		if err := tok.WriteFiles(t.dir); err != nil {
			return err
		}
	}
	if o.json {
		return printJSON(map[string]any{"vocab_size": tok.VocabSize(), "bytes": read.Load() + count.Resumed, "dropped_words": count.Dropped, "peak_rss_bytes": peakRSS()})
	}
	where := t.dir
	if where == "" {
		where = t.prefix + ".model"
	}
	fmt.Printf(locale.Text("%s: %d pieces\n", "%s：%d 个词元\n"), where, tok.VocabSize())
	return nil
}
