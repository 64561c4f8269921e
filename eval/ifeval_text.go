package eval

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// sentenceEnd is the end of a sentence: its mark with closing quotes and brackets, then white space or the end; Chinese
// and Japanese marks need nothing behind them.
var sentenceEnd = regexp.MustCompile(`[.!?…]+["'”’)\]]*(?:\s+|$)|[。！？]+["'”’」』)）]*\s*|\n\s*\n`)

// abbreviations end with a full stop that ends no sentence.
var abbreviations = map[string]bool{"mr": true, "mrs": true, "ms": true, "dr": true, "prof": true, "st": true, "sr": true, "jr": true, "vs": true, "e.g": true,
	"i.e": true, "etc": true, "inc": true, "ltd": true, "co": true, "no": true, "fig": true, "u.s": true, "u.k": true, "p.s": true, "p.p.s": true}

// sentences cuts a text into sentences.
func sentences(s string) []string {
	var list []string
	from := 0
	for _, m := range sentenceEnd.FindAllStringIndex(s, -1) {
		head := strings.TrimSpace(s[from:m[0]])
		words := strings.Fields(head)
		if len(words) > 0 && s[m[0]] == '.' {
			last := strings.ToLower(strings.Trim(words[len(words)-1], `("'“`))
			if abbreviations[last] || len([]rune(last)) == 1 && unicode.IsLetter([]rune(last)[0]) && last != "i" {
				continue
			}
		}
		if strings.IndexFunc(head, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) >= 0 {
			list = append(list, strings.TrimSpace(s[from:m[1]]))
		}
		from = m[1]
	}
	if rest := strings.TrimSpace(s[from:]); rest != "" {
		list = append(list, rest)
	}
	return list
}

// scripts are the writing systems that tell a language by themselves.
var scripts = map[string][]*unicode.RangeTable{
	"zh": {unicode.Han}, "ja": {unicode.Hiragana, unicode.Katakana}, "ko": {unicode.Hangul}, "th": {unicode.Thai}, "he": {unicode.Hebrew}, "el": {unicode.Greek},
	"ta": {unicode.Tamil}, "te": {unicode.Telugu}, "kn": {unicode.Kannada}, "gu": {unicode.Gujarati}, "pa": {unicode.Gurmukhi}, "bn": {unicode.Bengali},
	"ml": {unicode.Malayalam},
}

// shared are writing systems of several languages, and each language's most frequent words.
var shared = []struct {
	table *unicode.RangeTable
	words map[string][]string
}{
	{unicode.Arabic, map[string][]string{
		"ar": strings.Fields("في من على أن إلى هذا هذه التي الذي كان لا ما هو هي عن مع"), "fa": strings.Fields("در از به که این را با است برای آن می و یک خود تا"),
		"ur": strings.Fields("کے میں کی ہے اور سے کا کو ہیں نے پر یہ اس کہ")}},
	{unicode.Devanagari, map[string][]string{
		"hi": strings.Fields("के में की है और से का को हैं पर यह कि एक ने"), "mr": strings.Fields("आणि आहे या ते मध्ये होते हे की एक आहेत च्या"),
		"ne": strings.Fields("छ र मा को लागि हो छन् यो गर्न पनि भएको")}},
	{unicode.Cyrillic, map[string][]string{
		"ru": strings.Fields("и в не на что с он как это по но из к за вы так же от"), "bg": strings.Fields("и в на да е се от за не с че са това като по"),
		"uk": strings.Fields("і в на що не з та до як це у за є від про"), "mk": strings.Fields("и во на да се од за не со е тоа што")}},
	{unicode.Latin, map[string][]string{
		"en": strings.Fields("the of and to in is that it for was on are as with his they at be this have from i you a my your not we can will"),
		"de": strings.Fields("der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an ich"),
		"fr": strings.Fields("de la le et les des en un une du que qui dans pour est au pas sur ce il vous nous"),
		"es": strings.Fields("de la que el en y a los del se las por un para con no una su es al lo como"),
		"pt": strings.Fields("de a o que e do da em um para com não uma os no se na por mais as dos é"),
		"it": strings.Fields("di e il la che in un a per è una sono del le non con si della da al come"),
		"nl": strings.Fields("de het een en van ik te dat die in je is niet op met zijn voor er"),
		"pl": strings.Fields("i w na z do nie się że to jest o jak po co ale od za"), "vi": strings.Fields("và của là có trong cho không một được với các người những để"),
		"fi": strings.Fields("ja on ei se että oli hän mutta ovat kun niin myös joka tai"), "sw": strings.Fields("na ya wa kwa ni katika za la kuwa hii yake cha"),
		"tr": strings.Fields("ve bir bu da de için ile çok olarak daha ne gibi en"), "id": strings.Fields("yang dan di itu dengan untuk tidak ini dari dalam akan pada"),
		"sv": strings.Fields("och att det i en jag som är på för av med den inte till"), "da": strings.Fields("og at det i en er som på for af med den ikke til der"),
		"ro": strings.Fields("de și în la nu pe că cu din un o este mai pentru"), "hu": strings.Fields("a az és hogy nem is egy ez van de meg volt"),
		"cs": strings.Fields("a se v na je že to s z do o jako ale jsem")}},
}

// inLanguage reports whether a text is written in a language (a code such as "en"): by its script, else by whose
// frequent words it has most of. A text without letters is in every language.
func inLanguage(s, code string) bool {
	code, _, _ = strings.Cut(strings.ToLower(code), "-")
	got := language(s)
	return got == "" || got == code
}

// language tells the language of a text, "" where nothing tells.
func language(s string) string {
	count := map[string]int{}
	total := 0
	for _, r := range s {
		if !unicode.IsLetter(r) {
			continue
		}
		total++
		for code, tables := range scripts {
			if unicode.In(r, tables...) {
				count[code]++
			}
		}
	}
	if total == 0 {
		return ""
	}
	if count["ja"]*10 > total { // Japanese is written with Han characters too
		return "ja"
	}
	for code, n := range count {
		if 2*n > total {
			return code
		}
	}
	return frequent(s)
}

// frequent tells the language by frequent words.
func frequent(s string) string {
	words := wordLike.FindAllString(strings.ToLower(s), -1)
	for _, set := range shared {
		letters := 0
		for _, r := range s {
			if unicode.Is(set.table, r) {
				letters++
			}
		}
		if letters == 0 {
			continue
		}
		best, most := "", 0
		codes := make([]string, 0, len(set.words))
		for code := range set.words {
			codes = append(codes, code)
		}
		slices.Sort(codes)
		for _, code := range codes {
			n := 0
			for _, w := range words {
				if slices.Contains(set.words[code], w) {
					n++
				}
			}
			if n > most || n == most && code == "en" && n > 0 {
				best, most = code, n
			}
		}
		return best
	}
	return ""
}
