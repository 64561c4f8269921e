package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"danlu/internal/locale"
	"danlu/tokenizer"
)

func newBenchTokenizer(o *options) *cobra.Command {
	var model, file string
	var reps int
	cmd := &cobra.Command{
		Use:   "tokenizer MODEL --file F",
		Short: locale.Text("Time encoding and decoding of a text file", "测量文本文件的编码与解码速度"),
		Long: locale.Text(`Time encoding and decoding of a text file, one text a line, best of the repetitions. The first figures are of one
thread; scaling gives encoding on 1, 2, 4 ... --threads.`, `测量文本文件的编码与解码速度（每行一段，取多次中最好的一次）。首列数字为单线程；scaling 为 1、2、4……--threads 线程的编码速度。`),
		Example: "  danlu bench tokenizer qwen/ --file mixed.txt --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return errors.New("--file: is missing; give a text file")
			}
			if reps < 1 {
				return fmt.Errorf("--reps: want at least 1, got %d", reps)
			}
			t, err := openTokenizer(cmd, &model, args)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("--file: %w", err)
			}
			var texts []string
			for _, l := range bytes.Split(data, []byte("\n")) {
				if len(l) > 0 {
					texts = append(texts, string(l))
				}
			}
			if len(texts) == 0 {
				return fmt.Errorf("--file: %s: want text, got none", file)
			}
			r := timeTokenizer(t, texts, reps, o.threads)
			if o.json {
				return printJSON(r)
			}
			fmt.Printf("%s: encode %.1f MB/s, decode %.1f MB/s (1 thread, %d tokens)\n", t.Source, r.Encode, r.Decode, r.Tokens)
			for _, s := range r.Scaling[1:] {
				fmt.Printf("  %d threads: encode %.1f MB/s\n", s.Threads, s.Encode)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&file, "file", "", locale.Text("text file", "文本文件"))
	f.IntVar(&reps, "reps", 3, locale.Text("repetitions, of which the best counts", "重复次数，取最好的一次"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

type tokenizerRates struct {
	Bytes   int64           `json:"bytes"`
	Tokens  int64           `json:"tokens"`
	Encode  float64         `json:"encode_mb_per_s"`
	Decode  float64         `json:"decode_mb_per_s"`
	Scaling []tokenizerRate `json:"scaling"`
}

type tokenizerRate struct {
	Threads int     `json:"threads"`
	Encode  float64 `json:"encode_mb_per_s"`
}

// timeTokenizer is the best rate of reps runs, in 10⁶ bytes of text a second.
func timeTokenizer(t *tokenizer.Tokenizer, texts []string, reps, threads int) tokenizerRates {
	r := tokenizerRates{}
	for _, s := range texts {
		r.Bytes += int64(len(s))
	}
	best := func(work func()) float64 {
		rate := 0.0
		for range reps {
			start := time.Now()
			work()
			rate = max(rate, float64(r.Bytes)/time.Since(start).Seconds()/1e6)
		}
		return rate
	}
	var ids [][]int32
	for n := 1; ; n *= 2 {
		n = min(n, threads)
		rate := best(func() { ids = t.EncodeBatch(texts, tokenizer.Options{}, n) })
		r.Scaling = append(r.Scaling, tokenizerRate{n, rate})
		if n == threads {
			break
		}
	}
	r.Encode = r.Scaling[0].Encode
	for _, list := range ids {
		r.Tokens += int64(len(list))
	}
	r.Decode = best(func() {
		for _, list := range ids {
			_ = t.Decode(list, false)
		}
	})
	return r
}
