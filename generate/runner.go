package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
)

// Options of a Runner. Zero values stand for the defaults in brackets.
type Options struct {
	Policy    nn.Policy   // [Float32]
	Context   int         // tokens that a sequence can grow to [the model's]
	Sequences int         // sequences that can be held at a time [1]
	Pages     int         // pages of the cache [enough for all sequences at full context]
	PageLen   int         // tokens of a page [64]
	Store     dtype.DType // of keys and values [F16]
	Chunk     int         // most tokens of one pass [512; the context where first tokens see each other]
	Storage   nn.Storage  // as the store keeps the weights [float32]
	// Prepare, if set, says what every build is to have besides: adapters.
	Prepare func(b *nn.Build)
	// Adapters is the number of adapters that Prepare puts in as banks, of which each sequence takes one or none.
	Adapters int
}

// Runner runs a model over a paged KV cache: many sequences, of which each pass extends some by some tokens.
// It is not safe for concurrent use.
type Runner struct {
	model  family.Model
	opts   Options
	body   engine.Program // tokens → hidden rows
	head   engine.Program // hidden rows → logits
	caches []string       // labels of the cache states
	engine engine.Engine
	store  engine.Store

	free    []int32 // pages that hold nothing
	sharing sharing
	slots   []bool // rows of the page table in use
	in      inputs
	rows    []float32 // hidden rows gathered for the head
	read    int64     // tokens of all passes
}

// inputs are the body's inputs, reused between passes.
type inputs struct {
	ids, lengths, positions, seqs, at, slots, pages []int32
	prefix                                          []int32 // nil for families without prefixes
	features                                        []float32
	pictured                                        []int32   // nil for families without pictures
	choice                                          []float32 // nil for models without banks of adapters
}

// Sequence is a text in the cache.
type Sequence struct {
	IDs   []int32 // tokens whose keys and values are in the cache
	pages []int32
	slot  int
	// Prefix is the number of first tokens that see each other both ways (GLM); 0 for plain causal models.
	Prefix int
	// Pictures say what picture tokens stand for; nil: there are none.
	Pictures *Pictures
	// watch, if set, is told of the final hidden rows [n][D] of the tokens from index from on that a pass read.
	watch func(from int, rows []float32)
	// Adapter is the one of Options.Adapters that the text takes, from 1 on; 0: none. It is set while the sequence is empty.
	Adapter int

	root   *page   // of the texts that it shares pages with; nil: it shares none
	shared []*page // its first pages, as far as others can use them
}

// Work extends a sequence by tokens in one pass.
type Work struct {
	Sequence *Sequence
	IDs      []int32
	// Positions [P][len(IDs)] of the tokens; nil: the tokens' indices in the sequence in every row.
	Positions [][]int32
	// Total is the length that the text will have when all its tokens are in, of which this pass may be a part:
	// length-dependent rotary scalings look at it. 0: the length after this pass.
	Total int
	// Features [len(IDs)][D] take the place of the embeddings of tokens where they are not nil (pictures); nil: none.
	Features [][]float32
	// Logits is the number of last tokens whose logits are wanted.
	Logits int
}

