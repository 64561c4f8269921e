package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"danlu/chat"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/tokenizer"
	"danlu/vision"
)

func init() { verbs = append(verbs, newGenerate) }

// generateFlags are the flags of danlu generate.
type generateFlags struct {
	model, ids, file, system, template, special, thinking string
	chat                                                  bool
	stops, images, videos                                 []string
	video                                                 vision.VideoOptions
	maxNew                                                int
	sampling                                              sampling
	beams                                                 beamFlags
	form                                                  form
	draft                                                 drafting
	how                                                   inference
}

func newGenerate(o *options) *cobra.Command {
	g := &generateFlags{}
	cmd := &cobra.Command{
		Use:   "generate MODEL [PROMPT | -f FILE | --prompt-ids IDS]",
		Short: locale.Text("Continue a text, or answer once", "续写文本，或回答一次"),
		Long: locale.Text(`Continue a text. The prompt is an argument, a file (- for standard input), or token ids. The text is written as it comes.
With --chat the prompt is a question, put into the model's chat template.
Models of the GLM family fill the [MASK], [sMASK] and [gMASK] that stand in a text; --max-new is then of each.`,
			`续写文本。提示可以是参数、文件（- 为标准输入）或 token id，文本边生成边输出。
使用 --chat 时，提示作为问题套入模型的对话模板。
GLM 系列模型会填充文本中的 [MASK]、[sMASK] 与 [gMASK]，此时 --max-new 是每处空白的上限。`),
		Example: "  danlu generate model.gguf \"Once upon a time\" --max-new 64 --temperature 0.8\n  danlu generate model.gguf -f book.txt --max-new 200\n" +
			"  danlu generate model.gguf --chat \"Who wrote Faust?\" --json-schema author.json --draft ngram\n" +
			"  danlu generate qwen-folder --chat \"1+1 等于几？\"\n  danlu generate qwen2.5-vl-folder --chat --image cat.jpg \"What is this?\"\n  danlu generate model.gguf --prompt-ids 1,4093,198 --max-new 48 --temperature 0 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &g.model, args)
			if err != nil {
				return err
			}
			return g.run(cmd, o, name, rest)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&g.model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&g.ids, "prompt-ids", "", locale.Text("prompt as token ids, separated by commas or spaces", "以逗号或空格分隔的提示 token id"))
	f.StringVarP(&g.file, "file", "f", "", locale.Text("file with the prompt; - for standard input", "提示所在文件；- 为标准输入"))
	f.StringVar(&g.special, "special", "parse", locale.Text("control tokens spelled in the prompt: parse them, or read them as text", "提示中写出的控制 token：parse 解析，text 视为文本"))
	f.BoolVar(&g.chat, "chat", false, locale.Text("the prompt is a question to the model's chat template", "提示是套入对话模板的问题"))
	f.StringVar(&g.system, "system", "", locale.Text("system message for --chat", "--chat 的系统消息"))
	f.StringVar(&g.template, "template", "", locale.Text("prompt format for --chat instead of the model's own template", "--chat 使用的对话格式（代替模型自带模板）"))
	f.StringVar(&g.thinking, "thinking", "", locale.Text("on or off, for models that think (--chat); default: the template's", "思考模型的思考开关 on 或 off（--chat）；默认由模板决定"))
	pictureFlags(f, &g.images, &g.videos, &g.video)
	f.StringArrayVar(&g.stops, "stop", nil, locale.Text("text that ends the answer (may be repeated)", "遇到该文本即停止（可重复）"))
	f.IntVarP(&g.maxNew, "max-new", "n", 128, locale.Text("most new tokens", "最多生成的 token 数"))
	g.sampling.flags(f)
	g.beams.flags(f)
	g.form.flags(f)
	g.draft.flags(f)
	g.how.flags(f)
	f.StringVar(&o.engine, "engine", "cpu", engineUsage())
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON: text, ids, logprobs, finish_reason", "输出 JSON：text、ids、logprobs、finish_reason"))
	return cmd
}

