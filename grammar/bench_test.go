package grammar

import (
	"math/rand/v2"
	"os"
	"testing"

	"danlu/tokenizer"
)

// benchVocabulary is that of the model file or folder DANLU_BENCH_MODEL, else the built-in one.
func benchVocabulary(b *testing.B) *Vocabulary {
	b.Helper()
	path := os.Getenv("DANLU_BENCH_MODEL")
	if path == "" {
		return builtin(b)
	}
	tok, err := tokenizer.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	return VocabularyOf(tok, nil)
}

const person = `{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"type":"string"}},
 "address":{"type":"object","properties":{"street":{"type":"string"},"zip":{"type":"string","pattern":"^\\d{5}$"}},"required":["street","zip"]}},"required":["name","age","tags","address"]}`

var personText = "{\n  \"name\": \"Ada Lovelace, Countess\",\n  \"age\": 36,\n  \"tags\": [\"mathematics\", \"poetry\", \"analytical engine\"],\n  \"address\": {\n    \"street\": \"12 St James's Square, London\",\n    \"zip\": \"12345\"\n  }\n}"

// greedyTokens cuts a text into the longest tokens.
func greedyTokens(v *Vocabulary, text string) (ids []int32) {
	index := map[string]int32{}
	for id, s := range v.texts {
		index[s] = int32(id)
	}
	for len(text) > 0 {
		n := min(len(text), v.deep)
		for index[text[:n]] == 0 {
			n--
		}
		ids, text = append(ids, index[text[:n]]), text[n:]
	}
	return ids
}

// BenchmarkMask is the time per token of a reply: fresh, of a grammar that was just compiled; warm, of one that has been
// used.
func BenchmarkMask(b *testing.B) {
	v := benchVocabulary(b)
	compiled := func(b *testing.B) *Grammar {
		g, err := FromSchema([]byte(person), v)
		if err != nil {
			b.Fatal(err)
		}
		return g
	}
	ids := greedyTokens(v, personText)
	follow := func(b *testing.B, g *Grammar) {
		m := g.Matcher()
		for _, id := range ids {
			if _, _, err := m.Mask(); err != nil {
				b.Fatal(err)
			}
			if err := m.Accept(id); err != nil {
				b.Fatal(err)
			}
		}
	}
	perToken := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(ids)), "µs/token")
	}
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			g := compiled(b)
			b.StartTimer()
			follow(b, g)
		}
		perToken(b)
	})
	b.Run("warm", func(b *testing.B) {
		g := compiled(b)
		for b.Loop() {
			follow(b, g)
		}
		perToken(b)
	})
	b.Run("compile", func(b *testing.B) {
		for b.Loop() {
			compiled(b)
		}
	})
	b.Run("vocabulary", func(b *testing.B) {
		for b.Loop() {
			NewVocabulary(v.texts)
		}
	})
}

// BenchmarkMaskDeep nests ever deeper, so that each string stands at a place that was never seen.
func BenchmarkMaskDeep(b *testing.B) {
	v := benchVocabulary(b)
	rng := rand.New(rand.NewPCG(1, 1))
	ids := greedyTokens(v, `{"some key":`)
	n := 0
	for b.Loop() {
		b.StopTimer()
		g, err := FromJSON(v)
		if err != nil {
			b.Fatal(err)
		}
		m := g.Matcher()
		b.StartTimer()
		for range 20 + rng.IntN(2) {
			for _, id := range ids {
				if _, _, err := m.Mask(); err != nil {
					b.Fatal(err)
				}
				if err := m.Accept(id); err != nil {
					b.Fatal(err)
				}
				n++
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/token")
}
