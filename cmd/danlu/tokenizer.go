package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"danlu/internal/locale"
	"danlu/tokenizer"
)

func init() { verbs = append(verbs, newTokenizer) }

func newTokenizer(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "tokenizer", Short: locale.Text("Encode, decode, train, merge and compare tokenizers", "分词器：编码、解码、训练、合并与比较")}
	cmd.AddCommand(newTokenizerEncode(o), newTokenizerDecode(o), newTokenizerTrain(o), newTokenizerMerge(o), newTokenizerStats(o))
	return cmd
}

// openTokenizer takes MODEL and refuses further arguments.
func openTokenizer(cmd *cobra.Command, flag *string, args []string) (*tokenizer.Tokenizer, error) {
	name, rest, err := modelArg(cmd, flag, args)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("unexpected argument %q", rest[0])
	}
	return tokenizer.Open(name)
}

// specialFlag reads --special.
func specialFlag(v string) (parse bool, err error) {
	switch v {
	case "parse":
		return true, nil
	case "text":
		return false, nil
	}
	return false, fmt.Errorf("--special: want parse or text, got %q", v)
}

// maxInputLine bounds one line of standard input.
const maxInputLine = 1 << 28

// eachLine reads standard input line by line, a batch at a time.
func eachBatch(visit func(lines [][]byte) error) error {
	sc := bufio.NewScanner(os.Stdin)
	sc.Buffer(make([]byte, 1<<16), maxInputLine)
	var lines [][]byte
	size := 0
	for sc.Scan() {
		lines = append(lines, append([]byte(nil), sc.Bytes()...))
		if size += len(sc.Bytes()); size > 1<<22 {
			if err := visit(lines); err != nil {
				return err
			}
			lines, size = lines[:0], 0
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return visit(lines)
}

func newTokenizerEncode(o *options) *cobra.Command {
	var model, special string
	var add bool
	cmd := &cobra.Command{
		Use:   "encode MODEL [--special=parse|text] [--json] < TEXT",
		Short: locale.Text("Turn standard input into token ids", "把标准输入编码为 token id"),
		Long: locale.Text(`Turn standard input into token ids.

MODEL is a model folder, a tokenizer.json, a SentencePiece or tiktoken .model, a GGUF, or a preset with the built-in
vocabulary. The input is one text, line breaks included. With --json each line is a text as a JSON string, and gives a
line with its ids.`, `把标准输入编码为 token id。

MODEL 为模型目录、tokenizer.json、SentencePiece 或 tiktoken 的 .model、GGUF，或带内置词表的预设。整个输入是一段文本
（含换行）。加 --json 时每行是一个 JSON 字符串，每行输出一个 id 列表。`),
		Example: "  echo -n '炼丹 with danlu' | danlu tokenizer encode llama-tiny\n  echo '\"<|im_start|>user\"' | danlu tokenizer encode model.gguf --special=parse --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			parse, err := specialFlag(special)
			if err != nil {
				return err
			}
			t, err := openTokenizer(cmd, &model, args)
			if err != nil {
				return err
			}
			opt := tokenizer.Options{ParseSpecial: parse, AddSpecial: add}
			if o.json {
				return encodeLines(t, opt, o.threads)
			}
			text, err := io.ReadAll(io.LimitReader(os.Stdin, maxInputLine+1))
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			if len(text) > maxInputLine {
				return fmt.Errorf("standard input: want at most %d bytes; give longer input in lines with --json", maxInputLine)
			}
			fmt.Println(strings.Trim(fmt.Sprint(t.Encode(string(text), opt)), "[]"))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&special, "special", "text", locale.Text("special tokens in the text are parsed, or are plain text", "文本中的特殊 token：parse 解析，text 当作普通文本"))
	f.BoolVar(&add, "add-special", false, locale.Text("add what the model begins and ends a text with", "加上模型规定的首尾 token"))
	f.BoolVar(&o.json, "json", false, locale.Text("lines of JSON strings in, lines of ids out", "逐行输入 JSON 字符串，逐行输出 id"))
	return cmd
}

func encodeLines(t *tokenizer.Tokenizer, opt tokenizer.Options, threads int) error {
	w := bufio.NewWriter(os.Stdout)
	number := 0
	var line []byte
	err := eachBatch(func(lines [][]byte) error {
		texts := make([]string, len(lines))
		for i, l := range lines {
			number++
			if err := json.Unmarshal(l, &texts[i]); err != nil {
				return fmt.Errorf("standard input: line %d: want a JSON string: %w", number, err)
			}
		}
		for _, ids := range t.EncodeBatch(texts, opt, threads) {
			line = append(line[:0], '[')
			for i, id := range ids {
				if i > 0 {
					line = append(line, ',')
				}
				line = strconv.AppendInt(line, int64(id), 10)
			}
			w.Write(append(line, "]\n"...))
		}
		return nil
	})
	return errors.Join(err, w.Flush())
}

func newTokenizerDecode(o *options) *cobra.Command {
	var model, special string
	cmd := &cobra.Command{
		Use:   "decode MODEL [--special=parse|text] [--json] < IDS",
		Short: locale.Text("Turn token ids on standard input into text", "把标准输入的 token id 解码为文本"),
		Long: locale.Text(`Turn token ids on standard input into text.

The input is ids with spaces, commas or line breaks between them. With --json each line is a list of ids, and gives a line
with the text as a JSON string. --special=text leaves special tokens in the text, --special=parse leaves them out.`, `把标准输入的 token id 解码为文本。

id 之间用空格、逗号或换行分隔。加 --json 时每行是一个 id 列表，每行输出一个 JSON 字符串。--special=text 在文本中保留特殊
token，--special=parse 去掉它们。`),
		Example: "  echo 1 15043 3186 | danlu tokenizer decode tokenizer.model\n  echo '[1,15043,3186]' | danlu tokenizer decode tokenizer.model --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			skip, err := specialFlag(special)
			if err != nil {
				return err
			}
			t, err := openTokenizer(cmd, &model, args)
			if err != nil {
				return err
			}
			if o.json {
				return decodeLines(t, skip)
			}
			return decodeWords(t, skip)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&special, "special", "text", locale.Text("keep special tokens as text, or parse: leave them out", "text 保留特殊 token，parse 去掉"))
	f.BoolVar(&o.json, "json", false, locale.Text("lines of ids in, lines of JSON strings out", "逐行输入 id，逐行输出 JSON 字符串"))
	return cmd
}

func decodeLines(t *tokenizer.Tokenizer, skip bool) error {
	w := bufio.NewWriter(os.Stdout)
	number := 0
	err := eachBatch(func(lines [][]byte) error {
		for _, l := range lines {
			number++
			var ids []int32
			if err := json.Unmarshal(l, &ids); err != nil {
				return fmt.Errorf("standard input: line %d: want a list of ids: %w", number, err)
			}
			for _, id := range ids {
				if id < 0 || int(id) >= t.VocabSize() {
					return fmt.Errorf("standard input: line %d: id: want 0 to %d, got %d", number, t.VocabSize()-1, id)
				}
			}
			text, err := tokenizer.JSONString(t.Decode(ids, skip))
			if err != nil {
				return err
			}
			w.Write(text)
		}
		return nil
	})
	return errors.Join(err, w.Flush())
}

// decodeWords decodes ids as they come, so that text shows while its producer still works.
func decodeWords(t *tokenizer.Tokenizer, skip bool) error {
	sc := bufio.NewScanner(os.Stdin)
	sc.Split(func(data []byte, end bool) (int, []byte, error) {
		for i, b := range data {
			if b == ',' {
				data[i] = ' '
			}
		}
		return bufio.ScanWords(data, end)
	})
	w := bufio.NewWriter(os.Stdout)
	s := t.Stream(skip)
	for sc.Scan() {
		id, err := strconv.ParseInt(sc.Text(), 10, 32)
		if err != nil || id < 0 || int(id) >= t.VocabSize() {
			return fmt.Errorf("standard input: id: want 0 to %d, got %q", t.VocabSize()-1, sc.Text())
		}
		w.WriteString(s.Next(int32(id)))
	}
	w.WriteString(s.Flush())
	return errors.Join(sc.Err(), w.Flush())
}
