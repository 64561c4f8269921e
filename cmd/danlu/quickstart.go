package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"danlu/engine"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/recipe"
	"danlu/recipe/quickstart"
)

func init() { verbs = append(verbs, newQuickstart) }

func newQuickstart(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "quickstart",
		Short: locale.Text("Train a small model from nothing, in minutes, and talk to it", "几分钟内从零训练一个小模型并与它对话"),
		Long: locale.Text(`Trains a small LLaMA from nothing on a built-in corpus of short stories and additions in English and Chinese, then a chat
stage, and shows what it learned. Everything is written to ./quickstart; nothing that is there is overwritten.`,
			`在内置的中英文小故事与加法语料上从零训练一个小型 LLaMA，再做一段对话微调，并展示学到了什么。
所有文件都写入 ./quickstart，已有的内容不会被覆盖。`),
		Example: "  danlu quickstart",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runQuickstart(cmd, o) },
	}
}

func runQuickstart(cmd *cobra.Command, o *options) error {
	text, err := builtinRecipe("quickstart")
	if err != nil {
		return err
	}
	q := quickstart.Options{Recipe: text, Stderr: os.Stderr, Out: os.Stdout, Quiet: o.quiet, Command: invocation(),
		NewEngine: func(string, int) (engine.Engine, error) { return o.newEngine() }}
	if done := quickstart.Rounds(); done > 0 && !quickstart.Interrupted() {
		switch choice() {
		case "chat":
			chat := newChat(o)
			chat.SetArgs([]string{quickstart.Model(done)})
			return chat.ExecuteContext(cmd.Context())
		case "":
			fmt.Fprintf(os.Stdout, locale.Text("./%s holds a trained model; in a terminal this command asks whether to chat or to train on\n",
				"./%s 中已有训练好的模型；在终端中运行本命令会询问对话还是继续训练\n"), quickstart.Dir)
			quickstart.Next(q, done)
			return nil
		case "quit":
			return nil
		}
	}
	stopped, err := quickstart.Train(cmd.Context(), q)
	var failed *recipe.Failure
	if errors.As(err, &failed) {
		return failure{err, exitFail}
	}
	if err != nil || stopped {
		return err
	}
	round := quickstart.Rounds()
	if err := showPupil(cmd.Context(), o, round); err != nil {
		return err
	}
	quickstart.Next(q, round)
	return nil
}

// showPupil prints what the model of a round answers, and its marks.
func showPupil(ctx context.Context, o *options, round int) error {
	eng, err := o.newEngine()
	if err != nil {
		return err
	}
	defer eng.Close()
	pupil, err := quickstart.Open(quickstart.Model(round), eng)
	if err != nil {
		return err
	}
	defer pupil.Close()
	if err := pupil.Show(ctx, os.Stdout); err != nil {
		return err
	}
	score, err := pupil.Score(ctx, 100)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "\n%s\n", score)
	return nil
}

// choice asks what to do with a model that is there; "" where nobody can be asked.
func choice() string {
	if !progress.Terminal(os.Stdin) {
		return ""
	}
	fmt.Fprint(os.Stderr, locale.Text("a trained model is here. [c]hat with it, [t]rain it further, or [q]uit? ", "这里已有训练好的模型。对话 [c]、继续训练 [t]、退出 [q]？"))
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch strings.ToLower(strings.TrimSpace(in.Text())) {
		case "c", "chat", "":
			return "chat"
		case "t", "train":
			return "train"
		case "q", "quit":
			return "quit"
		}
		fmt.Fprint(os.Stderr, locale.Text("c, t or q? ", "c、t 还是 q？"))
	}
	return "quit"
}

// invocation is how the user called this program: by go run where it lies in a temporary folder of the build.
func invocation() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		return "go run ./cmd/danlu"
	}
	return os.Args[0]
}
