package recipe

import (
	"errors"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/data"
	"danlu/internal/locale"
	"danlu/tokenizer"
)

// template renders the conversations of a dataset: in the prompt format that `template:` names, or by the chat template
// that the model carries.
type template struct {
	pairs data.Template
	*chat.Dialect
}

// EncodePairs implements data.Template.
func (t *template) EncodePairs(system, tools string, turns []data.Turn) ([]data.Pair, error) {
	return t.pairs.EncodePairs(system, tools, turns)
}

// template opens what the recipe renders conversations with.
func (j *job) template(t *tokenizer.Tokenizer) (f *template, err error) {
	if j.Data.Template == "" {
		f, err = j.carriedTemplate(t)
	} else {
		f, err = j.namedTemplate(t)
	}
	j.format = f
	return f, err
}

// namedTemplate is the prompt format that the recipe names.
func (j *job) namedTemplate(t *tokenizer.Tokenizer) (*template, error) {
	d := &j.Data
	f, err := chat.Lookup(d.Template, t)
	if err != nil {
		return nil, j.Errorf("template", "%v", err)
	}
	if d.DefaultSystem != nil {
		f.DefaultSystem = *d.DefaultSystem
	}
	if d.ToolFormat != "" {
		f.ToolFormat = d.ToolFormat
	}
	f.Thinking = d.EnableThinking == nil || *d.EnableThinking
	f.PreserveThinking, f.Trusted = d.PreserveThinking, !j.Model.SplitSpecial
	return &template{pairs: data.Formatted{Format: f, LastOnly: d.MaskHistory || j.Method.Stage != "sft"}, Dialect: chat.NewDialect(nil, f, t)}, nil
}

// carriedTemplate is the chat template in the model's own files.
func (j *job) carriedTemplate(t *tokenizer.Tokenizer) (*template, error) {
	c, err := chat.FromModel(j.source.path, t)
	switch {
	case j.source.files == nil || errors.Is(err, chat.ErrNoTemplate):
		return nil, j.Errorf("template", "is missing, and %s carries no chat template: say how conversations are written, e.g. template: chatml", j.Model.Path)
	case err != nil:
		return nil, j.Errorf("template", "is missing, and the model's own cannot be used: %v", err)
	}
	for _, key := range []string{"tool_format", "default_system", "preserve_thinking"} {
		if j.IsSet(key) {
			return nil, j.Errorf(key, "needs template: the model's own chat template has no such setting")
		}
	}
	j.say(locale.Text("template: the model's own chat template", "template：模型自带的对话模板"))
	var variables *jinja.Dict
	if j.IsSet("enable_thinking") {
		variables = jinja.NewDict()
		variables.SetString("enable_thinking", j.Data.EnableThinking == nil || *j.Data.EnableThinking)
	}
	return &template{pairs: data.Carried{Template: c, Tokenizer: t, Variables: variables}, Dialect: chat.NewDialect(c, nil, t)}, nil
}

// EfficientEOS is the end token of formats that write none behind each answer, else -1.
func (t *template) EfficientEOS() int32 {
	if t.Format == nil {
		return -1
	}
	return t.Format.EfficientEOS()
}
