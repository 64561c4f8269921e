package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"danlu/chat"
	"danlu/internal/locale"
)

func init() { verbs = append(verbs, newTemplate) }

func isNoTemplate(err error) bool { return errors.Is(err, chat.ErrNoTemplate) }

func newTemplate(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "template", Short: locale.Text("Render and show chat templates", "渲染与查看对话模板")}
	cmd.AddCommand(newTemplateRender(o), newTemplateShow(), newTemplateList())
	return cmd
}

func newTemplateRender(o *options) *cobra.Command {
	var model, format, now string
	var open bool
	cmd := &cobra.Command{
		Use:   "render MODEL < messages.json",
		Short: locale.Text("Render a conversation as the model reads it", "按模型读到的样子渲染对话"),
		Long: locale.Text(`Reads a JSON list of messages, or an object of messages, tools, documents, add_generation_prompt, continue_final_message
and kwargs, and writes the text that the model's chat template makes of it. MODEL may also be a .jinja file.
A list alone gets the opening of an answer unless it ends with one.`,
			`读取 JSON 消息列表，或包含 messages、tools、documents、add_generation_prompt、continue_final_message、kwargs 的对象，
输出对话模板渲染出的文本。MODEL 也可以是 .jinja 文件。只给列表时，若不以回答结尾则附上回答的开头。`),
		Example: "  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | danlu template render model.gguf\n  danlu template render qwen-folder --json < messages.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &model, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unexpected argument %q", rest[0])
			}
			input, err := io.ReadAll(os.Stdin)
			if err != nil {
				return err
			}
			c, err := chat.ParseConversation(input)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("add-generation-prompt") {
				c.Open = open
			}
			clock := time.Now
			if now != "" {
				at, err := time.Parse("2006-01-02T15:04:05", now)
				if err != nil {
					return fmt.Errorf("--now: want YYYY-MM-DDTHH:MM:SS, got %q", now)
				}
				clock = func() time.Time { return at }
			}
			return render(o, name, format, c, clock)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&format, "template", "", locale.Text("prompt format instead of the model's own template", "使用的对话格式（代替模型自带模板）"))
	f.StringVar(&now, "now", "", locale.Text("time that the template is told, instead of the present one", "告知模板的时间（代替当前时间）"))
	f.BoolVar(&open, "add-generation-prompt", true, locale.Text("end with the opening of an answer", "以回答的开头结尾"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON: text, ids", "输出 JSON：text、ids"))
	return cmd
}

// render prints the text of a conversation, or text and ids.
func render(o *options, name, format string, c *chat.Conversation, now func() time.Time) error {
	if format == "" && !o.json { // the text alone needs no tokenizer
		t, err := chat.FromModel(name, nil)
		if err == nil {
			if tok, err := tokenizerOf(name); err == nil {
				if t, err = chat.FromModel(name, tok); err != nil {
					return err
				}
			}
			t.Now = now
			text, err := t.Render(c)
			if err != nil {
				return err
			}
			_, err = os.Stdout.WriteString(text)
			return err
		}
		if !isNoTemplate(err) {
			return err
		}
	}
	tok, err := tokenizerOf(name)
	if err != nil {
		return err
	}
	d, err := dialectOf(name, format, tok)
	if err != nil {
		return err
	}
	if d.Template != nil {
		d.Template.Now = now
	} else {
		d.Format.Now = now
	}
	p, err := d.Prompt(c)
	if err != nil {
		return err
	}
	if d.Format != nil { // a format is made of ids
		p.Text = tok.Decode(p.IDs, false)
	}
	if o.json {
		return printJSON(map[string]any{"text": p.Text, "ids": p.IDs})
	}
	_, err = os.Stdout.WriteString(p.Text)
	return err
}

func newTemplateShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show MODEL",
		Short:   locale.Text("Print the model's own chat template", "打印模型自带的对话模板"),
		Example: "  danlu template show model.gguf",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := chat.FromModel(args[0], nil)
			if err != nil {
				return err
			}
			fmt.Println(strings.TrimSuffix(t.Source(), "\n"))
			return nil
		},
	}
}

func newTemplateList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   locale.Text("Print the names of the built-in prompt formats", "列出内置对话格式的名称"),
		Example: "  danlu template list",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Println(strings.Join(chat.Names(), "\n"))
			return nil
		},
	}
}
