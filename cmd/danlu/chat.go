package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"danlu/chat"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/vision"
)

func init() { verbs = append(verbs, newChat) }

// chatFlags are the flags of danlu chat.
type chatFlags struct {
	model, template, system, thinking string
	context, maxNew                   int
	sampling                          sampling
	draft                             drafting
	how                               inference
}

func newChat(o *options) *cobra.Command {
	c := &chatFlags{}
	cmd := &cobra.Command{
		Use:   "chat MODEL",
		Short: locale.Text("Talk with a model in the terminal", "在终端与模型对话"),
		Long: locale.Text(`Talk with a model. Ctrl-C stops a reply, Ctrl-D leaves. Lines between """ and """ are one message.
Commands: /help /reset /system TEXT /image FILE /set NAME VALUE /exit. Where standard input is no terminal, each line is a message.`,
			`与模型对话。Ctrl-C 停止当前回答，Ctrl-D 退出；""" 与 """ 之间的多行算一条消息。
命令：/help /reset /system 文本 /image 文件 /set 名称 值 /exit。标准输入不是终端时，每行是一条消息。`),
		Example: "  danlu chat model.gguf\n  danlu chat qwen-folder --system \"Answer in one sentence.\" --temperature 0.6\n  echo \"1+1=?\" | danlu chat model.gguf\n  danlu chat base-model --template chatml",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &c.model, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unexpected argument %q", rest[0])
			}
			return c.run(cmd, o, name)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&c.template, "template", "", locale.Text("prompt format instead of the model's own template", "使用的对话格式（代替模型自带模板）"))
	f.StringVar(&c.system, "system", "", locale.Text("system message", "系统消息"))
	f.StringVar(&c.thinking, "thinking", "", locale.Text("on or off, for models that think; default: the template's", "思考模型的思考开关 on 或 off；默认由模板决定"))
	f.IntVarP(&c.context, "context", "c", 8192, locale.Text("tokens that the conversation can grow to, at most the model's context", "对话可达的 token 数，不超过模型上下文"))
	f.IntVarP(&c.maxNew, "max-new", "n", 0, locale.Text("most tokens of a reply; 0: as the context allows", "每次回答最多的 token 数；0 表示直到上下文用尽"))
	c.sampling.flags(f)
	c.draft.flags(f)
	c.how.flags(f)
	f.StringVar(&o.engine, "engine", "cpu", engineUsage())
	return cmd
}

// usual is how a model that says nothing about it is sampled in a conversation.
var usual = generate.Sampling{Temperature: 0.7, TopK: 40, TopP: 0.9}

func (c *chatFlags) run(cmd *cobra.Command, o *options, name string) error {
	switch {
	case c.context < 16:
		return fmt.Errorf("--context: want at least 16, got %d", c.context)
	case c.maxNew < 0:
		return fmt.Errorf("--max-new: want 0 or more, got %d", c.maxNew)
	}
	on, err := parseThinking(c.thinking)
	if err != nil {
		return err
	}
	talk := &generate.Talk{System: c.system, MaxNew: c.maxNew, Thinking: on}
	m, err := openModel(name)
	if err != nil {
		return err
	}
	defer m.source.Close()
	eng, err := o.newEngine()
	if err != nil {
		return err
	}
	defer eng.Close()
	ready, err := c.how.load(cmd.Context(), m, eng, o.quiet)
	if err != nil {
		return err
	}
	defer ready.close()
	info := m.model.Info()
	if talk.Tokenizer, err = tokenizerOf(cmp.Or(m.vocabulary, name)); err != nil {
		return err
	}
	if talk.Dialect, err = dialectOf(name, c.template, talk.Tokenizer); err != nil {
		return err
	}
	defaults, err := generate.ReadDefaults(name)
	if err != nil {
		return err
	}
	talk.Sampling, talk.End = c.sampling.over(cmd.Flags(), defaults, usual), endTokens(info, defaults)
	if err := talk.Sampling.Validate(); err != nil {
		return err
	}
	size := c.context
	if info.MaxPosition > 0 {
		size = min(size, info.MaxPosition)
	}
	if talk.Runner, err = ready.runner(generate.Options{Context: size}); err != nil {
		return err
	}
	defer talk.Runner.Shut()
	if talk.Sequence, err = talk.Runner.Open(); err != nil {
		return err
	}
	drafter, shut, err := c.draft.maker(cmd.Context(), eng, name, talk.Runner, 1, o.quiet)
	if err != nil {
		return err
	}
	defer shut()
	if drafter != nil {
		d, err := drafter(talk.Sequence)
		if err != nil {
			return err
		}
		defer d.Close()
		talk.Draft = &generate.Drafting{Drafter: d, Most: c.draft.most}
		if !o.quiet {
			defer func() { tell(talk.Draft) }()
		}
	}
	screen := newScreen(o.quiet)
	if _, sees := m.model.(family.Viewer); sees {
		if talk.Eyes, err = ready.eyes(name); err != nil {
			screen.say("%v", err)
		} else {
			defer talk.Eyes.Close()
		}
	}
	defer screen.in.Close()
	defer screen.leaveOn(syscall.SIGTERM)()
	if !screen.live {
		defer screen.leaveOn(os.Interrupt)()
	}
	screen.say(locale.Text("%s, context %d tokens. /help lists the commands.", "%s，上下文 %d 个 token。输入 /help 查看命令。"), name, size)
	return converse(cmd.Context(), talk, screen)
}

