package nearest

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"kitten", "sitting", 3}, {"", "abc", 3}, {"丹炉", "丹", 1}, {"flaw", "lawn", 2}} {
		if got := Distance(c.a, c.b); got != c.want || Distance(c.b, c.a) != c.want {
			t.Errorf("%q %q: want %d, got %d and %d", c.a, c.b, c.want, got, Distance(c.b, c.a))
		}
	}
}

func TestOf(t *testing.T) {
	known := []string{"doc_to_text", "doc_to_target", "metric_list"}
	if got := Of("doc_to_txt", known); got != "doc_to_text" {
		t.Errorf("got %q", got)
	}
	if got := Of("zzz", known); got != "" {
		t.Errorf("got %q", got)
	}
}
