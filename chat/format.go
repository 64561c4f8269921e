package chat

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"danlu/tokenizer"
)

// slot is one element of a format: a text with {{content}}, a token by name or by an id below 0, which is none of the
// vocabulary's, or the tokenizer's own BOS or EOS token.
type slot struct {
	text  string
	token string
	id    int32
	bos   bool
	eos   bool
}

// spec is a prompt format as data.
type spec struct {
	name        string
	user        []slot
	assistant   []slot // nil: the content, and the EOS token unless efficientEOS
	system      []slot // nil: the content
	function    []slot // nil: as assistant
	observation []slot // nil: as user
	prefix      []slot
	suffix      []slot // behind a whole conversation (ChatGLM-6B)

	tools         string // tool format of calls and descriptions; "": default
	defaultSystem string
	stop          []string
	efficientEOS  bool // answers of a conversation end by what follows them; one EOS token stands at the very end
	replaceEOS    bool // stop[0] is the EOS token
	systemInUser  bool // the system text stands inside the first question (Llama 2)
	reasoning     bool // answers have a thought
	sees          *sees
}

// Pair is one round as ids: what is given and what the model says.
type Pair struct{ Source, Target []int32 }

// Format is a prompt format of LLaMA-Factory bound to a tokenizer. It gives that program's ids and labels. It is safe
// for concurrent use once its options are set.
type Format struct {
	// DefaultSystem is used where a conversation brings no system text.
	DefaultSystem string
	// ToolFormat writes tool descriptions and calls: default, glm4, llama3 or qwen.
	ToolFormat string
	// Thinking is LLaMA-Factory's enable_thinking for formats with thoughts: true scores an empty thought before answers
	// that have none, false removes thoughts and puts the empty one into the question.
	Thinking bool
	// PreserveThinking keeps the thoughts of earlier answers where LLaMA-Factory's default leaves them out.
	PreserveThinking bool
	// Trusted reads control tokens that messages spell as those tokens, as LLaMA-Factory does.
	Trusted bool
	// Now tells the date that Llama 3's tool prompt names.
	Now func() time.Time

	spec *spec
	tok  *tokenizer.Tokenizer
	eos  int32
	stop []string // stop words that are pieces but no special tokens of this vocabulary
	own  []string // tokens that the format writes and the vocabulary matches in any text (Baichuan2)
}

// thought are the words around a thought, and around a call inside a function turn, of all formats here.
var (
	thoughtWords = [2]string{"<think>\n", "\n</think>\n\n"}
	callWords    = [2]string{"<tool_call>", "</tool_call>"}
)

// Names returns the names of all formats.
func Names() []string {
	var names []string
	for i := range specs {
		names = append(names, specs[i].name)
	}
	slices.Sort(names)
	return names
}

// Lookup returns the format of a name for a tokenizer.
func Lookup(name string, tok *tokenizer.Tokenizer) (*Format, error) {
	i := slices.IndexFunc(specs, func(s spec) bool { return s.name == name })
	if i < 0 {
		return nil, fmt.Errorf("chat: template: unknown name %q; known are %s", name, strings.Join(Names(), ", "))
	}
	s := &specs[i]
	f := &Format{spec: s, tok: tok, eos: tok.EOS(), DefaultSystem: s.defaultSystem, ToolFormat: s.tools, Thinking: true, Now: time.Now}
	if f.ToolFormat == "" {
		f.ToolFormat = "default"
	}
	for _, w := range s.stop {
		if id, ok := tok.ID(w); ok && tok.Kind(id) != tokenizer.Control {
			f.stop = append(f.stop, w)
		}
	}
	for _, x := range slices.Concat(s.user, s.assistant, s.system, s.prefix) {
		for _, w := range append(tokenPattern.FindAllString(x.text, -1), x.token) {
			if id, ok := tok.ID(w); ok && tok.Kind(id) == tokenizer.UserDefined {
				f.own = append(f.own, w)
			}
		}
	}
	if s.replaceEOS {
		id, ok := tok.ID(s.stop[0])
		if !ok {
			return nil, fmt.Errorf("chat: template %s: its end token %s is not in the vocabulary of %s; choose another template or add the token (add_special_tokens, resize_vocab)", name, s.stop[0], tok.Source)
		}
		f.eos = id
	} else if f.eos < 0 {
		if id, ok := tok.ID("<|endoftext|>"); ok {
			f.eos = id
		}
	}
	if f.eos < 0 && (s.efficientEOS || f.needsEOS()) {
		return nil, fmt.Errorf("chat: template %s: the vocabulary of %s has no end token", name, tok.Source)
	}
	for _, list := range [][]slot{s.user, s.assistant, s.system, s.function, s.observation, s.prefix, s.suffix} {
		for _, x := range list {
			if _, ok := tok.ID(x.token); x.token != "" && !ok {
				return nil, fmt.Errorf("chat: template %s: its token %s is not in the vocabulary of %s", name, x.token, tok.Source)
			}
		}
	}
	return f, nil
}

