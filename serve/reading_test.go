package serve

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"danlu/generate"
	"danlu/kernel"
)

func TestEmbeddings(t *testing.T) {
	opts := generate.Options{Context: 128, Sequences: 3, Chunk: 16}
	s, h := tinyServer(t, Options{}, opts)
	m := tinyModel(t, opts)
	type answer struct {
		Object, Model string
		Data          []struct {
			Index     int
			Embedding json.RawMessage
		}
		Usage struct {
			Prompt int `json:"prompt_tokens"`
		}
	}
	embed := func(more string) (vectors [][]float32, a answer) {
		t.Helper()
		status, text := post(t, h.URL+"/v1/embeddings", `{"model":"tiny",`+more+`}`)
		if err := json.Unmarshal([]byte(text), &a); status != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %s", more, status, text)
		}
		for _, x := range a.Data {
			var v []float32
			var coded string
			if json.Unmarshal(x.Embedding, &coded) == nil {
				b, err := base64.StdEncoding.DecodeString(coded)
				if err != nil {
					t.Fatal(err)
				}
				for ; len(b) > 0; b = b[4:] {
					v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(b)))
				}
			} else if err := json.Unmarshal(x.Embedding, &v); err != nil {
				t.Fatal(err)
			}
			vectors = append(vectors, v)
		}
		return vectors, a
	}
	text := strings.Repeat("a text of some length, 文本 ", 4)
	quoted, _ := json.Marshal(text)
	for pool, mean := range map[string]bool{"": true, `,"pooling":"mean"`: true, `,"pooling":"last"`: false} {
		got, a := embed(fmt.Sprintf(`"input":["other",%s]%s`, quoted, pool))
		want := pooled(t, m, text, mean)
		if len(got) != 2 || a.Object != "list" || a.Data[1].Index != 1 || a.Usage.Prompt <= len(text)/8 || !closeTo(got[1], want) {
			t.Errorf("%s: %d vectors, %+v", pool, len(got), a.Usage)
		}
		coded, _ := embed(fmt.Sprintf(`"input":%s,"encoding_format":"base64"%s`, quoted, pool))
		if !slices.Equal(coded[0], got[1]) {
			t.Errorf("%s: base64 differs from numbers", pool)
		}
		short, _ := embed(fmt.Sprintf(`"input":%s,"dimensions":5%s`, quoted, pool))
		norm := math.Sqrt(float64(kernel.Dot(want[:5], want[:5])))
		for i := range want[:5] {
			if len(short[0]) != 5 || math.Abs(float64(want[i])/norm-float64(short[0][i])) > 1e-5 {
				t.Fatalf("%s: of 5 dimensions: %v, want %v", pool, short[0], want[:5])
			}
		}
	}
	for more, param := range map[string]string{`"input":[]`: "input", `"input":""`: "input", `"x":1`: "input", `"input":"x","dimensions":99999`: "dimensions", `"input":"x","encoding_format":"int8"`: "encoding_format",
		`"input":"x","temperature":1`: "temperature", `"input":` + `"` + strings.Repeat("many words ", 200) + `"`: "input"} {
		status, text := post(t, h.URL+"/v1/embeddings", `{`+more+`}`)
		if e := parse(t, text).Error; status != http.StatusBadRequest || e == nil || e.Param == nil || *e.Param != param {
			t.Errorf("%.60s: %d %s", more, status, text)
		}
	}
	free(t, s)
}

// pooled reads a text by itself.
func pooled(t *testing.T, m *Model, text string, mean bool) []float32 {
	t.Helper()
	p, e := (&request{model: m}).texts("input", json.RawMessage(fmt.Sprintf("%q", text)))
	if e != nil {
		t.Fatal(e)
	}
	seq, err := m.Runner.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Runner.Close(seq)
	d := m.Runner.Info().HiddenSize
	var rows []float32
	seq.Watch(func(_ int, more []float32) { rows = append(rows, more...) })
	for len(seq.IDs) < len(p[0].ids) {
		if _, err := m.Runner.Run(context.Background(), []generate.Work{m.Runner.Next(seq, p[0].ids, m.Runner.Chunk())}); err != nil {
			t.Fatal(err)
		}
	}
	out := slices.Clone(rows[len(rows)-d:])
	if mean {
		clear(out)
		for i, x := range rows {
			out[i%d] += x * float32(d) / float32(len(rows))
		}
	}
	norm := math.Sqrt(float64(kernel.Dot(out, out)))
	for i := range out {
		out[i] = float32(float64(out[i]) / norm)
	}
	return out
}

