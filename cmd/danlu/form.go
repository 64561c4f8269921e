package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"danlu/generate"
	"danlu/grammar"
	"danlu/internal/locale"
)

// form is what an answer has to look like.
type form struct{ grammar, schema string }

func (x *form) flags(f *pflag.FlagSet) {
	f.StringVar(&x.grammar, "grammar", "", locale.Text("file with a grammar (GBNF) that the answer has to follow", "回答须遵循的语法文件（GBNF）"))
	f.StringVar(&x.schema, "json-schema", "", locale.Text("file with a JSON Schema that the answer has to satisfy", "回答须满足的 JSON Schema 文件"))
}

func (x *form) given() bool { return x.grammar != "" || x.schema != "" }

// hold holds an answer to the form.
func (x *form) hold(w *generate.Writing) error {
	file, read := x.grammar, func(b []byte, v *grammar.Vocabulary) (*grammar.Grammar, error) { return grammar.FromGBNF(string(b), v) }
	switch {
	case !x.given():
		return nil
	case x.grammar != "" && x.schema != "":
		return errors.New("--grammar, --json-schema: want one of both")
	case w.Tokenizer == nil:
		return errors.New("--grammar, --json-schema: the model brings no tokenizer")
	case x.schema != "":
		file, read = x.schema, grammar.FromSchema
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	g, err := read(b, grammar.VocabularyOf(w.Tokenizer, w.Keep))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	w.Form = generate.NewForm(g, w.End)
	return nil
}