// Fitting returns the names of formats whose tokens a vocabulary has, for models that bring no template of their own.
func Fitting(tok *tokenizer.Tokenizer) []string {
	var names []string
	for i := range specs {
		s := &specs[i]
		written, all := 0, true
		for _, x := range slices.Concat(s.user, s.assistant, s.system, s.prefix, s.suffix) {
			for _, w := range append(tokenPattern.FindAllString(x.text, -1), x.token) {
				if w == "" {
					continue
				}
				_, ok := tok.ID(w)
				written, all = written+1, all && ok
			}
		}
		if written > 0 && all {
			names = append(names, s.name)
		}
	}
	slices.Sort(names)
	return names
}

// tokenPattern finds what is spelled like a control token in a format's text.
var tokenPattern = regexp.MustCompile(`<[^<>\s]+>|\[gMASK\]`)

func (f *Format) needsEOS() bool {
	return slices.ContainsFunc(slices.Concat(f.assistantSlots(), f.spec.user, f.spec.system), func(s slot) bool { return s.eos })
}

// Name is LLaMA-Factory's name of the format.
func (f *Format) Name() string { return f.spec.name }

// EOS is the token that ends an answer: the tokenizer's own, or the one that the format puts in its place.
func (f *Format) EOS() int32 { return f.eos }

// EfficientEOS returns the end token of formats that do not write one behind each answer, else -1: only the last
// answer of a conversation gets it, and the first token of a later question is scored as the end of the answer before.
func (f *Format) EfficientEOS() int32 {
	if f.spec.efficientEOS {
		return f.eos
	}
	return -1
}

