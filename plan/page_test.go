package plan

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestPage: the page holds the plan of every position of the sliders, and starts at the request.
func TestPage(t *testing.T) {
	q := Request{Model: "llama-3-8b", Task: LoRA, Context: 3000, Batch: 2, GPU: card(t, "4090"), Tokens: 1e8}
	var b strings.Builder
	if err := WritePage(&b, q); err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(b.String(), "const grid = ")
	if !found || strings.Contains(b.String(), "http") {
		t.Fatal("no grid, or something from outside")
	}
	var g grid
	if err := json.NewDecoder(strings.NewReader(rest)).Decode(&g); err != nil {
		t.Fatal(err)
	}
	if n := len(g.Context) * len(g.Batch) * len(g.Precision); len(g.Plans) != n || n == 0 {
		t.Fatalf("%d plans, want %d", len(g.Plans), n)
	}
	at := (g.Start[0]*len(g.Batch)+g.Start[1])*len(g.Precision) + g.Start[2]
	want, err := New(q)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Plans[at]; got.Context != 3000 || got.Batch != 2 || got.Precision != BF16 || got.Memory != want.Memory || got.Hours != want.Hours {
		t.Errorf("starts at %+v, want %+v", got, want)
	}
	for i, p := range g.Plans {
		if want := g.Precision[i%len(g.Precision)]; p.Precision != want {
			t.Fatalf("plan %d is of %s, want %s", i, p.Precision, want)
		}
	}
	if err := WritePage(&b, Request{Model: "7B", Task: Full, Precision: INT4, GPU: card(t, "4090")}); err == nil {
		t.Error("a bad request made a page")
	}
}
