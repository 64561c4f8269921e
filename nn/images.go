package nn

import (
	"danlu/dtype"
	"danlu/graph"
)

// Images are a graph's inputs for the pictures in its texts: P patches of all pictures, of which each M merged ones become
// one token.
type Images struct {
	Patches   *graph.Value // [P, C] float32: flattened pixels
	Positions *graph.Value // [2, 1, P] int32: row and column of each patch in its picture
	Windows   *graph.Value // [1, P] int32: attention window of each patch, in window order
	Frames    *graph.Value // [1, P] int32: picture, or frame of a video, of each patch, in window order
	Order     *graph.Value // [P/M] int32: merged patches, listed window by window
	Inverse   *graph.Value // [P/M] int32: the place of each merged patch in Order
	Rows      *graph.Value // [N] int32: the token (of B·T) that each feature stands for
}

// ImageInputs declares the inputs for patches of c values, features that stand for n tokens, and merges of m patches.
func ImageInputs(g *graph.Graph, patches, c, m, n int) *Images {
	ints := func(name string, shape ...int) *graph.Value { return g.Input(name, graph.Of(dtype.I32, shape...)) }
	return &Images{
		Patches: g.Input("patches", graph.Of(dtype.F32, patches, c)), Positions: ints("patch_positions", 2, 1, patches),
		Windows: ints("patch_windows", 1, patches), Frames: ints("patch_frames", 1, patches),
		Order: ints("window_order", patches/m), Inverse: ints("window_inverse", patches/m), Rows: ints("image_rows", n),
	}
}

// Place puts features [N, D] into the embedded text x [B, T, D] at their tokens, in place of what is there.
func (b *Build) Place(x, features *graph.Value) *graph.Value {
	flat := graph.ReshapeTo(x, x.Shape[0]*x.Shape[1], x.Shape[2])
	g := x.Graph()
	zeros := graph.Zeros(g, flat.Type)
	one := graph.Zeros(g, graph.Of(dtype.F32, flat.Shape[0], 1))
	taken := graph.AddRows(one, b.Images.Rows, graph.AddScalar(graph.Zeros(g, graph.Of(dtype.F32, features.Shape[0], 1)), 1))
	placed := graph.AddRows(zeros, b.Images.Rows, graph.Convert(features, flat.DType))
	kept := graph.Where(graph.Greater(taken, graph.ConstLike(taken, 0)), graph.ConstLike(flat, 0), flat)
	return graph.ReshapeTo(graph.Add(kept, placed), x.Shape...)
}

// FeatureInputs declares the inputs of a graph with a cache for pictures whose features are known.
func (b *Build) FeatureInputs(hidden int) {
	n := b.IDs.Shape[0]
	t, m := graph.Of(dtype.F32, n, 1, hidden), graph.Of(dtype.I32, n, 1, 1)
	t.Rows, m.Rows = true, true
	b.Features, b.Pictured = b.G.Input("features", t), b.G.Input("pictured", m)
}

// Illustrate puts the known features into the embedded text, where the build has any.
func (b *Build) Illustrate(x *graph.Value) *graph.Value {
	if b.Features == nil {
		return x
	}
	return graph.Where(graph.Greater(b.Pictured, graph.ConstLike(b.Pictured, 0)), graph.Convert(b.Features, x.DType), x)
}
