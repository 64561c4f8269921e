package family

import (
	"context"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/nn"
)

// features computes the features of the tokens of a text, nil where they stand for no picture.
func (v *verification) features(ctx context.Context, x *batch) ([][]float32, error) {
	if x.images == nil {
		return nil, nil
	}
	g, err := graph.Build(func(g *graph.Graph) {
		b := &nn.Build{G: g, Policy: v.opts.Policy, Images: x.imageInputs(g)}
		g.Output("features", graph.Convert(v.model.(Viewer).Features(b), dtype.F32))
	})
	if err != nil {
		return nil, err
	}
	program, err := v.opts.Engine.Compile(g, v.store, engine.Options{})
	if err != nil {
		return nil, err
	}
	defer program.Close()
	out, err := program.Run(ctx, engine.Tensors(x.images))
	if err != nil {
		return nil, err
	}
	list, d := make([][]float32, len(x.ids)), v.model.Info().HiddenSize
	for i, at := range x.images["image_rows"].I32() {
		list[at] = slices.Clone(out["features"].F32()[i*d : (i+1)*d])
	}
	return list, nil
}

// cached checks generation with a KV cache, and that logits read through the cache are those of the forward pass.
func (v *verification) cached(ctx context.Context) error {
	path := v.golden.Greedy
	v.res.GreedyMatch = path == nil
	if v.opts.Cached == nil || path == nil {
		return nil
	}
	x, err := v.batch()
	if err != nil {
		return err
	}
	want := path.NewIDs
	if v.golden.GreedyCached != nil {
		want = v.golden.GreedyCached.NewIDs
	}
	m, err := v.opts.Cached(v.store, v.model, max(x.t, len(path.PromptIDs))+x.t+len(want)+1)
	if err != nil {
		return err
	}
	defer m.Close()
	if v.res.GreedyMatch, err = v.greedy(ctx, m, x, path.PromptIDs, want); err != nil {
		return err
	}
	if v.golden.GreedyCached != nil {
		return nil // keys in the cache keep the rotation of an earlier length: other logits by design
	}
	return v.cachedLogits(ctx, m, x)
}

// greedy continues a prompt and reports whether the tokens are the expected ones. A prompt with a picture has the
// reference batch's.
func (v *verification) greedy(ctx context.Context, m CachedModel, x *batch, prompt, want []int32) (bool, error) {
	text := slices.Clone(prompt)
	var features [][]float32
	if x.images != nil {
		var err error
		if text, features, err = v.pictured(ctx, x, prompt); err != nil {
			return false, err
		}
	}
	start := len(text)
	prefix := 0
	if layout, ok := v.model.(Layouter); ok {
		_, prefix = layout.Layout(text)
	}
	m.Reset(prefix)
	for done := 0; ; {
		part := Text{IDs: text[done:]}
		positions, err := v.positions(x, text)
		if err != nil {
			return false, err
		}
		for _, row := range positions {
			part.Positions = append(part.Positions, row[done:])
		}
		if done == 0 {
			part.Features = features
		}
		logits, err := m.Read(ctx, part)
		if err != nil {
			return false, err
		}
		done = len(text)
		n := len(text) - start
		if argmax(logits[len(logits)-1]) != want[n] {
			return false, nil
		}
		if n+1 == len(want) {
			return true, nil
		}
		text = append(text, want[n])
	}
}

// pictured lays the reference batch's pictures out in a prompt: the prompt's text and the features of its tokens.
func (v *verification) pictured(ctx context.Context, x *batch, prompt []int32) (text []int32, features [][]float32, err error) {
	viewer := v.model.(Viewer)
	if text, err = expanded(viewer, slices.Clone(prompt), x.media); err != nil {
		return nil, nil, err
	}
	known, err := v.features(ctx, x)
	if err != nil {
		return nil, nil, err
	}
	list := slices.DeleteFunc(known, func(f []float32) bool { return f == nil })
	features = make([][]float32, len(text))
	for i, id := range text {
		if IsPicture(viewer, id) && len(list) > 0 {
			features[i], list = list[0], list[1:]
		}
	}
	return text, features, nil
}

// positions numbers the tokens of a text that goes on from the reference prompt; nil: they count up.
func (v *verification) positions(x *batch, text []int32) (rows [][]int32, err error) {
	if x.images != nil {
		return v.model.(Viewer).PicturePositions(text, x.media)
	}
	if l, ok := v.model.(Layouter); ok {
		rows, _ = l.Layout(text)
	}
	return rows, nil
}