// NewRunner compiles the model's inference programs for a store that holds its weights.
func NewRunner(eng engine.Engine, store engine.Store, model family.Model, opts Options) (*Runner, error) {
	info := model.Info()
	opts.defaults(model)
	if opts.Context > info.MaxPosition && info.MaxPosition > 0 && opts.Context > 1<<24 {
		return nil, fmt.Errorf("generate: context: want at most %d, got %d", 1<<24, opts.Context)
	}
	perSeq := (opts.Context + opts.PageLen - 1) / opts.PageLen
	if opts.Pages == 0 {
		opts.Pages = perSeq * opts.Sequences
	}
	r := &Runner{model: model, opts: opts, engine: eng, store: store, slots: make([]bool, opts.Sequences)}
	spec := graph.CacheSpec{Pages: opts.Pages, PageLen: opts.PageLen, Store: opts.Store}
	body, err := graph.Build(func(g *graph.Graph) {
		b, err := nn.CachedInputs(g, opts.Policy, info.PositionRows, opts.Chunk, opts.Sequences, perSeq, spec)
		if err != nil {
			graph.Failf("%v", err)
		}
		b.Storage = opts.Storage
		opts.prepare(b)
		if opts.Adapters > 0 {
			t := graph.Of(dtype.F32, opts.Chunk, 1, opts.Adapters)
			t.Rows = true
			b.Adapters.Choice = g.Input("choice", t)
		}
		if _, ok := model.(family.Layouter); ok {
			b.Mask.Prefix = g.Input("prefix", graph.Of(dtype.I32, opts.Sequences))
		}
		if _, ok := model.(family.Viewer); ok {
			b.FeatureInputs(info.HiddenSize)
		}
		g.Output("hidden", graph.Convert(model.Hidden(b), dtype.F32))
	})
	if err != nil {
		return nil, err
	}
	r.sharing = newSharing(!dependsOnLength(body))
	for _, s := range body.States() {
		if spec := s.Node.Op.(graph.State); spec.Role == graph.CacheRole {
			r.caches = append(r.caches, spec.Label)
		}
	}
	head, err := graph.Build(func(g *graph.Graph) {
		t := graph.Of(dtype.F32, opts.headRows(), info.HiddenSize)
		t.Rows = true
		b := &nn.Build{G: g, Policy: opts.Policy, Storage: opts.Storage}
		opts.prepare(b)
		g.Output("logits", b.Logits(g.Input("rows", t), model.Head(b)))
	})
	if err != nil {
		return nil, err
	}
	if r.body, err = eng.Compile(body, store, engine.Options{}); err != nil {
		return nil, err
	}
	if r.head, err = eng.Compile(head, store, engine.Options{}); err != nil {
		r.body.Close()
		return nil, err
	}
	for p := opts.Pages - 1; p >= 0; p-- {
		r.free = append(r.free, int32(p))
	}
	n := opts.Chunk
	r.in = inputs{ids: make([]int32, n), lengths: make([]int32, n), positions: make([]int32, n*info.PositionRows), seqs: make([]int32, n),
		at: make([]int32, n), slots: make([]int32, n), pages: make([]int32, opts.Sequences*perSeq)}
	if _, ok := model.(family.Layouter); ok {
		r.in.prefix = make([]int32, opts.Sequences)
	}
	if _, ok := model.(family.Viewer); ok {
		r.in.features, r.in.pictured = make([]float32, n*info.HiddenSize), make([]int32, n)
	}
	if opts.Adapters > 0 {
		r.in.choice = make([]float32, n*opts.Adapters)
	}
	r.rows = make([]float32, opts.headRows()*info.HiddenSize)
	return r, nil
}

// mostHeadRows bounds the rows of logits that are held at a time, of which each has a number for every token.
const mostHeadRows = 128

// headRows is the number of rows that the head takes at a time.
func (o *Options) headRows() int { return min(o.Chunk, max(o.Sequences, mostHeadRows)) }

func (o *Options) prepare(b *nn.Build) {
	if o.Prepare != nil {
		o.Prepare(b)
	}
}

func (o *Options) defaults(model family.Model) {
	if o.Policy.Compute == dtype.Invalid {
		o.Policy = nn.Float32
	}
	if o.Context <= 0 {
		o.Context = model.Info().MaxPosition
	}
	if o.Sequences <= 0 {
		o.Sequences = 1
	}
	if o.PageLen <= 0 {
		o.PageLen = 64
	}
	if o.Store == dtype.Invalid {
		o.Store = dtype.F16
	}
	if o.Chunk <= 0 {
		if o.Chunk = 512; family.Prefixed(model) {
			o.Chunk = o.Context
		}
	}
	o.Chunk = max(1, min(o.Chunk, max(o.Context, o.Sequences)))
}

// dependsOnLength reports whether keys depend on the length that a text is to have.
func dependsOnLength(body *graph.Graph) bool {
	for n := range body.Live(nil, true) {
		if in, ok := n.Op.(graph.Input); ok && in.Label == "lengths" {
			return true
		}
	}
	return false
}

// Context is the number of tokens that a sequence can grow to.
func (r *Runner) Context() int { return r.opts.Context }

// Sequences is the number of sequences that can be held at a time.
func (r *Runner) Sequences() int { return r.opts.Sequences }

// Room is the number of tokens that the pages of the cache take which no sequence uses.
func (r *Runner) Room() int { return (len(r.free) + r.sharing.idle.Len()) * r.opts.PageLen }

// Capacity is the number of tokens that all pages of the cache take.
func (r *Runner) Capacity() int { return r.opts.Pages * r.opts.PageLen }

