package adapter

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"danlu/dtype"
	"danlu/engine"
	"danlu/nn"
	"danlu/quant"
	"danlu/tensor"
)

// Init fills a new adapter's factors, after which the model computes what it did without: A uniform within
// ±1/sqrt(In) (PEFT's Kaiming initialisation) and B zero; of embeddings A zero and B normal. DoRA's lengths are those of
// the weights' rows, which the store must hold.
func (s *Set) Init(store engine.Store, seed uint64) error {
	for i := range s.Targets {
		t := &s.Targets[i]
		for k := range t.Ranks {
			for _, f := range t.factors(k) {
				x, err := t.initial(f, k, store, seed)
				if err == nil {
					err = store.Set(f.name, x)
				}
				if err != nil {
					return fmt.Errorf("adapter: %s: %w", f.name, err)
				}
			}
		}
	}
	return nil
}

// initial is a factor of part k as it begins, in the store's shape.
func (t *Target) initial(f factor, k int, store engine.Store, seed uint64) (*tensor.Tensor, error) {
	if f.padded < 0 {
		return t.lengths(k, store)
	}
	h := fnv.New64a()
	h.Write([]byte(f.name))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	x := tensor.New(dtype.F32, f.shape...)
	switch {
	case t.Kind != nn.EmbeddingModule && f.padded == 0:
		bound := 1 / math.Sqrt(float64(t.In))
		for i := range x.F32() {
			x.F32()[i] = float32((2*rng.Float64() - 1) * bound)
		}
	case t.Kind == nn.EmbeddingModule && f.padded == 1:
		for i := range x.F32() {
			x.F32()[i] = float32(rng.NormFloat64())
		}
	}
	out := tensor.New(dtype.F32, f.stored()...)
	f.pad(out, x)
	return out, nil
}

// lengths are the Euclidean lengths of the rows of part k's weight [Out].
func (t *Target) lengths(k int, store engine.Store) (*tensor.Tensor, error) {
	w, err := store.Get(t.Weight.PartName(k))
	if err != nil {
		return nil, err
	}
	plain := make([]float32, w.Len())
	if err := quant.Dequantize(w.DType, plain, w.Data); err != nil {
		return nil, err
	}
	out := tensor.New(dtype.F32, t.Out)
	for i := range out.F32() {
		out.F32()[i] = float32(norm(plain[i*t.In : (i+1)*t.In]))
	}
	return out, nil
}