func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

// cachedLogits reads every row of the reference batch in passes of growing size.
func (v *verification) cachedLogits(ctx context.Context, m CachedModel, x *batch) error {
	want, err := v.file.Tensor("logits")
	if err != nil {
		return err
	}
	vocab := want.Shape[len(want.Shape)-1]
	features, err := v.features(ctx, x)
	if err != nil {
		return err
	}
	for row := range x.b {
		var ids []int32
		var places []int
		var pictures [][]float32
		positions := make([][]int32, x.rows)
		for i := row * x.t; i < (row+1)*x.t; i++ {
			if x.real[i] {
				ids, places = append(ids, x.ids[i]), append(places, i)
				if features != nil {
					pictures = append(pictures, features[i])
				}
				for p := range x.rows {
					positions[p] = append(positions[p], x.positions[p*x.b*x.t+i])
				}
			}
		}
		m.Reset(x.prefixOf(row))
		for at, size := 0, x.firstPass(row); at < len(ids); size = size%5 + 1 {
			end := min(at+size, len(ids))
			part := make([][]int32, x.rows)
			for p := range part {
				part[p] = positions[p][at:end]
			}
			text := Text{IDs: ids[at:end], Positions: part, Total: len(ids)}
			if pictures != nil {
				text.Features = pictures[at:end]
			}
			logits, err := m.Read(ctx, text)
			if err != nil {
				return err
			}
			for k, l := range logits {
				place := places[at+k]
				e := relErr(l, want.F32()[place*vocab:(place+1)*vocab], v.golden.MaxAbsLogit, nil, 1)
				v.res.CachedLogitsErr = worse(v.res.CachedLogitsErr, e)
			}
			at = end
		}
	}
	return nil
}

// prefixOf is the number of first tokens of a row that see each other both ways.
func (x *batch) prefixOf(row int) int {
	if x.prefix == nil {
		return 0
	}
	return int(x.prefix[row])
}

// firstPass is the size of a row's first pass: tokens that see each other both ways have to come together.
func (x *batch) firstPass(row int) int { return max(1, x.prefixOf(row)) }

// padded checks that padding on both sides leaves the logits of every row alone.
func (v *verification) padded(ctx context.Context) error {
	x, err := v.batch()
	if err != nil {
		return err
	}
	const left, right = 3, 2
	t := x.t + left + right
	y := &batch{b: x.b, t: t, rows: x.rows, ids: make([]int32, x.b*t), positions: make([]int32, x.rows*x.b*t), segments: make([]int32, x.b*t)}
	for i := range y.segments {
		y.segments[i] = -1
	}
	for _, p := range x.prefix {
		y.prefix = append(y.prefix, p+left)
	}
	for row := range x.b {
		copy(y.ids[row*t+left:], x.ids[row*x.t:(row+1)*x.t])
		copy(y.segments[row*t+left:], x.segments[row*x.t:(row+1)*x.t])
		for p := range x.rows {
			copy(y.positions[(p*x.b+row)*t+left:], x.positions[(p*x.b+row)*x.t:(p*x.b+row+1)*x.t])
		}
	}
	if x.images != nil {
		if y.images, err = ImageInputs(v.model.(Viewer), y.ids, x.media, x.pixels); err != nil {
			return err
		}
	}
	g, err := graph.Build(func(g *graph.Graph) {
		b := y.inputs(g, v.opts.Policy)
		g.Output("logits", b.Logits(v.model.Hidden(b), v.model.Head(b)))
	})
	if err != nil {
		return err
	}
	program, err := v.opts.Engine.Compile(g, v.store, engine.Options{})
	if err != nil {
		return err
	}
	defer program.Close()
	in := y.tensors0()
	out, err := program.Run(ctx, in)
	if err != nil {
		return err
	}
	want, err := v.file.Tensor("logits")
	if err != nil {
		return err
	}
	vocab := want.Shape[len(want.Shape)-1]
	got := out["logits"].F32()
	for row := range x.b {
		e := relErr(got[(row*t+left)*vocab:(row*t+left+x.t)*vocab], want.F32()[row*x.t*vocab:(row+1)*x.t*vocab], v.golden.MaxAbsLogit, x.real[row*x.t:(row+1)*x.t], vocab)
		v.res.PaddedLogitsErr = worse(v.res.PaddedLogitsErr, e)
	}
	return nil
}