// check refuses flags that contradict each other and returns the prompt's text.
func (g *generateFlags) check(args []string) (text string, err error) {
	given := len(args)
	for _, s := range []string{g.ids, g.file} {
		if s != "" {
			given++
		}
	}
	switch {
	case given == 0:
		return "", errors.New("PROMPT: is missing; give a text, -f FILE or --prompt-ids IDS")
	case given > 1 && len(args) > 1:
		return "", fmt.Errorf("unexpected argument %q; quote the prompt to make it one argument", args[1])
	case given > 1:
		return "", errors.New("PROMPT: want one of a text, -f FILE and --prompt-ids, got several")
	case g.maxNew < 1:
		return "", fmt.Errorf("--max-new: want at least 1, got %d", g.maxNew)
	case g.special != "parse" && g.special != "text":
		return "", fmt.Errorf("--special: want parse or text, got %q", g.special)
	case !g.chat && (g.system != "" || g.template != "" || g.thinking != ""):
		return "", errors.New("--system, --template, --thinking: need --chat")
	case !g.chat && g.ids == "" && len(g.images)+len(g.videos) > 0:
		return "", errors.New("--image, --video: need --chat, or --prompt-ids with a placeholder for each")
	case g.chat && g.ids != "":
		return "", errors.New("--prompt-ids: cannot be put into a chat template (--chat)")
	case len(args) == 1:
		return args[0], nil
	case g.file == "-":
		b, err := io.ReadAll(os.Stdin)
		return string(b), err
	case g.file != "":
		b, err := os.ReadFile(g.file)
		return string(b), err
	}
	return "", nil
}

func (g *generateFlags) run(cmd *cobra.Command, o *options, name string, args []string) error {
	text, err := g.check(args)
	if err != nil {
		return err
	}
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
	ready, err := g.how.load(cmd.Context(), m, eng, o.quiet || o.json)
	if err != nil {
		return err
	}
	defer ready.close()
	info := m.model.Info()
	tok, err := tokenizerOf(cmp.Or(m.vocabulary, name))
	if err != nil && (g.ids == "" || len(g.stops) > 0) {
		return err
	}
	defaults, err := generate.ReadDefaults(name)
	if err != nil {
		return err
	}
	w := generate.Writing{Tokenizer: tok, Stops: g.stops}
	w.MaxNew, w.Sampling = g.maxNew, g.sampling.over(cmd.Flags(), defaults, generate.Sampling{})
	if err := g.prompt(&w, name, text); err != nil {
		return err
	}
	fills := false
	if f, ok := m.model.(family.BlankFiller); ok && !g.chat && tok != nil {
		if g.ids == "" {
			w.Prompt, fills = blankText(f, tok, text, g.special == "parse")
		}
		w.End = append(w.End, f.Blanks().EOP)
		if g.ids == "" && !fills {
			if w.Prompt, err = generate.BlankPrompt(w.Prompt, f.Blanks()); err != nil {
				return err
			}
		}
	}
	w.End = endTokens(info, defaults, w.End...)
	if len(g.images)+len(g.videos) > 0 {
		if err := g.look(cmd.Context(), ready, name, &w); err != nil {
			return err
		}
	}
	if err := checkPrompt(info, w); err != nil {
		return err
	}
	if fills && (g.form.given() || g.draft.source != "") {
		return errors.New("--grammar, --json-schema, --draft: blanks are filled without them")
	}
	if err := g.form.hold(&w); err != nil {
		return err
	}
	size := len(w.Prompt) + w.MaxNew
	if fills { // each of the blanks
		size = 2*len(w.Prompt) + w.MaxNew*len(m.model.(family.BlankFiller).Blanks().Masks(w.Prompt))
	}
	if info.MaxPosition > 0 {
		size = min(size, info.MaxPosition)
	}
	if err := g.beams.check(w, g.draft.source != "", fills); err != nil {
		return err
	}
	r, err := ready.runner(generate.Options{Context: size, Sequences: max(1, g.beams.n)})
	if err != nil {
		return err
	}
	defer r.Shut()
	if g.beams.n > 0 {
		return g.beams.search(cmd, o, r, w)
	}
	seq, err := r.Open()
	if err != nil {
		return err
	}
	drafter, shut, err := g.draft.maker(cmd.Context(), eng, name, r, 1, o.quiet || o.json)
	if err != nil {
		return err
	}
	defer shut()
	if drafter != nil {
		d, err := drafter(seq)
		if err != nil {
			return err
		}
		defer d.Close()
		w.Draft = &generate.Drafting{Drafter: d, Most: g.draft.most}
	}
	if fills {
		return filled(o, r, cmd, seq, w)
	}
	var ended func()
	w.Prefill, ended = prefillBar(len(w.Prompt), o.quiet || o.json)
	defer ended()
	if !o.json {
		w.Write = func(s string) { fmt.Print(s) }
	}
	return report(o, r, cmd, seq, w)
}

