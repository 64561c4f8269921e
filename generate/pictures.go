package generate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/vision"
)

// Eyes run a model's vision tower. They are not safe for concurrent use, nor beside a pass of a Runner on the same store.
type Eyes struct {
	viewer    family.Viewer
	processor family.Processor
	hidden    int
	opts      Options
	engine    engine.Engine
	store     engine.Store
	program   engine.Program // for pictures of as many patches as the last
	patches   int
}

// NewEyes reads the image processor of a model folder, for a store that holds the model's weights. Of the options, those
// of a Runner on the same store, Policy, Storage and Prepare count.
func NewEyes(eng engine.Engine, store engine.Store, model family.Model, dir string, opts Options) (*Eyes, error) {
	viewer, ok := model.(family.Viewer)
	if !ok {
		return nil, fmt.Errorf("generate: the %s model reads no pictures", model.Info().Family)
	}
	p, err := viewer.Processor(dir)
	if err != nil {
		return nil, err
	}
	opts.defaults(model)
	return &Eyes{viewer: viewer, processor: p, hidden: model.Info().HiddenSize, opts: opts, engine: eng, store: store}, nil
}

// Eyes are those of the runner's model, whose folder is dir.
func (r *Runner) Eyes(dir string) (*Eyes, error) {
	return NewEyes(r.engine, r.store, r.model, dir, r.opts)
}

// Seen is a picture or video as the vision tower sees it.
type Seen struct {
	Media    vision.Media
	Features [][]float32 // [N][D], a row for each token that it takes
	key      [sha256.Size]byte
}

// Picture looks at a picture.
func (e *Eyes) Picture(ctx context.Context, img *vision.RGB) (*Seen, error) {
	p, err := e.processor.Image(img)
	if err != nil {
		return nil, err
	}
	return e.look(ctx, vision.Media{Grid: p.Grid}, p.Values)
}

// Video looks at a video.
func (e *Eyes) Video(ctx context.Context, v *vision.Video) (*Seen, error) {
	p, err := e.processor.Video(v.Frames)
	if err != nil {
		return nil, err
	}
	return e.look(ctx, vision.Media{Grid: p.Grid, SecondPerGrid: float64(e.processor.FramesPerGrid()) / v.FPS}, p.Values)
}

// look runs the tower.
func (e *Eyes) look(ctx context.Context, media vision.Media, pixels []float32) (*Seen, error) {
	in, err := e.viewer.TowerInputs([]vision.Media{media}, pixels)
	if err != nil {
		return nil, err
	}
	if err := e.compile(in["patches"].Shape[0]); err != nil {
		return nil, err
	}
	out, err := e.program.Run(ctx, engine.Tensors(in))
	if err != nil {
		return nil, err
	}
	features := slices.Clone(out["features"].F32())
	return &Seen{media, slices.Collect(slices.Chunk(features, e.hidden)), keyOf(media, pixels)}, nil
}

// compile makes the tower's program for pictures of so many patches.
func (e *Eyes) compile(patches int) error {
	if e.program != nil && e.patches == patches {
		return nil
	}
	if err := e.Close(); err != nil {
		return err
	}
	g, err := graph.Build(func(g *graph.Graph) {
		b := &nn.Build{G: g, Policy: e.opts.Policy, Storage: e.opts.Storage}
		e.opts.prepare(b)
		values, merged := e.viewer.PatchShape()
		b.Images = nn.ImageInputs(g, patches, values, merged, 1)
		g.Output("features", graph.Convert(e.viewer.Features(b), dtype.F32))
	})
	if err != nil {
		return err
	}
	e.program, err = e.engine.Compile(g, e.store, engine.Options{})
	e.patches = patches
	return err
}

// Close frees the tower's program.
func (e *Eyes) Close() error {
	if e.program == nil {
		return nil
	}
	err := e.program.Close()
	e.program = nil
	return err
}

// keyOf tells pictures apart by what the tower sees of them.
func keyOf(media vision.Media, pixels []float32) (key [sha256.Size]byte) {
	h := sha256.New()
	g := media.Grid
	_ = binary.Write(h, binary.LittleEndian, []int64{int64(g.T), int64(g.H), int64(g.W)}) // a hash takes everything
	_ = binary.Write(h, binary.LittleEndian, media.SecondPerGrid)
	_ = binary.Write(h, binary.LittleEndian, pixels)
	h.Sum(key[:0])
	return key
}

