package data

import (
	"strings"
	"testing"
)

func TestPreview(t *testing.T) {
	decode := func(ids []int32) string {
		var b strings.Builder
		for _, id := range ids {
			b.WriteRune(rune(id))
		}
		return b.String()
	}
	s := Sequence{IDs: []int32{'q', '\x1b', '中', 'a', '\n'}, Labels: []int32{Ignore, Ignore, '中', 'a', Ignore}}
	if got, want := Preview(s, decode, false), "q\ufffd»中a«\n\nids [113 27 20013 97 10]\n5 tokens, 2 scored (40.0%)"; got != want {
		t.Errorf("want %q, got %q", want, got)
	}
	if got := Preview(s, decode, true); !strings.Contains(got, "\x1b[32m中a\x1b[0m") {
		t.Errorf("got %q", got)
	}
	if got := Preview(Sequence{IDs: make([]int32, 100)}, decode, false); !strings.Contains(got, "36 more]") || !strings.Contains(got, "99 scored") {
		t.Errorf("got %q", got)
	}
}

func TestPieceReadsWhatSampleReads(t *testing.T) {
	store := textStore(t, 30)
	chat := build(t, BuildOptions{Datasets: []*Attr{chatFile(t, t.TempDir(), "a.jsonl", 9)}, Encoder: chatEncoder()})
	for _, s := range []*Store{store, chat} {
		for i := range s.Len() {
			x, err := s.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			n := len(x.Sequences[0].IDs)
			for start := 0; start < n; start += 3 {
				take := min(4, n-start)
				q, err := s.Piece(i, start, take)
				if err != nil {
					t.Fatal(err)
				}
				for k := range take {
					if q.IDs[k] != x.Sequences[0].IDs[start+k] || x.Sequences[0].Labels != nil && q.Labels[k] != x.Sequences[0].Labels[start+k] {
						t.Fatalf("sample %d from %d: got %+v", i, start, q)
					}
				}
			}
			if _, err := s.Piece(i, n, 1); err == nil {
				t.Errorf("sample %d: a piece behind its end was read", i)
			}
		}
	}
}

func BenchmarkLoaderWrapped(b *testing.B) {
	store := textStore(b, 5000)
	l, err := NewLoader(&Set{Store: store}, LoaderOptions{Packing: PackWrap, CutoffLen: 512, BatchSize: 8, Shuffle: true, FixedShape: true})
	if err != nil {
		b.Fatal(err)
	}
	tokens := int64(0)
	for b.Loop() {
		step, err := l.Next()
		if err != nil {
			b.Fatal(err)
		}
		tokens += step.Tokens
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
}
