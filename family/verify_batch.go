package family

import (
	"fmt"
	"maps"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
	"danlu/vision"
)

// batch is the reference data's inputs.
type batch struct {
	ids, positions, segments, targets []int32
	prefix                            []int32 // nil: causal
	b, t, rows                        int
	scored                            int
	real                              []bool                    // places that count
	images                            map[string]*tensor.Tensor // inputs of the vision tower; nil: none
	media                             []vision.Media
	pixels                            []float32
}

func (v *verification) batch() (*batch, error) {
	ids, err := v.ints("input_ids")
	if err != nil {
		return nil, err
	}
	x := &batch{ids: ids.I32(), b: ids.Shape[0], t: ids.Shape[1], rows: v.model.Info().PositionRows}
	if err := v.readImages(x); err != nil {
		return nil, err
	}
	n := x.b * x.t
	x.segments, x.real, x.targets = make([]int32, n), make([]bool, n), make([]int32, n)
	for i := range x.real {
		x.real[i] = true
	}
	if err := v.readMask(x); err != nil {
		return nil, err
	}
	if err := v.readPositions(x); err != nil {
		return nil, err
	}
	if v.has("targets") {
		return x, v.readTargets(x)
	}
	labels := x.ids
	if v.has("labels") {
		l, err := v.ints("labels")
		if err != nil {
			return nil, err
		}
		labels = l.I32()
	}
	for i := range x.targets {
		x.targets[i] = -100
		if i%x.t+1 < x.t && labels[i+1] >= 0 {
			x.targets[i] = labels[i+1]
			x.scored++
		}
	}
	return x, nil
}

// readImages reads the pixels of families with a vision tower. The text grows where it holds one token for a picture.
func (v *verification) readImages(x *batch) error {
	if !v.has("pixel_values") {
		return nil
	}
	viewer, ok := v.model.(Viewer)
	if !ok {
		return fmt.Errorf("verify: pixel_values: the family reads no pictures")
	}
	pixels, err := v.file.Tensor("pixel_values")
	if err != nil {
		return err
	}
	x.pixels = pixels.F32()
	if x.media, err = v.media(viewer, pixels.Shape); err != nil {
		return err
	}
	if x.ids, err = expanded(viewer, x.ids, x.media); err != nil {
		return err
	}
	x.t = len(x.ids) / x.b
	x.images, err = ImageInputs(viewer, x.ids, x.media, x.pixels)
	return err
}

// media are the reference batch's pictures: with grids of their own, or all as the processor makes them.
func (v *verification) media(viewer Viewer, shape []int) (media []vision.Media, err error) {
	if !v.has("image_grid_thw") {
		p, err := viewer.Processor(v.dir)
		if err != nil {
			return nil, err
		}
		for range shape[0] {
			g, err := p.Grid(shape[len(shape)-1], shape[len(shape)-2], 0)
			if err != nil {
				return nil, err
			}
			media = append(media, vision.Media{Grid: g})
		}
		return media, nil
	}
	grid, err := v.ints("image_grid_thw")
	if err != nil {
		return nil, err
	}
	for g := range slices.Chunk(grid.I32(), 3) {
		media = append(media, vision.Media{Grid: vision.Grid{T: int(g[0]), H: int(g[1]), W: int(g[2])}})
	}
	return media, nil
}

// expanded is a text with as many tokens for each picture as it has features, which it may have already.
func expanded(viewer Viewer, ids []int32, media []vision.Media) ([]int32, error) {
	n := 0
	for _, id := range ids {
		if IsPicture(viewer, id) {
			n++
		}
	}
	if n == FeatureCount(viewer, media...) {
		return ids, nil
	}
	return Expand(viewer, ids, media)
}

// imageInputs declares the inputs of the vision tower.
func (x *batch) imageInputs(g *graph.Graph) *nn.Images {
	p, n := x.images["patches"].Shape, x.images["image_rows"].Len()
	return nn.ImageInputs(g, p[0], p[1], p[0]/n, n)
}