// Pages is the number of the cache's pages that so many tokens of one text take.
func (r *Runner) Pages(tokens int) int { return (tokens + r.opts.PageLen - 1) / r.opts.PageLen }

// Read is the number of tokens that went through the model.
func (r *Runner) Read() int64 { return r.read }

// Info is the model's.
func (r *Runner) Info() family.Info { return r.model.Info() }

// Chunk is the most tokens that one pass takes.
func (r *Runner) Chunk() int { return r.opts.Chunk }

// Free reports whether another sequence can be opened.
func (r *Runner) Free() bool { return slices.Contains(r.slots, false) }

// Watch has f told of the final hidden rows [n][D] of the tokens that later passes read, and of the first one's index.
func (s *Sequence) Watch(f func(from int, rows []float32)) { s.watch = f }

// Open starts an empty sequence.
func (r *Runner) Open() (*Sequence, error) {
	for i, used := range r.slots {
		if !used {
			r.slots[i] = true
			return &Sequence{slot: i}, nil
		}
	}
	return nil, fmt.Errorf("generate: all %d sequences are in use", len(r.slots))
}

// Close gives a sequence's pages back, those that it shares for others to adopt.
func (r *Runner) Close(s *Sequence) {
	r.Share(s)
	r.part(s)
	s.Adapter = 0
	r.Truncate(s, 0)
	r.slots[s.slot] = false
}

// Truncate forgets all but the first n tokens of a sequence, or the page's before n where others use the page that would
// have to be written again.
func (r *Runner) Truncate(s *Sequence, n int) {
	if n == 0 {
		s.Pictures = nil
	}
	keep := (n + r.opts.PageLen - 1) / r.opts.PageLen
	for len(s.pages) > keep {
		r.drop(s)
	}
	if n%r.opts.PageLen != 0 && !r.own(s) {
		r.drop(s)
		n -= n % r.opts.PageLen
	}
	s.IDs = s.IDs[:n]
}

// ErrCacheFull says that the pages of the cache are all held by sequences.
var ErrCacheFull = errors.New("the cache is full")

// Reserve gives a sequence the pages for n more tokens. Run does so itself; who asks before can make room.
func (r *Runner) Reserve(s *Sequence, n int) error {
	if total := len(s.IDs) + n; total > r.opts.Context {
		return fmt.Errorf("generate: %d tokens do not fit the context of %d", total, r.opts.Context)
	}
	for len(s.pages)*r.opts.PageLen < len(s.IDs)+n {
		p, ok := r.newPage()
		if !ok {
			return fmt.Errorf("generate: %w: %d pages", ErrCacheFull, r.opts.Pages)
		}
		s.pages = append(s.pages, p)
	}
	return nil
}

