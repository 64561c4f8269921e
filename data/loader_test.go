package data

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// byteTokenizer maps each byte to id+10.
type byteTokenizer struct{}

func (byteTokenizer) Encode(text string) []int32 {
	ids := make([]int32, len(text))
	for i := range text {
		ids[i] = int32(text[i]) + 10
	}
	return ids
}

// byteTemplate renders each round as 1 question 2, answer 3.
type byteTemplate struct{}

func (byteTemplate) EncodePairs(system, tools string, turns []Turn) ([]Pair, error) {
	var pairs []Pair
	for i := 0; i+1 < len(turns); i += 2 {
		source := []int32{1}
		if i == 0 {
			source = append(source, byteTokenizer{}.Encode(system+tools)...)
		}
		source = append(append(source, byteTokenizer{}.Encode(turns[i].Content)...), 2)
		pairs = append(pairs, Pair{source, append(byteTokenizer{}.Encode(turns[i+1].Content), 3)})
	}
	return pairs, nil
}

func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// textStore builds a store of n documents of different lengths; document k is k repeated.
func textStore(t testing.TB, n int) *Store {
	t.Helper()
	var b strings.Builder
	for k := range n {
		fmt.Fprintf(&b, "{\"text\": %q}\n", strings.Repeat(string(rune('a'+k%26)), 1+(k*7)%23))
	}
	path := writeFile(t, t.TempDir(), "docs.jsonl", b.String())
	a, err := Detect(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Build(context.Background(), BuildOptions{Datasets: []*Attr{a}, Encoder: &TextEncoder{Tokenizer: byteTokenizer{}, BOS: 1, EOS: 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestResumeGivesTheSameBatches(t *testing.T) {
	store := textStore(t, 57)
	glm := &Infiller{Tokens: GLMTokens{Mask: 300, GMask: 301, SMask: 302, SOP: 303, EOP: 304, EOS: 2}}
	for _, opt := range []LoaderOptions{
		{Packing: PackNone, CutoffLen: 32, BatchSize: 3, Accumulation: 2, Shuffle: true},
		{Packing: PackFit, CutoffLen: 32, BatchSize: 2, Shuffle: true, FixedShape: true},
		{Packing: PackWrap, CutoffLen: 16, BatchSize: 4, Accumulation: 2, Shuffle: true, FixedShape: true},
		{Packing: PackWrap, CutoffLen: 7, BatchSize: 1},
		{Infill: glm, CutoffLen: 32, BatchSize: 3, Shuffle: true},
	} {
		opt.Seed = 42
		name := fmt.Sprintf("%s infill %v", opt.Packing, opt.Infill != nil)
		whole, err := NewLoader(&Set{Store: store}, opt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		steps := 3*int(whole.StepsPerEpoch()) + 1
		for k := 0; k < steps; k++ {
			raw, err := json.Marshal(whole.State())
			if err != nil {
				t.Fatal(err)
			}
			want, err := whole.Next()
			if err != nil {
				t.Fatal(err)
			}
			if k%3 != 1 {
				continue
			}
			resumed, err := NewLoader(&Set{Store: store}, opt)
			if err != nil {
				t.Fatal(err)
			}
			var state State
			if err := json.Unmarshal(raw, &state); err != nil {
				t.Fatal(err)
			}
			if err := resumed.Restore(state); err != nil {
				t.Fatal(err)
			}
			got, err := resumed.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s step %d: resumed step differs", name, k)
			}
			if resumed.State() != whole.State() {
				t.Fatalf("%s step %d: states differ: %+v %+v", name, k, resumed.State(), whole.State())
			}
		}
		other := opt
		other.Seed++
		changed, err := NewLoader(&Set{Store: store}, other)
		if err != nil {
			t.Fatal(err)
		}
		if err := changed.Restore(whole.State()); err == nil {
			t.Errorf("%s: another seed was accepted on resume", name)
		}
	}
}

// collectEpoch returns, by sample, how many tokens of each epoch's rows hold it, and checks isolation and targets.
func checkEpoch(t *testing.T, l *Loader, store *Store) {
	t.Helper()
	seen := map[int64][]int32{}
	for {
		step, err := l.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range step.Batches {
			scored := 0
			for row := range b.B {
				base := row * b.T
				for i := range b.T {
					seg := b.Segments[base+i]
					if seg == NoSegment {
						if b.Targets[base+i] != Ignore || b.Labels[base+i] != Ignore {
							t.Fatal("padding is scored")
						}
						continue
					}
					first := i == 0 || b.Segments[base+i-1] != seg
					if first != (b.Positions[base+i] == 0) || !first && b.Positions[base+i] != b.Positions[base+i-1]+1 {
						t.Fatalf("row %d place %d: position %d", row, i, b.Positions[base+i])
					}
					inside := i+1 < b.T && b.Segments[base+i+1] == seg
					want := Ignore
					if inside {
						want = b.Labels[base+i+1]
					}
					if b.Targets[base+i] != want {
						t.Fatalf("row %d place %d: target %d, want %d: a document sees its neighbour", row, i, b.Targets[base+i], want)
					}
					if want != Ignore {
						scored++
					}
					k := b.Samples[row][seg]
					seen[k] = append(seen[k], b.IDs[base+i])
				}
			}
			if scored != b.Scored {
				t.Fatalf("scored: want %d, got %d", scored, b.Scored)
			}
		}
		if step.Last {
			break
		}
	}
	for k := range store.Len() {
		s, err := store.Sample(k)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Clone(seen[k])
		if !slices.Equal(got, s.Sequences[0].IDs) {
			// A document cut over rows comes in order within an epoch.
			t.Fatalf("sample %d: want %v, got %v", k, s.Sequences[0].IDs, got)
		}
	}
}

func TestEpochHoldsEveryTokenOnce(t *testing.T) {
	store := textStore(t, 83)
	for _, opt := range []LoaderOptions{
		{Packing: PackNone, CutoffLen: 32, BatchSize: 5, Accumulation: 3, Shuffle: true},
		{Packing: PackFit, CutoffLen: 29, BatchSize: 2, Shuffle: true, FixedShape: true},
		{Packing: PackWrap, CutoffLen: 16, BatchSize: 4, Accumulation: 2, Shuffle: true, FixedShape: true},
		{Packing: PackWrap, CutoffLen: 5, BatchSize: 3},
	} {
		l, err := NewLoader(&Set{Store: store}, opt)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			checkEpoch(t, l, store)
		}
		if l.Truncated() != 0 {
			t.Errorf("%s: %d truncated", opt.Packing, l.Truncated())
		}
		if l.Progress() != 2 {
			t.Errorf("%s: epochs: want 2, got %v", opt.Packing, l.Progress())
		}
	}
}

func TestRanksShareTheRows(t *testing.T) {
	store := textStore(t, 40)
	opt := LoaderOptions{Packing: PackNone, CutoffLen: 32, BatchSize: 2, Accumulation: 2, World: 1, Shuffle: true, Seed: 5}
	whole := opt
	whole.BatchSize = 6
	one, err := NewLoader(&Set{Store: store}, whole)
	if err != nil {
		t.Fatal(err)
	}
	var ranks []*Loader
	for r := range 3 {
		o := opt
		o.World, o.Rank = 3, r
		l, err := NewLoader(&Set{Store: store}, o)
		if err != nil {
			t.Fatal(err)
		}
		ranks = append(ranks, l)
	}
	for range 8 {
		want, err := one.Next()
		if err != nil {
			t.Fatal(err)
		}
		parts := make([]*Step, 3)
		var scored int64
		for r, l := range ranks {
			if parts[r], err = l.Next(); err != nil {
				t.Fatal(err)
			}
			scored += parts[r].Scored
		}
		var got [][]int64
		for m := range want.Batches {
			for _, p := range parts {
				got = append(got, p.Batches[m].Samples[:p.Batches[m].Rows]...)
			}
		}
		var rows [][]int64
		for _, b := range want.Batches {
			rows = append(rows, b.Samples[:b.Rows]...)
		}
		if !reflect.DeepEqual(got, rows) || scored != want.Scored {
			t.Fatalf("rows: want %v (%d scored), got %v (%d)", rows, want.Scored, got, scored)
		}
		if ranks[0].State() != ranks[2].State() || ranks[0].State() != one.State() {
			t.Fatalf("states differ: %+v %+v %+v", ranks[0].State(), ranks[2].State(), one.State())
		}
	}
}

func TestRestoreRefusesDamagedStates(t *testing.T) {
	store := textStore(t, 10)
	l, err := NewLoader(&Set{Store: store}, LoaderOptions{Packing: PackWrap, CutoffLen: 8, BatchSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	good := l.State()
	for _, change := range []func(*State){
		func(s *State) { s.Version = 9 },
		func(s *State) { s.Fingerprint = "x" },
		func(s *State) { s.Epoch = -1 },
		func(s *State) { s.Row = 1 << 40 },
		func(s *State) { s.Cursor.Ordinal = -1 },
		func(s *State) { s.Cursor.Offset = -1 },
	} {
		s := good
		change(&s)
		if err := l.Restore(s); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
	s := good
	s.Cursor.Offset = 1 << 20
	if err := l.Restore(s); err == nil {
		if _, err = l.Next(); err == nil {
			t.Error("an offset behind the sample was accepted")
		}
	}
}

func TestTruncationIsCounted(t *testing.T) {
	store := textStore(t, 50)
	long := int64(0)
	if err := store.Entries(func(_ int64, e Entry) {
		if e.Length > 12 {
			long++
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, packing := range []string{PackNone, PackFit} {
		l, err := NewLoader(&Set{Store: store}, LoaderOptions{Packing: packing, CutoffLen: 12, BatchSize: 4, FixedShape: true})
		if err != nil {
			t.Fatal(err)
		}
		if long == 0 || l.Truncated() != long {
			t.Errorf("%s: want %d, got %d", packing, long, l.Truncated())
		}
		for range l.StepsPerEpoch() {
			if _, err := l.Next(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
