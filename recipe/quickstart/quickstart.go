// Package quickstart trains the first model of somebody who has just installed danlu: a small LLaMA from nothing on the
// built-in bilingual corpus, then a chat stage, then a look at what it learned.
package quickstart

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"danlu/engine"
	"danlu/internal/locale"
	"danlu/recipe"
)

// Dir is the one folder that is written.
const Dir = "quickstart"

// Options say how the quickstart is carried out.
type Options struct {
	Recipe    []byte // a pipeline of the stages base and chat
	NewEngine func(name string, threads int) (engine.Engine, error)
	Stderr    *os.File
	Out       io.Writer
	Quiet     bool
	Command   string // how the user called the program, for the commands to go on with
}

// Rounds is how many rounds of training are finished: 0 before the first.
func Rounds() int {
	n := 0
	for finished(n + 1) {
		n++
	}
	return n
}

// folder is where a stage of a round lies: quickstart/base, quickstart/base-2, ...
func folder(stage string, round int) string {
	if round > 1 {
		stage += "-" + strconv.Itoa(round)
	}
	return filepath.Join(Dir, stage)
}

// Model is the folder of the chat model of a round.
func Model(round int) string { return folder("chat", round) }

// finished reports whether a round's chat model is there.
func finished(round int) bool {
	_, err := os.Stat(filepath.Join(Model(round), "all_results.json"))
	return err == nil
}

// Train carries out the next round, or goes on with one that was interrupted. It reports whether the user stopped it.
func Train(ctx context.Context, o Options) (stopped bool, err error) {
	begun := time.Now()
	round := Rounds() + 1
	texts := folder("data", round)
	if err := write(texts, round); err != nil {
		return false, fmt.Errorf("quickstart: %w", err)
	}
	r, err := recipe.Parse(o.Recipe, "quickstart", nil)
	if err != nil {
		return false, err
	}
	for _, s := range r.Stages {
		s.Output.Quiet = o.Quiet
		s.Output.Dir = folder(s.Name, round)
		s.Data.Dataset = []string{filepath.Join(texts, filepath.Base(s.Data.Dataset[0]))}
		switch {
		case s.Name == "chat":
			s.Model.Path = folder("base", round)
		case round > 1: // go on from the last round's, at the rate that a trained model bears
			s.Model.Path, s.Model.FromScratch = folder("base", round-1), false
			s.Optim.LearningRate /= 4
		}
	}
	if !o.Quiet {
		fmt.Fprintf(o.Stderr, locale.Text("training a small LLaMA on stories and additions in English and Chinese; all files are in ./%s; Ctrl-C stops, the same command goes on\n",
			"在中英文小故事与加法上训练一个小型 LLaMA；所有文件都在 ./%s；Ctrl-C 停止，再次运行同一命令即可继续\n"), Dir)
	}
	outcomes, err := recipe.Run(ctx, r, recipe.RunOptions{NewEngine: o.NewEngine, Stderr: o.Stderr})
	if err != nil {
		return false, err
	}
	for _, out := range outcomes {
		if out.Stopped {
			fmt.Fprintf(o.Stderr, locale.Text("stopped; go on with: %s quickstart\n", "已停止；继续请运行：%s quickstart\n"), o.Command)
			return true, nil
		}
	}
	if !o.Quiet {
		fmt.Fprintf(o.Stderr, locale.Text("trained in %s\n", "训练用时 %s\n"), time.Since(begun).Round(time.Second))
	}
	return false, nil
}

// Next prints the commands to go on with.
func Next(o Options, round int) {
	c := o.Command
	fmt.Fprintf(o.Out, locale.Text(`
What now?
  talk to it            %[1]s chat %[2]s
  train it further      %[1]s quickstart
  train on your text    %[1]s train pretrain_scratch dataset=YOUR_FILE_OR_FOLDER output_dir=mine
  teach it your answers %[1]s train sft_full model_name_or_path=%[2]s dataset=YOUR_CHATS.jsonl output_dir=taught
  look at the curve     %[2]s/training_loss.svg, %[3]s/training_loss.svg
`, `
接下来：
  与它对话              %[1]s chat %[2]s
  继续训练              %[1]s quickstart
  用自己的文本训练      %[1]s train pretrain_scratch dataset=你的文件或目录 output_dir=mine
  教它回答你的问题      %[1]s train sft_full model_name_or_path=%[2]s dataset=你的对话.jsonl output_dir=taught
  查看损失曲线          %[2]s/training_loss.svg、%[3]s/training_loss.svg
`), c, Model(round), folder("base", round))
}

// Interrupted reports whether a round has begun and not ended.
func Interrupted() bool {
	_, err := fs.Stat(os.DirFS("."), folder("base", Rounds()+1))
	return err == nil
}