// screen is where a conversation is read from and shown.
type screen struct {
	in     input
	out    io.Writer
	errors io.Writer
	live   bool // both ends are a terminal
	colour bool
	quiet  bool
}

func newScreen(quiet bool) *screen {
	s := &screen{out: os.Stdout, errors: os.Stderr, live: progress.Terminal(os.Stdin) && progress.Terminal(os.Stdout), quiet: quiet}
	s.colour = s.live && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if s.live {
		s.in = newEditor()
	} else {
		s.in = newLines(os.Stdin)
	}
	return s
}

// leaveOn ends the program on a signal, with the terminal as it was. The returned function ends that.
func (s *screen) leaveOn(sig os.Signal) func() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sig)
	go func() {
		if _, ok := <-c; ok {
			s.in.Close()
			os.Exit(exitFail)
		}
	}()
	return func() { signal.Stop(c); close(c) }
}

// say tells the user something that is not the model's.
func (s *screen) say(format string, args ...any) {
	if !s.quiet {
		fmt.Fprintf(s.errors, format+"\n", args...)
	}
}

// converse reads messages and shows answers until the input ends.
func converse(ctx context.Context, t *generate.Talk, s *screen) error {
	for {
		text, err := message(s.in)
		switch {
		case errors.Is(err, errAborted):
			s.say(locale.Text("(Ctrl-D or /exit leaves)", "（Ctrl-D 或 /exit 退出）"))
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if strings.HasPrefix(text, "/") {
			leave, err := command(ctx, t, s, text)
			if leave {
				return nil
			}
			if err != nil {
				s.say("%v", err)
			}
			continue
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		if err := ask(ctx, t, s, text); err != nil {
			return err
		}
	}
}

// ask shows one answer. An interrupt ends the answer, not the program.
func ask(ctx context.Context, t *generate.Talk, s *screen, text string) error {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), os.Interrupt)
	defer stop()
	shown := &answer{screen: s}
	done := func() {}
	a, err := t.Ask(ctx, text, shown.show, func(tokens int) func(done, total int) {
		show, end := prefillBar(tokens, s.quiet)
		done = end
		return show
	})
	done()
	shown.end()
	var full *generate.ContextError
	switch {
	case errors.As(err, &full):
		fmt.Fprintf(s.errors, locale.Text("The context is full: the conversation has %d tokens, the context %d. /reset starts anew; --context N allows more.\n",
			"上下文已满：对话共 %d 个 token，上下文为 %d。/reset 重新开始；--context N 可放宽。\n"), full.Prompt, full.Context)
	case err != nil:
		return failure{err, exitFail}
	case a.Stop == generate.StopContext:
		fmt.Fprintf(s.errors, locale.Text("(the context of %d tokens is full; /reset starts anew)\n", "（上下文 %d 个 token 已满；/reset 重新开始）\n"), t.Runner.Context())
	case a.Stop == generate.StopLength:
		s.say(locale.Text("(stopped after %d tokens: max_new)", "（已生成 %d 个 token 后停止：max_new）"), a.Tokens)
	case a.Stop == generate.StopCancel:
		s.say(locale.Text("(stopped)", "（已停止）"))
	}
	return nil
}

// answer writes the parts of one reply: thoughts dimmed on a terminal and left out elsewhere.
type answer struct {
	screen *screen
	dim    bool
	wrote  bool
}

func (a *answer) show(s chat.Said) {
	w := a.screen
	if s.Reasoning != "" && w.live {
		if !a.dim && w.colour {
			fmt.Fprint(w.out, "\x1b[2m")
		}
		a.dim, a.wrote = true, true
		fmt.Fprint(w.out, s.Reasoning)
	}
	if s.Content != "" {
		a.undim()
		a.wrote = true
		fmt.Fprint(w.out, s.Content)
	}
}

// undim ends the thoughts.
func (a *answer) undim() {
	if !a.dim {
		return
	}
	a.dim = false
	if a.screen.colour {
		fmt.Fprint(a.screen.out, "\x1b[0m")
	}
	fmt.Fprint(a.screen.out, "\n\n")
}

func (a *answer) end() {
	if a.dim && a.screen.colour {
		fmt.Fprint(a.screen.out, "\x1b[0m")
	}
	if a.wrote || !a.screen.live {
		fmt.Fprintln(a.screen.out)
	}
}