// readMask reads which places count, or which see which: the latter must be a prefix in front of a causal mask.
func (v *verification) readMask(x *batch) error {
	if !v.has("attention_mask") {
		return nil
	}
	mask, err := v.ints("attention_mask")
	if err != nil {
		return err
	}
	m := mask.I32()
	if len(mask.Shape) == 2 {
		for i, seen := range m {
			if seen == 0 {
				x.segments[i], x.real[i] = -1, false
			}
		}
		return nil
	}
	for row := range x.b {
		at := func(i, j int) bool { return m[(row*x.t+i)*x.t+j] != 0 }
		p := 0
		for p < x.t && at(0, p) {
			p++
		}
		for i := range x.t {
			for j := range x.t {
				if at(i, j) != (j <= i || j < p) {
					return fmt.Errorf("verify: attention_mask: row %d is no prefix mask", row)
				}
			}
		}
		x.prefix = append(x.prefix, int32(p))
	}
	return nil
}

// readPositions reads the position rows, [B, T], [B, P, T] or, for three rows, [P, B, T].
func (v *verification) readPositions(x *batch) error {
	n := x.b * x.t
	x.positions = make([]int32, x.rows*n)
	if !v.has("position_ids") {
		for i := range x.positions {
			x.positions[i] = int32(i % x.t)
		}
		return nil
	}
	p, err := v.ints("position_ids")
	if err != nil {
		return err
	}
	if p.Len() != len(x.positions) {
		return fmt.Errorf("verify: position_ids: want %d rows, got %v", x.rows, p.Shape)
	}
	for r := range x.rows {
		for row := range x.b {
			from := (r*x.b + row) * x.t
			if x.rows == 2 {
				from = (row*x.rows + r) * x.t
			}
			copy(x.positions[(r*x.b+row)*x.t:(r*x.b+row+1)*x.t], p.I32()[from:from+x.t])
		}
	}
	return nil
}

// readTargets reads blank-infilling targets, which stand at the places that predict them.
func (v *verification) readTargets(x *batch) error {
	targets, err := v.ints("targets")
	if err != nil {
		return err
	}
	mask, err := v.ints("loss_mask")
	if err != nil {
		return err
	}
	for i := range x.targets {
		x.targets[i] = -100
		if mask.I32()[i] != 0 {
			x.targets[i] = targets.I32()[i]
			x.scored++
		}
	}
	return nil
}

// scoredAhead counts the targets of a module that predicts the token after the next.
func (x *batch) scoredAhead() int {
	n := 0
	for i, t := range x.targets {
		if t >= 0 && i%x.t > 0 {
			n++
		}
	}
	return n
}

// tensors are the inputs of the training graph.
func (x *batch) tensors() engine.Tensors {
	in := x.tensors0()
	scalar := func(n int) *tensor.Tensor { return tensor.FromF32([]float32{1 / float32(max(1, n))}) }
	in["targets"], in["norm"], in["norm_ahead"] = tensor.FromI32(x.targets, x.b, x.t), scalar(x.scored), scalar(x.scoredAhead())
	return in
}

// tensors0 are the inputs of a graph without a loss.
func (x *batch) tensors0() engine.Tensors {
	in := engine.Tensors{"ids": tensor.FromI32(WithoutPictures(x.ids), x.b, x.t), "positions": tensor.FromI32(x.positions, x.rows, x.b, x.t), "segments": tensor.FromI32(x.segments, x.b, x.t)}
	if x.prefix != nil {
		in["prefix"] = tensor.FromI32(x.prefix, x.b)
	}
	maps.Copy(in, x.images)
	return in
}

// inputs declares the graph's inputs.
func (x *batch) inputs(g *graph.Graph, policy nn.Policy) *nn.Build {
	b := nn.Inputs(g, policy, x.rows, x.b, x.t)
	if x.prefix != nil {
		b.Mask.Prefix = g.Input("prefix", graph.Of(dtype.I32, x.b))
	}
	if x.images != nil {
		b.Images = x.imageInputs(g)
	}
	return b
}