// checkPrompt refuses ids that the model does not have and prompts that it cannot hold.
func checkPrompt(info family.Info, w generate.Writing) error {
	for i, id := range w.Prompt {
		if (id < 0 || int(id) >= info.VocabSize) && !w.Pictures.Covers(i) {
			return fmt.Errorf("prompt: want ids below %d, got %d", info.VocabSize, id)
		}
	}
	if n := len(w.Prompt); n == 0 || info.MaxPosition > 0 && n >= info.MaxPosition {
		return fmt.Errorf("prompt: %d tokens do not fit the model's context of %d", n, info.MaxPosition)
	}
	return nil
}

// look puts the pictures into the prompt.
func (g *generateFlags) look(ctx context.Context, m *loaded, name string, w *generate.Writing) error {
	eyes, err := m.eyes(name)
	if err != nil {
		return err
	}
	defer eyes.Close()
	pictures, videos, err := seen(ctx, eyes, g.images, g.videos, g.video)
	if err != nil {
		return err
	}
	w.Prompt, w.Pictures, err = eyes.Lay(w.Prompt, pictures, videos)
	return err
}

// prompt fills in the prompt's ids and what ends the answer.
func (g *generateFlags) prompt(w *generate.Writing, name, text string) error {
	switch {
	case g.ids != "":
		ids, err := parseIDs(g.ids)
		w.Prompt = ids
		return err
	case !g.chat:
		w.Prompt = w.Tokenizer.Encode(text, tokenizer.Options{ParseSpecial: g.special == "parse", AddSpecial: true})
		return nil
	}
	d, err := dialectOf(name, g.template, w.Tokenizer)
	if err != nil {
		return err
	}
	c := &chat.Conversation{Open: true}
	on, err := parseThinking(g.thinking)
	if err != nil {
		return err
	}
	if g.form.given() && d.Speech().Think[0] != "" && (on == nil || *on) {
		return errors.New("--grammar, --json-schema: this model thinks before it answers; add --thinking off")
	}
	c.SetThinking(on)
	if g.system != "" {
		c.Messages = append(c.Messages, chat.NewMessage(chat.System, g.system))
	}
	marked, err := chat.Illustrated(strings.TrimRight(text, "\n"), len(g.images), len(g.videos))
	if err != nil {
		return err
	}
	c.Messages = append(c.Messages, chat.NewQuestion(marked))
	p, err := d.Prompt(c)
	if err != nil {
		return err
	}
	ids, words := d.Stop()
	w.Fresh, w.Prompt, w.End, w.Keep = true, p.IDs, ids, d.Speech().Keep(w.Tokenizer)
	w.Stops = append(w.Stops, words...)
	return nil
}

// report generates and prints what came of it.
func report(o *options, r *generate.Runner, cmd *cobra.Command, seq *generate.Sequence, w generate.Writing) error {
	var res generate.Written
	var err error
	if w.Tokenizer == nil { // token ids of a model that brings no tokenizer
		res.Result, err = r.Generate(cmd.Context(), seq, w.Request)
	} else {
		res, err = r.Write(cmd.Context(), seq, w)
	}
	if err != nil {
		return failure{err, exitFail}
	}
	ids, logprobs := []int32{}, []float64{}
	for _, t := range res.Tokens {
		ids, logprobs = append(ids, t.ID), append(logprobs, t.LogProb)
	}
	if o.json {
		out := map[string]any{"ids": ids, "logprobs": logprobs, "finish_reason": res.Stop, "prompt_tokens": len(w.Prompt)}
		if w.Tokenizer != nil {
			out["text"] = res.Text
		}
		if d := w.Draft; d != nil {
			out["draft"] = map[string]int{"passes": d.Passes, "guesses": d.Drafted, "right": d.Agreed}
		}
		return printJSON(out)
	}
	if w.Tokenizer == nil {
		fmt.Println(strings.Trim(fmt.Sprint(ids), "[]"))
		return nil
	}
	fmt.Println()
	if !o.quiet {
		tell(w.Draft)
		switch res.Stop {
		case generate.StopLength:
			fmt.Fprintf(os.Stderr, locale.Text("(stopped after %d tokens: --max-new)\n", "（已生成 %d 个 token 后停止：--max-new）\n"), len(ids))
		case generate.StopContext:
			fmt.Fprintf(os.Stderr, locale.Text("(the context of %d tokens is full)\n", "（上下文 %d 个 token 已满）\n"), r.Context())
		}
	}
	return nil
}

// parseIDs reads token ids.
func parseIDs(s string) ([]int32, error) {
	var ids []int32
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '[' || r == ']' }) {
		n, err := strconv.ParseInt(f, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--prompt-ids: want numbers, got %q", f)
		}
		ids = append(ids, int32(n))
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("--prompt-ids: is missing or empty")
	}
	return ids, nil
}