// message reads a line, or the lines between """ and """.
func message(in input) (string, error) {
	line, err := in.Line("> ")
	rest, many := strings.CutPrefix(strings.TrimLeft(line, " \t"), `"""`)
	if err != nil || !many {
		return line, err
	}
	text := rest
	for {
		if before, ok := strings.CutSuffix(strings.TrimRight(text, " \t"), `"""`); ok {
			return strings.Trim(before, "\n"), nil
		}
		if line, err = in.Line("… "); err != nil {
			return "", err
		}
		text += "\n" + line
	}
}

// command runs a line that starts with a slash.
func command(ctx context.Context, t *generate.Talk, s *screen, line string) (leave bool, err error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "/exit", "/quit", "/bye":
		return true, nil
	case "/help", "/?":
		fmt.Fprintln(s.errors, locale.Text(`/reset            forget the conversation
/system [TEXT]    show or set the system message, and start anew
/set NAME VALUE   temperature, top_k, top_p, min_p, repetition_penalty, seed, max_new, thinking (on, off)
/set              show the settings
/image FILE       a picture for the next message (/video PATH: a video), in the place of <image> or in front
/exit             leave (Ctrl-D)
""" ... """       a message of several lines; Ctrl-C stops a reply`, `/reset            清空对话
/system [文本]     查看或设置系统消息，并重新开始
/set 名称 值       temperature、top_k、top_p、min_p、repetition_penalty、seed、max_new、thinking（on、off）
/set              查看设置
/image 文件       给下一条消息附上图片（/video 路径：视频），放在 <image> 处或最前
/exit             退出（Ctrl-D）
""" ... """       多行消息；Ctrl-C 停止当前回答`))
	case "/reset", "/clear":
		t.Reset()
		s.say(locale.Text("(a new conversation)", "（新对话）"))
	case "/system":
		if rest == "" {
			fmt.Fprintf(s.errors, "%s\n", t.System)
			return false, nil
		}
		t.System = rest
		t.Reset()
		s.say(locale.Text("(system message set, a new conversation)", "（系统消息已设置，开始新对话）"))
	case "/image", "/video":
		return false, attach(ctx, t, s, word, rest)
	case "/set":
		if rest == "" {
			showSettings(t, s)
			return false, nil
		}
		name, value, _ := strings.Cut(rest, " ")
		return false, set(t, name, strings.TrimSpace(value))
	default:
		return false, fmt.Errorf(locale.Text("unknown command %s; /help lists the commands", "未知命令 %s；输入 /help 查看命令"), word)
	}
	return false, nil
}

// attach looks at a picture or video for the next message.
func attach(ctx context.Context, t *generate.Talk, s *screen, word, path string) error {
	if t.Eyes == nil {
		return errors.New(locale.Text("this model reads no pictures", "该模型不读取图片"))
	}
	images, videos := []string{path}, []string(nil)
	if word == "/video" {
		images, videos = videos, images
	}
	pictures, films, err := seen(ctx, t.Eyes, images, videos, vision.VideoOptions{})
	if err != nil {
		return err
	}
	t.Attach(pictures, films)
	s.say(locale.Text("(attached to the next message)", "（已附到下一条消息）"))
	return nil
}

func showSettings(t *generate.Talk, s *screen) {
	thinking := "-"
	if t.Thinking != nil {
		thinking = map[bool]string{true: "on", false: "off"}[*t.Thinking]
	}
	p := t.Sampling
	fmt.Fprintf(s.errors, "temperature %g, top_k %d, top_p %g, min_p %g, repetition_penalty %g, seed %d, max_new %d, thinking %s\n",
		p.Temperature, p.TopK, p.TopP, p.MinP, p.RepetitionPenalty, p.Seed, t.MaxNew, thinking)
}

// set changes a setting; a value that is out of range changes nothing.
func set(t *generate.Talk, name, value string) error {
	p := t.Sampling
	f, err := strconv.ParseFloat(value, 64)
	switch name {
	case "temperature":
		p.Temperature = f
	case "top_p":
		p.TopP = f
	case "min_p":
		p.MinP = f
	case "repetition_penalty":
		p.RepetitionPenalty = f
	case "top_k":
		p.TopK, err = strconv.Atoi(value)
	case "seed":
		p.Seed, err = strconv.ParseUint(value, 10, 64)
	case "max_new":
		n, err := strconv.ParseUint(value, 10, 31)
		if err == nil {
			t.MaxNew = int(n)
			return nil
		}
	case "thinking":
		on, err := parseThinking(value)
		if err == nil {
			t.Thinking = on
		}
		return err
	default:
		return fmt.Errorf(locale.Text("/set: unknown setting %q; /help lists them", "/set：未知设置 %q；输入 /help 查看"), name)
	}
	if err != nil || name == "max_new" {
		return fmt.Errorf(locale.Text("/set %s: want a number, got %q", "/set %s：需要数字，得到 %q"), name, value)
	}
	if err := p.Validate(); err != nil {
		return err
	}
	t.Sampling = p
	return nil
}