// Run extends sequences by their new tokens, at most Chunk in all, and returns the logits [V] that were asked for, in
// order. They hold until the next Run. On an error no sequence has grown.
func (r *Runner) Run(ctx context.Context, work []Work) ([][]float32, error) {
	n := 0
	for _, w := range work {
		n += len(w.IDs)
	}
	if n == 0 || n > r.opts.Chunk {
		return nil, fmt.Errorf("generate: a pass takes 1 to %d tokens, got %d", r.opts.Chunk, n)
	}
	for _, w := range work {
		if w.Features != nil {
			r.part(w.Sequence) // its tokens alone do not tell what it holds
		}
		if s := w.Sequence; len(s.IDs)+len(w.IDs) < s.Prefix {
			return nil, fmt.Errorf("generate: the first %d tokens see each other and want to be read in one pass, got %d; a pass takes %d", s.Prefix, len(w.IDs), r.opts.Chunk)
		}
		if err := r.Reserve(w.Sequence, len(w.IDs)); err != nil {
			return nil, err
		}
	}
	wanted := r.fill(work)
	out, err := r.body.Run(ctx, r.tensors(n))
	if err != nil {
		return nil, err
	}
	r.read += int64(n)
	hidden, d, row := out["hidden"].F32(), r.model.Info().HiddenSize, 0
	for _, w := range work {
		if w.Sequence.watch != nil {
			w.Sequence.watch(len(w.Sequence.IDs), hidden[row*d:(row+len(w.IDs))*d])
		}
		row += len(w.IDs)
		w.Sequence.IDs = append(w.Sequence.IDs, w.IDs...)
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	var logits [][]float32
	for group := range slices.Chunk(wanted, r.opts.headRows()) {
		for i, row := range group {
			copy(r.rows[i*d:(i+1)*d], hidden[row*d:(row+1)*d])
		}
		out, err := r.head.Run(ctx, engine.Tensors{"rows": tensor.FromF32(r.rows[:len(group)*d], len(group), d)})
		if err != nil {
			return nil, err
		}
		flat := out["logits"].F32()
		if len(group) < len(wanted) {
			flat = slices.Clone(flat) // the next group takes its place
		}
		logits = slices.AppendSeq(logits, slices.Chunk(flat, len(flat)/len(group)))
	}
	return logits, nil
}

// fill writes the inputs of a pass and returns the rows whose logits are wanted.
func (r *Runner) fill(work []Work) (wanted []int) {
	in, perSeq, rows := &r.in, len(r.in.pages)/len(r.slots), r.model.Info().PositionRows
	row := 0
	for _, w := range work {
		s := w.Sequence
		copy(in.pages[s.slot*perSeq:], s.pages)
		if in.prefix != nil {
			in.prefix[s.slot] = int32(s.Prefix)
		}
		total := max(w.Total, len(s.IDs)+len(w.IDs))
		for i, id := range w.IDs {
			at := len(s.IDs) + i
			if id < 0 { // a picture's, whose features take the place of an embedding
				id = 0
			}
			in.ids[row], in.lengths[row], in.seqs[row], in.at[row] = id, int32(total), int32(s.slot), int32(at)
			in.slots[row] = s.pages[at/r.opts.PageLen]*int32(r.opts.PageLen) + int32(at%r.opts.PageLen)
			for p := range rows {
				in.positions[row*rows+p] = int32(at)
				if w.Positions != nil {
					in.positions[row*rows+p] = w.Positions[p][i]
				}
			}
			if in.pictured != nil {
				in.pictured[row] = 0
				if w.Features != nil && w.Features[i] != nil {
					in.pictured[row] = 1
					copy(in.features[row*r.model.Info().HiddenSize:], w.Features[i])
				}
			}
			if in.choice != nil {
				row := in.choice[row*r.opts.Adapters : (row+1)*r.opts.Adapters]
				clear(row)
				if s.Adapter > 0 {
					row[s.Adapter-1] = 1
				}
			}
			if i >= len(w.IDs)-w.Logits {
				wanted = append(wanted, row)
			}
			row++
		}
	}
	return wanted
}

func (r *Runner) tensors(n int) engine.Tensors {
	in, rows := &r.in, r.model.Info().PositionRows
	t := engine.Tensors{
		"ids":       tensor.FromI32(in.ids[:n], n, 1),
		"lengths":   tensor.FromI32(in.lengths[:n], n, 1),
		"positions": tensor.FromI32(in.positions[:n*rows], n, 1, rows),
		"seqs":      tensor.FromI32(in.seqs[:n], n),
		"at":        tensor.FromI32(in.at[:n], n),
		"slots":     tensor.FromI32(in.slots[:n], n),
		"pages":     tensor.FromI32(in.pages, len(r.slots), len(in.pages)/len(r.slots)),
	}
	if in.prefix != nil {
		t["prefix"] = tensor.FromI32(in.prefix, len(in.prefix))
	}
	if in.choice != nil {
		t["choice"] = tensor.FromF32(in.choice[:n*r.opts.Adapters], n, 1, r.opts.Adapters)
	}
	if in.pictured != nil {
		d := r.model.Info().HiddenSize
		t["features"], t["pictured"] = tensor.FromF32(in.features[:n*d], n, 1, d), tensor.FromI32(in.pictured[:n], n, 1, 1)
	}
	return t
}

// Memory is what the programs take besides the store, in bytes.
func (r *Runner) Memory() int64 {
	sum := int64(0)
	for _, p := range []engine.Program{r.body, r.head} {
		m := p.Memory()
		sum += m.Activations + m.Scratch + m.Outputs
	}
	return sum
}

// Shut frees the programs and the cache.
func (r *Runner) Shut() error {
	err := r.body.Close()
	if e := r.head.Close(); err == nil {
		err = e
	}
	for _, label := range r.caches {
		if e := r.store.Free(label); err == nil {
			err = e
		}
	}
	return err
}