func closeTo(a, b []float32) bool {
	for i := range a {
		if !(math.Abs(float64(a[i]-b[i])) < 1e-5) {
			return false
		}
	}
	return len(a) == len(b)
}

// The prompt is repeated with the probabilities that its tokens have when they are drawn.
func TestEcho(t *testing.T) {
	s, h := tinyServer(t, Options{}, generate.Options{Context: 256, Sequences: 2, Chunk: 20})
	type probs struct {
		Tokens  []string
		Values  []*float64           `json:"token_logprobs"`
		Top     []map[string]float64 `json:"top_logprobs"`
		Offsets []int                `json:"text_offset"`
	}
	type answer struct {
		Choices []struct {
			Text     string
			Logprobs *probs
			Prompt   []map[string]struct {
				Logprob float64
				Rank    int
			} `json:"prompt_logprobs"`
		}
		Usage usage
	}
	get := func(body string) answer {
		t.Helper()
		status, text := post(t, h.URL+"/v1/completions", body)
		var a answer
		if err := json.Unmarshal([]byte(text), &a); status != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %s", body, status, text)
		}
		return a
	}
	prompt := strings.Repeat("go on and on, again; ", 6)
	quoted, _ := json.Marshal(prompt)
	wrote := get(fmt.Sprintf(`{"prompt":%s,"max_tokens":9,"temperature":0,"logprobs":2,"ignore_eos":true}`, quoted)).Choices[0]
	ids := slices.Concat(s.models[0].Tokenizer.Encode(prompt, promptOptions), nil)
	all := get(fmt.Sprintf(`{"prompt":%s,"max_tokens":9,"temperature":0,"logprobs":2,"ignore_eos":true,"echo":true,"prompt_logprobs":1}`, quoted)).Choices[0]
	p := all.Logprobs
	if all.Text != prompt+wrote.Text || len(p.Tokens) != len(ids)+9 || len(p.Values) != len(p.Tokens) || len(p.Top) != len(p.Tokens) || p.Values[0] != nil || strings.Join(p.Tokens, "") != all.Text {
		t.Fatalf("%q with %d tokens, %d of the prompt; joined %q", all.Text, len(p.Tokens), len(ids), strings.Join(p.Tokens, ""))
	}
	for i, x := range wrote.Logprobs.Values {
		if y := p.Values[len(ids)+i]; *x != *y {
			t.Errorf("token %d: %v, with the prompt %v", i, *x, *y)
		}
	}
	for i := 1; i < len(p.Tokens); i++ {
		if p.Offsets[i] != p.Offsets[i-1]+len([]rune(p.Tokens[i-1])) || !(*p.Values[i] <= 0) || len(p.Top[i]) < 2 {
			t.Errorf("token %d: offset %d, %v, %v", i, p.Offsets[i], *p.Values[i], p.Top[i])
		}
	}
	for i, x := range all.Prompt {
		y, ok := x[fmt.Sprint(ids[i])]
		if i == 0 && x != nil || i > 0 && (!ok || y.Logprob != *p.Values[i] || y.Rank < 1 || len(x) > 2) {
			t.Errorf("prompt token %d: %v", i, x)
		}
	}
	// The same text as a prompt has the probabilities with which it was written.
	again, _ := json.Marshal(all.Text)
	read := get(fmt.Sprintf(`{"prompt":%s,"max_tokens":0,"logprobs":0,"echo":true,"stream":false}`, again))
	q := read.Choices[0].Logprobs
	if read.Usage.Completion != 0 || read.Choices[0].Text != all.Text {
		t.Errorf("%+v for %q", read.Usage, read.Choices[0].Text)
	}
	if slices.Equal(q.Tokens, p.Tokens) { // the text may be cut into other tokens when it is read
		for i := range q.Values {
			if i > 0 && *q.Values[i] != *p.Values[i] {
				t.Errorf("token %d: read %v, written %v", i, *q.Values[i], *p.Values[i])
			}
		}
	}
	texts, _, _ := streamed(t, h.URL+"/v1/completions", fmt.Sprintf(`{"prompt":%s,"max_tokens":9,"temperature":0,"logprobs":2,"ignore_eos":true,"echo":true,"stream":true}`, quoted))
	if texts[0] != all.Text {
		t.Errorf("streamed %q, whole %q", texts[0], all.Text)
	}
	free(t, s)
}
