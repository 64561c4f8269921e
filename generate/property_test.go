package generate

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/tensor"
)

// The properties that must hold of every family: what comes later, what else is in the row or the batch, and in which
// order, changes no logit.

// document is a text as a family lays it out.
type document struct {
	ids       []int32
	positions [][]int32
	prefix    int
}

// subject is a model on the engine, without a cache.
type subject struct {
	t      *testing.T
	model  family.Model
	eng    engine.Engine
	store  engine.Store
	rng    *rand.Rand
	texts  []document // of one length
	vocab  int
	shared int // first tokens that all texts begin with
}

// newSubject takes texts of a case: its greedy path, and variations of the part that the model wrote.
func newSubject(t *testing.T, dir string) *subject {
	t.Helper()
	m, src, prompt := goldenModel(t, dir)
	r := runnerOf(t, m, src, Options{Context: 64, Store: dtype.F32})
	s := &subject{t: t, model: m, eng: r.engine, store: r.store, rng: rand.New(rand.NewPCG(7, uint64(len(dir)))), vocab: m.Info().VocabSize}
	var golden struct {
		Greedy *struct {
			New []int32 `json:"new_ids"`
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err == nil {
		err = json.Unmarshal(data, &golden)
	}
	if err != nil {
		t.Fatal(err)
	}
	tail := []int32{9, 8, 7, 6, 5, 4, 3, 9}
	if golden.Greedy != nil {
		tail = golden.Greedy.New[:12]
	}
	s.shared = len(prompt)
	for i := range 3 {
		ids := slices.Concat(prompt, tail)
		for at := s.shared; i > 0 && at < len(ids); at++ {
			ids[at] = s.token()
		}
		s.texts = append(s.texts, s.laidOut(ids))
	}
	return s
}

// token draws a word: no token with a meaning of its own, of which the smallest ids and the largest are.
func (s *subject) token() int32 {
	for {
		id := 10 + s.rng.Int32N(int32(s.vocab)/2)
		v, sees := s.model.(family.Viewer)
		if !sees || !family.IsPicture(v, id) {
			return id
		}
	}
}

func (s *subject) laidOut(ids []int32) document {
	d := document{ids: ids}
	if l, ok := s.model.(family.Layouter); ok {
		d.positions, d.prefix = l.Layout(ids)
		return d
	}
	row := make([]int32, len(ids))
	for i := range row {
		row[i] = int32(i)
	}
	d.positions = [][]int32{row}
	return d
}

// place is a document in a row of a batch.
type place struct {
	row, at, segment int
	document
}

// logits runs a batch of b rows of t tokens, of which the places hold documents, and returns each one's [n][V].
func (s *subject) logits(b, t int, places []place) [][]float32 {
	s.t.Helper()
	p := s.model.Info().PositionRows
	ids, segments, positions, prefix := make([]int32, b*t), make([]int32, b*t), make([]int32, p*b*t), make([]int32, b)
	for i := range segments {
		segments[i] = -1
		ids[i] = s.token()
	}
	for _, x := range places {
		from := x.row*t + x.at
		copy(ids[from:], x.ids)
		for i := range x.ids {
			segments[from+i] = int32(x.segment)
			for k := range p {
				positions[(k*b+x.row)*t+x.at+i] = x.positions[min(k, len(x.positions)-1)][i]
			}
		}
		if x.prefix > 0 {
			prefix[x.row] = int32(x.at + x.prefix)
		}
	}
	g, err := graph.Build(func(g *graph.Graph) {
		build := nn.Inputs(g, nn.Float32, p, b, t)
		if family.Prefixed(s.model) {
			build.Mask.Prefix = g.Input("prefix", graph.Of(dtype.I32, b))
		}
		g.Output("logits", build.Logits(s.model.Hidden(build), s.model.Head(build)))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	program, err := s.eng.Compile(g, s.store, engine.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer program.Close()
	out, err := program.Run(context.Background(), engine.Tensors{"ids": tensor.FromI32(ids, b, t), "segments": tensor.FromI32(segments, b, t),
		"positions": tensor.FromI32(positions, p, b, t), "prefix": tensor.FromI32(prefix, b)})
	if err != nil {
		s.t.Fatal(err)
	}
	flat := out["logits"].F32()
	v := len(flat) / (b * t)
	var list [][]float32
	for _, x := range places {
		from := x.row*t + x.at
		list = append(list, slices.Clone(flat[from*v:(from+len(x.ids))*v]))
	}
	return list
}

// alone is a document in a row of its own.
func (s *subject) alone(d document) []float32 {
	return s.logits(1, len(d.ids), []place{{document: d}})[0]
}

// apart is the largest difference of first n rows of logits, as a share of the largest.
func (s *subject) apart(got, want []float32, n int) float64 {
	v := len(want) / len(s.texts[0].ids)
	worst, largest := 0.0, 0.0
	for i := range n * v {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if d != d {
			return d
		}
		worst, largest = max(worst, d), max(largest, math.Abs(float64(want[i])))
	}
	return worst / largest
}

// rounding is how far sums in another order may be apart.
const rounding = 2e-6

func (s *subject) hold(what string, got, want []float32, n int) {
	s.t.Helper()
	if e := s.apart(got, want, n); !(e <= rounding) {
		s.t.Errorf("%s: logits are %.2g apart", what, e)
	}
}

// leaksNothing changes each later token in turn.
func (s *subject) leaksNothing() {
	d := s.texts[0]
	want := s.alone(d)
	n := len(d.ids)
	for at := max(d.prefix, s.shared, 1); at < n; at++ {
		changed := d
		changed.ids = slices.Clone(d.ids)
		for changed.ids[at] == d.ids[at] {
			changed.ids[at] = s.token()
		}
		got := s.alone(changed)
		s.hold(fmt.Sprintf("token %d of %d changed", at, n), got, want, at)
		if v := len(want) / n; slices.Equal(got[at*v:], want[at*v:]) {
			s.t.Errorf("token %d of %d changes nothing", at, n)
		}
	}
	if d.prefix > 1 { // the prefix sees itself both ways
		changed := d
		changed.ids = slices.Clone(d.ids)
		changed.ids[d.prefix-2]++
		if got := s.alone(changed); s.apart(got, want, 1) == 0 {
			s.t.Error("the first token does not see the prefix")
		}
	}
}

// standsAnywhere pads on both sides.
func (s *subject) standsAnywhere() {
	n := len(s.texts[0].ids)
	var places []place
	for i, d := range s.texts {
		places = append(places, place{row: i, at: 3 * i, document: d})
	}
	for i, got := range s.logits(len(places), n+7, places) {
		s.hold(fmt.Sprintf("text %d behind %d and before %d tokens of padding", i, 3*i, 7-3*i), got, s.alone(s.texts[i]), n)
	}
}

// inAnyOrder turns the rows of a batch around.
func (s *subject) inAnyOrder() {
	n, last := len(s.texts[0].ids), len(s.texts)-1
	var forth, back []place
	for i, d := range s.texts {
		forth, back = append(forth, place{row: i, document: d}), append(back, place{row: last - i, document: d})
	}
	a, b := s.logits(last+1, n, forth), s.logits(last+1, n, back)
	for i := range a {
		s.hold(fmt.Sprintf("text %d in row %d and %d", i, i, last-i), a[i], b[i], n)
	}
}

// packed puts texts behind each other in a row. A prefix is one of a row, so that there is no packing with it.
func (s *subject) packed() {
	if s.texts[0].prefix > 0 {
		return
	}
	n := len(s.texts[0].ids)
	var places []place
	for i, d := range s.texts {
		places = append(places, place{at: i * n, segment: i, document: d})
	}
	for i, got := range s.logits(1, n*len(places)+2, places) {
		s.hold(fmt.Sprintf("text %d of a packed row", i), got, s.alone(s.texts[i]), n)
	}
}

// cached reads the texts through the cache, in passes of different sizes with other sequences between.
func (s *subject) cached(r *Runner) {
	n := len(s.texts[0].ids)
	var seqs []*Sequence
	read := make([][]float32, len(s.texts))
	for range s.texts {
		seq, err := r.Open()
		if err != nil {
			s.t.Fatal(err)
		}
		seqs = append(seqs, seq)
	}
	for round := 0; ; round++ {
		var work []Work
		var of []int
		for i, d := range s.texts {
			size := 1 + (round+i)%4
			if len(seqs[i].IDs) == 0 {
				size = max(size, d.prefix)
			}
			size = min(size, n-len(seqs[i].IDs))
			if size == 0 {
				continue
			}
			from := len(seqs[i].IDs)
			w := Work{Sequence: seqs[i], IDs: d.ids[from : from+size], Total: n, Logits: size}
			for _, row := range d.positions {
				w.Positions = append(w.Positions, row[from:from+size])
			}
			seqs[i].Prefix = d.prefix
			work = append(work, w)
			for range size {
				of = append(of, i)
			}
		}
		if len(work) == 0 {
			break
		}
		rows, err := r.Run(context.Background(), work)
		if err != nil {
			s.t.Fatal(err)
		}
		for k, row := range rows {
			read[of[k]] = append(read[of[k]], row...)
		}
	}
	for i, d := range s.texts {
		r.Close(seqs[i])
		if e := s.apart(read[i], s.alone(d), n); !(e <= 2e-5) {
			s.t.Errorf("text %d through the cache: logits are %.2g apart", i, e)
		}
	}
}

func TestGoldenProperties(t *testing.T) {
	dir := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "golden.json")); err != nil {
			continue
		}
		cases++
		t.Run(e.Name(), func(t *testing.T) {
			s := newSubject(t, filepath.Join(dir, e.Name()))
			s.leaksNothing()
			s.standsAnywhere()
			s.inAnyOrder()
			s.packed()
			m, src, _ := goldenModel(t, filepath.Join(dir, e.Name()))
			room := len(s.texts) * len(s.texts[0].ids)
			s.cached(runnerOf(t, m, src, Options{Context: room, Sequences: len(s.texts), PageLen: 4, Store: dtype.F32, Chunk: room}))
		})
	}
	numtest.Count(t, "properties", cases)
}
