package eval

import (
	"fmt"
	"math/rand/v2"

	"danlu/chat/jinja"
	"danlu/data/corpus"
)

// asking is an instruction in words, with the check that stands for it.
type asking struct {
	id     string
	en, zh string // with one %v for the argument, if there is one
	key    string // of the argument; "": none
	values []jinja.Value
	more   []jinja.Value // further kwargs, in pairs
}

// askings are the instructions of the format task.
var askings = []asking{
	{id: "punctuation:no_comma", en: "Do not use any commas.", zh: "不要使用英文逗号。"},
	{id: "detectable_format:title", en: "Give it a title in double angular brackets, such as <<title>>.", zh: "给出一个用双尖括号括起来的标题，例如 <<标题>>。"},
	{id: "detectable_format:json_format", en: "Write the whole answer as JSON.", zh: "整个回答必须是 JSON。"},
	{id: "startend:quotation", en: "Put the whole answer into double quotation marks.", zh: `用英文双引号 " 把整个回答括起来。`},
	{id: "detectable_format:number_bullet_lists", en: "Write exactly %v bullet points, each beginning with *.", zh: "恰好写 %v 个要点，每个以 * 开头。", key: "num_bullets",
		values: []jinja.Value{int64(2), int64(3), int64(4)}},
	{id: "detectable_content:number_placeholders", en: "Use at least %v placeholders in square brackets, such as [name].", zh: "至少使用 %v 个方括号占位符，例如 [姓名]。",
		key: "num_placeholders", values: []jinja.Value{int64(1), int64(2), int64(3)}},
	{id: "detectable_format:number_highlighted_sections", en: "Highlight at least %v parts, like *this*.", zh: "至少用 *星号* 突出 %v 处。", key: "num_highlights",
		values: []jinja.Value{int64(1), int64(2)}},
	{id: "length_constraints:number_sentences", en: "Write less than %v sentences.", zh: "少于 %v 句话。", key: "num_sentences",
		values: []jinja.Value{int64(3), int64(5)}, more: []jinja.Value{"relation", "less than"}},
	{id: "startend:end_checker", en: "End with the words: %v", zh: "以这句话结尾：%v", key: "end_phrase", values: []jinja.Value{"That is all.", "The end."}},
	{id: "keywords:existence", en: "Use the word %v.", zh: "使用这个词：%v。", key: "keywords", values: []jinja.Value{jinja.List{"river"}, jinja.List{"lamp"}, jinja.List{"blue"}}},
}

// subjects are what to write about.
var subjects = map[corpus.Lang][]string{
	corpus.English: {"Write about a walk in the rain.", "Explain why the sky is blue.", "Describe a market in the morning.", "Tell a child how bread is made.", "Recommend a book to a friend.",
		"Write an invitation to a birthday party.", "List what to pack for a journey.", "Describe an old clock."},
	corpus.Chinese: {"写一段雨中散步。", "解释天空为什么是蓝色的。", "描写清晨的集市。", "告诉孩子面包是怎样做成的。", "向朋友推荐一本书。", "写一份生日聚会邀请。", "列出旅行要带的东西。", "描写一座老钟。"},
}

// formats are questions with one or two instructions that a program can check.
func formats(o *options, split corpus.Split) ([]Doc, error) {
	lang, n := o.language(), o.whole("items", 100, 1, 100000)
	rng := rand.New(rand.NewPCG(uint64(lang), 100+uint64(split)))
	var docs []Doc
	for i := range n {
		prompt := subjects[lang][rng.IntN(len(subjects[lang]))]
		var ids, kwargs jinja.List
		order := rng.Perm(len(askings))
		for _, k := range order[:1+i%2] {
			text, args := askings[k].in(lang, rng)
			if prompt += text; lang == corpus.English {
				prompt = prompt[:len(prompt)-len(text)] + " " + text
			}
			ids, kwargs = append(ids, askings[k].id), append(kwargs, args)
		}
		docs = append(docs, newDoc("key", int64(i), "prompt", prompt, "instruction_id_list", ids, "kwargs", kwargs))
	}
	return docs, o.err
}

// in is the instruction in a language, with its kwargs.
func (a *asking) in(lang corpus.Lang, rng *rand.Rand) (string, *jinja.Dict) {
	text := a.en
	if lang == corpus.Chinese {
		text = a.zh
	}
	args := newDoc(a.more...)
	if a.key == "" {
		return text, args
	}
	v := a.values[rng.IntN(len(a.values))]
	args.SetString(a.key, v)
	if list, ok := v.(jinja.List); ok {
		v = list[0]
	}
	return fmt.Sprintf(text, v), args
}

// fillers are what a passkey hides among.
var fillers = map[corpus.Lang][]string{
	corpus.English: {"The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again."},
	corpus.Chinese: {"草是绿的。", "天是蓝的。", "太阳是黄的。", "我们出发吧。", "去了又回来。"},
}

// passkey hides a number at depths of texts of lengths, in sentences, and asks for it (Mohtashami and Jaggi 2023, section
// 4.2).
func passkey(o *options, split corpus.Split) ([]Doc, error) {
	lang, n := o.language(), o.whole("items", 4, 1, 1000)
	lengths := o.numbers("lengths", []float64{50, 200}, 1, 1_000_000)
	depths := o.numbers("depths", []float64{0, 0.25, 0.5, 0.75, 1}, 0, 1)
	rng := rand.New(rand.NewPCG(uint64(lang), 200+uint64(split)))
	words := []string{"There is an important number hidden in a lot of other text. Find it and remember it.", "The number is %d. Remember it: %d is the number.", "What is the number? The number is"}
	glue := " "
	if lang == corpus.Chinese {
		words = []string{"下面一大段文字里藏着一个重要的数字，请找到并记住它。", "那个数字是 %d。请记住，数字是 %d。", "那个数字是多少？那个数字是"}
		glue = ""
	}
	var docs []Doc
	for _, length := range lengths {
		for _, depth := range depths {
			for range n {
				key := 10000 + rng.IntN(90000)
				at := int(depth * length)
				text := words[0]
				for i := range int(length) + 1 {
					if i == at {
						text += glue + fmt.Sprintf(words[1], key, key)
					}
					if i < int(length) {
						text += glue + fillers[lang][i%len(fillers[lang])]
					}
				}
				docs = append(docs, newDoc("text", text, "question", words[2], "passkey", fmt.Sprint(key), "length", length, "depth", depth))
			}
		}
	}
	return docs, o.err
}
