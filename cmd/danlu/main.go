// Command danlu sizes, trains, aligns, distills, quantizes, evaluates and serves open language models.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"danlu/hub"
	"danlu/internal/locale"
)

// Exit statuses.
const (
	exitOK    = 0
	exitFail  = 1 // the work was done and the answer is no, or it failed on the way
	exitInput = 2 // the input is at fault
)

// failure carries an exit status other than exitInput.
type failure struct {
	error
	status int
}

func (f failure) Unwrap() error { return f.error }

// notOK is a failure whose report was already printed.
var notOK = failure{errors.New(""), exitFail}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	if len(args) > 0 && args[0] == "train" {
		args = append(args[:1:1], recipeFlags(args[1:])...)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	status := exitInput
	var f failure
	if errors.As(err, &f) {
		status = f.status
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", cmd.CommandPath(), msg)
	}
	return status
}

// options are the flags of every verb.
type options struct {
	threads int
	quiet   bool
	json    bool
	engine  string
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "danlu",
		Short:         locale.Text("Size, train, align, quantize, evaluate and serve open language models", "规划、训练、对齐、量化、评测和部署开源大模型"),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.IntVarP(&o.threads, "threads", "t", runtime.NumCPU(), locale.Text("worker threads", "工作线程数"))
	flags.BoolVarP(&o.quiet, "quiet", "q", false, locale.Text("no progress output", "不显示进度"))
	for _, add := range verbs {
		root.AddCommand(add(o))
	}
	return root
}

// verbs is filled by each verb's file.
var verbs []func(*options) *cobra.Command

// modelArg is MODEL: positional, or given by --model. A name of the local store becomes the model's folder.
func modelArg(cmd *cobra.Command, flag *string, args []string) (string, []string, error) {
	if *flag != "" {
		return hub.Resolve(*flag), args, nil
	}
	if len(args) == 0 {
		return "", nil, fmt.Errorf("MODEL: is missing; give a folder, a GGUF file, a downloaded ORG/NAME or a preset name")
	}
	return hub.Resolve(args[0]), args[1:], nil
}
