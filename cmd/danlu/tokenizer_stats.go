package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"danlu/internal/locale"
	"danlu/tokenizer"
)

func newTokenizerStats(o *options) *cobra.Command {
	var files []string
	var format string
	cmd := &cobra.Command{
		Use:   "stats MODEL... --file TEXT [--format text|md] [--json]",
		Short: locale.Text("Compare how many tokens vocabularies need, by language", "按语言比较各词表所需的 token 数"),
		Long: locale.Text(`Compare how many tokens vocabularies need, by language.

A line's language is told by its script. Words are runs of letters and digits; each Chinese character and kana is one.`, `按语言比较各词表所需的 token 数。

每行的语言由文字判断。词指连续的字母和数字；每个汉字、假名算一个词。`),
		Example: "  danlu tokenizer stats llama/ qwen/ glm/ --file zh.txt,en.txt --format md",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(files) == 0 {
				return errors.New("--file: is missing; give text files")
			}
			if format != "text" && format != "md" {
				return fmt.Errorf("--format: want text or md, got %q", format)
			}
			var toks []*tokenizer.Tokenizer
			sums := make([]tokenizer.Stats, len(args))
			for i, name := range args {
				t, err := tokenizer.Open(name)
				if err != nil {
					return err
				}
				toks, sums[i] = append(toks, t), tokenizer.Stats{}
			}
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					return fmt.Errorf("--file: %w", err)
				}
				for i, s := range tokenizer.Measure(toks, text, o.threads) {
					sums[i].Add(s)
				}
			}
			rows := statRows(args, toks, sums)
			if o.json {
				return printJSON(rows)
			}
			return writeStats(os.Stdout, rows, format == "md")
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&files, "file", nil, locale.Text("text files", "文本文件"))
	f.StringVar(&format, "format", "text", locale.Text("text or md (Markdown)", "text 或 md（Markdown）"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// statRow is one tokenizer on one language.
type statRow struct {
	Tokenizer string  `json:"tokenizer"`
	VocabSize int     `json:"vocab_size"`
	Language  string  `json:"language"`
	Bytes     int64   `json:"bytes"`
	Chars     int64   `json:"chars"`
	Words     int64   `json:"words"`
	Tokens    int64   `json:"tokens"`
	PerChar   float64 `json:"tokens_per_char"`
	PerWord   float64 `json:"tokens_per_word"`
	PerByte   float64 `json:"tokens_per_byte"`
}

func statRows(names []string, toks []*tokenizer.Tokenizer, sums []tokenizer.Stats) []statRow {
	rows := []statRow{}
	for _, language := range append(tokenizer.Languages, "all") {
		for i, s := range sums {
			c := s[language]
			if language == "all" {
				c = &tokenizer.Count{}
				for _, part := range s {
					c.Bytes, c.Chars, c.Words, c.Tokens = c.Bytes+part.Bytes, c.Chars+part.Chars, c.Words+part.Words, c.Tokens+part.Tokens
				}
			}
			if c == nil || c.Bytes == 0 {
				continue
			}
			per := func(n int64) float64 { return float64(c.Tokens) / float64(max(n, 1)) }
			rows = append(rows, statRow{names[i], toks[i].VocabSize(), language, c.Bytes, c.Chars, c.Words, c.Tokens, per(c.Chars), per(c.Words), per(c.Bytes)})
		}
	}
	return rows
}

func writeStats(out io.Writer, rows []statRow, markdown bool) error {
	head := []string{locale.Text("language", "语言"), locale.Text("tokenizer", "分词器"), locale.Text("vocabulary", "词表"), locale.Text("tokens", "token 数"),
		locale.Text("per character", "每字符"), locale.Text("per word", "每词"), locale.Text("per byte", "每字节")}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells []string) {
		if markdown {
			fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
			return
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	line(head)
	if markdown {
		fmt.Fprintln(out, strings.Repeat("| --- ", len(head))+"|")
	}
	for _, r := range rows {
		line([]string{r.Language, filepath.Base(r.Tokenizer), fmt.Sprint(r.VocabSize), fmt.Sprint(r.Tokens), fmt.Sprintf("%.3f", r.PerChar), fmt.Sprintf("%.3f", r.PerWord), fmt.Sprintf("%.3f", r.PerByte)})
	}
	return w.Flush()
}