// Stop returns the tokens that end an answer, and the strings that do where the vocabulary has no token for them.
func (f *Format) Stop() (ids []int32, words []string) {
	if f.eos >= 0 {
		ids = append(ids, f.eos)
	}
	if id := f.tok.EOS(); id >= 0 && id != f.eos {
		ids = append(ids, id)
	}
	for _, w := range f.spec.stop {
		if id, ok := f.tok.ID(w); !ok {
			words = append(words, w)
		} else if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, words
}

func (f *Format) assistantSlots() []slot {
	switch {
	case f.spec.assistant != nil:
		return f.spec.assistant
	case f.spec.efficientEOS:
		return contentSlots
	}
	return []slot{{text: "{{content}}"}, {eos: true}}
}

var contentSlots = []slot{{text: "{{content}}"}}

func (f *Format) slots(role string) []slot {
	s := f.spec
	switch role {
	case Assistant:
		return f.assistantSlots()
	case Function:
		if s.function != nil {
			return s.function
		}
		return f.assistantSlots()
	case Observation, Tool:
		if s.observation != nil {
			return s.observation
		}
	}
	return s.user
}

// Pairs renders turns, which alternate between asking (User, Observation) and answering ones (Assistant, Function) and
// end with an answer. tools is the JSON list of tools, or "". lastOnly says that only the last answer is scored
// (mask_history): then formats with thoughts drop those of earlier answers.
func (f *Format) Pairs(system, tools string, turns []Turn, lastOnly bool) ([]Pair, error) {
	if len(turns)%2 != 0 {
		return nil, fmt.Errorf("chat: template %s: want questions and answers in turn, got %d turns", f.spec.name, len(turns))
	}
	if f.spec.suffix != nil && len(turns) > 0 {
		return f.roundsPairs(system, tools, turns)
	}
	turns = slices.Clone(turns)
	if f.spec.reasoning {
		for i := 1; i < len(turns); i += 2 {
			history := i < len(turns)-2
			if !f.Thinking || lastOnly && !f.PreserveThinking && history {
				turns[i].Content = removeThought(turns[i].Content)
			}
		}
	}
	encoded, err := f.encodeTurns(system, tools, turns)
	if err != nil {
		return nil, err
	}
	var pairs []Pair
	for i := 0; i < len(turns); i += 2 {
		p := Pair{encoded[i], encoded[i+1]}
		last := i == len(turns)-2
		if f.spec.reasoning && (last || !lastOnly || f.PreserveThinking) && !hasThought(turns[i+1].Content) {
			empty := f.tok.Encode(thoughtWords[0]+thoughtWords[1], tokenizer.Options{ParseSpecial: true})
			if f.Thinking {
				p.Target = append(empty, p.Target...)
			} else {
				p.Source = append(p.Source, empty...)
			}
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// Prompt renders a conversation that ends with a question, up to the opening of the answer. Thoughts of earlier answers
// are left out, as at training time.
func (f *Format) Prompt(system, tools string, turns []Turn) ([]int32, error) {
	if len(turns)%2 != 1 {
		return nil, fmt.Errorf("chat: template %s: want a conversation that ends with a question, got %d turns", f.spec.name, len(turns))
	}
	if f.spec.suffix != nil {
		return f.roundsPrompt(system, tools, turns)
	}
	turns = slices.Clone(turns)
	if f.spec.reasoning && !f.PreserveThinking {
		for i := 1; i < len(turns); i += 2 {
			turns[i].Content = removeThought(turns[i].Content)
		}
	}
	encoded, err := f.encodeTurns(system, tools, turns)
	if err != nil {
		return nil, err
	}
	ids := slices.Concat(encoded...)
	if f.spec.reasoning && !f.Thinking {
		ids = append(ids, f.tok.Encode(thoughtWords[0]+thoughtWords[1], tokenizer.Options{ParseSpecial: true})...)
	}
	return ids, nil
}

func hasThought(s string) bool {
	return strings.Contains(s, strings.TrimSpace(thoughtWords[0])) || strings.Contains(s, strings.TrimSpace(thoughtWords[1]))
}

// removeThought cuts every thought out of an answer.
func removeThought(s string) string {
	for {
		before, rest, ok := strings.Cut(s, thoughtWords[0])
		if !ok {
			break
		}
		_, after, ok := strings.Cut(rest, thoughtWords[1])
		if !ok {
			break
		}
		s = before + after
	}
	return strings.TrimLeft(s, "\n")
}

// encodeTurns renders each turn; prefix, system and tools belong to the first one.
func (f *Format) encodeTurns(system, tools string, turns []Turn) ([][]int32, error) {
	if system == "" {
		system = f.DefaultSystem
	}
	hasSystem := system != "" || tools != "" // an empty list of tools still opens a system message
	if tools != "" {
		text, err := toolText(f.ToolFormat, tools, f.Now())
		if err != nil {
			return nil, fmt.Errorf("chat: tools: %w", err)
		}
		system += text
	}
	systemSlots := f.spec.system
	if systemSlots == nil {
		systemSlots = contentSlots
	}
	out := make([][]int32, len(turns))
	for i, t := range turns {
		if i == 0 {
			out[i] = f.appendSlots(out[i], f.spec.prefix, "", -1)
			if hasSystem && !f.spec.systemInUser {
				out[i] = f.appendSlots(out[i], systemSlots, system, -1)
			}
		}
		content, round := t.Content, -1
		if err := f.checkPictures(content); err != nil {
			return nil, err
		}
		switch t.Role {
		case Function:
			text, err := callText(f.ToolFormat, content, !f.spec.systemInUser)
			if err != nil {
				return nil, fmt.Errorf("chat: turn %d: %w", i, err)
			}
			content = text
		case User:
			round = i / 2
			if i == 0 && hasSystem && f.spec.systemInUser {
				content = strings.Replace(systemSlots[0].text, "{{content}}", system, 1) + content
			}
		case Assistant, Observation, Tool:
		default:
			return nil, fmt.Errorf("chat: turn %d: unknown role %q", i, t.Role)
		}
		out[i] = f.appendSlots(out[i], f.slots(t.Role), content, round)
	}
	return out, nil
}

// appendSlots appends the ids of slots. Each text is encoded by itself. A question has a round, which ChatGLM2 writes;
// elsewhere it is -1.
func (f *Format) appendSlots(ids []int32, slots []slot, content string, round int) []int32 {
	for _, s := range slots {
		switch {
		case s.id < 0:
			ids = append(ids, s.id)
		case s.token != "":
			id, _ := f.tok.ID(s.token)
			ids = append(ids, id)
		case s.bos:
			if id := f.tok.BOS(); id >= 0 {
				ids = append(ids, id)
			}
		case s.eos:
			if f.eos >= 0 {
				ids = append(ids, f.eos)
			}
		default:
			text := s.text
			if round >= 0 {
				text = strings.Replace(text, "{{idx}}", fmt.Sprint(round), 1)
			}
			ids = f.appendText(ids, text, content)
		}
	}
	return ids
}

// appendText appends the ids of a slot's text around a content.
func (f *Format) appendText(ids []int32, text, content string) []int32 {
	before, after, hasContent := strings.Cut(text, "{{content}}")
	if at, mark := firstOf(content, pictureMarks); hasContent && at >= 0 && f.spec.sees != nil {
		ids = f.appendText(ids, before+"{{content}}", content[:at])
		ids = f.appendSlots(ids, f.spec.sees.of(mark), "", -1)
		return f.appendText(ids, "{{content}}"+after, content[at+len(mark):])
	}
	parts := []tokenizer.Part{{Text: before}}
	if hasContent {
		parts = append(parts, tokenizer.Part{Text: content, Plain: !f.Trusted}, tokenizer.Part{Text: after})
	}
	if at, word := firstOf(content, f.own); hasContent && !f.Trusted && at >= 0 {
		// Cut inside the word: encoded apart, its halves are text.
		_, n := utf8.DecodeRuneInString(word)
		ids = f.appendText(ids, before+"{{content}}", content[:at+n])
		return f.appendText(ids, "{{content}}"+after, content[at+n:])
	}
	if len(f.stop) == 0 {
		return append(ids, f.tok.EncodeParts(parts)...)
	}
	// LLaMA-Factory makes stop words special tokens of the tokenizer: text is cut at them.
	var run []tokenizer.Part
	flush := func() {
		ids = append(ids, f.tok.EncodeParts(run)...)
		run = run[:0]
	}
	for _, p := range parts {
		for !p.Plain {
			at, word := firstOf(p.Text, f.stop)
			if at < 0 {
				break
			}
			run = append(run, tokenizer.Part{Text: p.Text[:at]})
			flush()
			id, _ := f.tok.ID(word)
			ids = append(ids, id)
			p.Text = p.Text[at+len(word):]
		}
		if p.Text != "" {
			run = append(run, p)
		}
	}
	flush()
	return ids
}

// firstOf finds the leftmost of words in s.
func firstOf(s string, words []string) (at int, word string) {
	at = -1
	for _, w := range words {
		if i := strings.Index(s, w); i >= 0 && (at < 0 || i < at) {
			at, word = i, w
		}
	}
	return at, word
}

// Thought is a reasoning text in the words that formats with thoughts put around it.
func Thought(reasoning string) string { return thoughtWords[0] + reasoning + thoughtWords[1] }
