package serve

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"danlu/generate"
)

// What the cache holds of earlier prompts changes no answer, is told in the usage and shared by the replies of a request.
func TestPrefixCache(t *testing.T) {
	opts := generate.Options{Context: 512, Sequences: 8, PageLen: 16}
	_, h := tinyServer(t, Options{}, opts)
	_, other := tinyServer(t, Options{}, opts)
	long := strings.Repeat("a long beginning, 一个很长的开头; ", 6)
	var first string
	for i, c := range []struct {
		more   string
		cached bool
	}{{``, false}, {``, true}, {`,"cache_prompt":false`, false}, {`,"cache_salt":"mine"`, false}, {`,"cache_salt":"mine"`, true}, {``, true}} {
		g := ask(t, h.URL+"/v1/chat/completions", chatBody(long+"first", `,"max_tokens":20,"temperature":0`+c.more))
		if i == 0 {
			first = g.Choices[0].Message.Content
		}
		if n := g.Usage.PromptDetails.Cached; (n > 0) != c.cached || n >= g.Usage.Prompt || n%16 != 0 || g.Choices[0].Message.Content != first {
			t.Errorf("%d%s: %d of %d tokens cached, %q after %q", i, c.more, n, g.Usage.Prompt, g.Choices[0].Message.Content, first)
		}
	}
	more := `,"max_tokens":9,"n":4,"seed":5`
	got, want := ask(t, h.URL+"/v1/chat/completions", chatBody(long+"second", more)), ask(t, other.URL+"/v1/chat/completions", chatBody(long+"second", more+`,"cache_prompt":false`))
	for i := range got.Choices {
		if got.Choices[i].Message.Content != want.Choices[i].Message.Content {
			t.Errorf("reply %d: %q, without a cache %q", i, got.Choices[i].Message.Content, want.Choices[i].Message.Content)
		}
	}
	text := metricsOf(t, h.URL)
	asked, hits := metric(t, text, "prefix_cache_queries_total"), metric(t, text, "prefix_cache_hits_total")
	p := float64(got.Usage.Prompt)
	if asked < 9*p-50 || asked > 9*p || hits < 6*(p-40) || hits > asked {
		t.Errorf("%v tokens were looked up, %v found, prompts have %v", asked, hits, p)
	}
}

func metricsOf(t testing.TB, url string) string {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// metric is the value of a series without further labels.
func metric(t testing.TB, text, name string) float64 {
	t.Helper()
	_, rest, _ := strings.Cut(text, "\ndanlu:"+name+`{model_name="tiny"} `)
	line, _, _ := strings.Cut(rest, "\n")
	x, err := strconv.ParseFloat(line, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return x
}
