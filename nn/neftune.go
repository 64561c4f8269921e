package nn

import (
	"math"

	"danlu/graph"
)

// NEFTune is a Build.EmbeddingNoise that adds uniform noise to embeddings while training (arXiv:2310.05914).
func NEFTune(alpha float64) func(b *Build, x *graph.Value) *graph.Value {
	return func(b *Build, x *graph.Value) *graph.Value {
		if b.Random == nil {
			return x
		}
		b.streams++
		u := graph.NewRandom(graph.RandomUniform, b.Random, b.streams, x.Shape...)
		return AddNoise(x, graph.AddScalar(graph.MulScalar(u, 2), -1), alpha)
	}
}

// AddNoise adds noise from -1 to 1 [B, T, D] to embeddings, scaled by alpha/sqrt(T·D), where T counts a row's padding.
func AddNoise(x, unit *graph.Value, alpha float64) *graph.Value {
	t, d := x.Shape[1], x.Shape[2]
	return Add(x, graph.MulScalar(unit, alpha/math.Sqrt(float64(t*d))))
}