// Pictures say what the picture tokens among the first tokens of a text stand for.
type Pictures struct {
	seen      []*Seen
	positions [][]int32 // of the text's tokens, in rows
	next      int32     // the position behind them
	owner     []int     // of the text's tokens: place in seen, -1 for words
	row       []int     // feature of the owner
}

// Lay lays pictures and videos out in a text that holds a placeholder for each, in order: the ids, longer by their
// tokens, and what these stand for.
func (e *Eyes) Lay(ids []int32, pictures, videos []*Seen) ([]int32, *Pictures, error) {
	p := &Pictures{}
	var err error
	if p.seen, err = e.ordered(ids, pictures, videos); err != nil {
		return nil, nil, err
	}
	var media []vision.Media
	for _, s := range p.seen {
		media = append(media, s.Media)
	}
	text, err := family.Expand(e.viewer, ids, media)
	if err != nil {
		return nil, nil, err
	}
	if p.positions, err = e.viewer.PicturePositions(text, media); err != nil {
		return nil, nil, err
	}
	for _, row := range p.positions {
		p.next = max(p.next, slices.Max(append(row, -1))+1)
	}
	owner, row := -1, 0
	for _, id := range text {
		if !family.IsPicture(e.viewer, id) {
			p.owner, p.row = append(p.owner, -1), append(p.row, 0)
			continue
		}
		if owner < 0 || row == len(p.seen[owner].Features) {
			owner, row = owner+1, 0
		}
		p.owner, p.row = append(p.owner, owner), append(p.row, row)
		row++
	}
	return text, p, nil
}

// ordered lists pictures and videos in the order of their placeholders.
func (e *Eyes) ordered(ids []int32, pictures, videos []*Seen) (list []*Seen, err error) {
	picture, video := e.viewer.Placeholders()
	places := [2]int{}
	given := [2][]*Seen{pictures, videos}
	for _, id := range ids {
		kind := 0
		switch {
		case id == picture:
		case id == video && video != -1:
			kind = 1
		default:
			continue
		}
		if n := places[kind]; n < len(given[kind]) {
			list = append(list, given[kind][n])
		}
		places[kind]++
	}
	if places != [2]int{len(pictures), len(videos)} {
		return nil, fmt.Errorf("generate: the text has places for %d pictures and %d videos, %d and %d are given", places[0], places[1], len(pictures), len(videos))
	}
	return list, nil
}

// place numbers the tokens [from, to) of a text in rows, and gives those of pictures their features. Tokens behind the
// text that was laid out count up.
func (p *Pictures) place(w *Work, from, to int) {
	n := len(p.owner)
	w.Features = make([][]float32, to-from)
	for i := from; i < min(to, n); i++ {
		if k := p.owner[i]; k >= 0 {
			w.Features[i-from] = p.seen[k].Features[p.row[i]]
		}
	}
	for _, known := range p.positions {
		row := make([]int32, to-from)
		for i := range row {
			if row[i] = p.next + int32(from+i-n); from+i < n {
				row[i] = known[from+i]
			}
		}
		w.Positions = append(w.Positions, row)
	}
}

// same reports whether token i of two texts stands for the same part of the same picture, or for none in both.
func same(a, b *Pictures, i int) bool {
	x, y := a.at(i), b.at(i)
	return x == nil && y == nil || x != nil && y != nil && x.key == y.key && a.row[i] == b.row[i]
}

// at is what token i stands for a part of; nil: a word.
func (p *Pictures) at(i int) *Seen {
	if p == nil || i >= len(p.owner) || p.owner[i] < 0 {
		return nil
	}
	return p.seen[p.owner[i]]
}

// Covers reports whether token i of the text stands for a part of a picture or video.
func (p *Pictures) Covers(i int) bool { return p.at(i) != nil }

// Shared is the number of first tokens that a text has in common with what a sequence holds, at most len(ids)-1: a pass
// has to read the last one. pictures, which may be nil, are the text's.
func (s *Sequence) Shared(ids []int32, pictures *Pictures) int {
	if s.Prefix > 0 { // first tokens that see each other both ways are read together
		return 0
	}
	n := 0
	for n < len(s.IDs) && n < len(ids)-1 && s.IDs[n] == ids[n] && same(s.Pictures, pictures, n) {
		n++
	}
	return n
}
