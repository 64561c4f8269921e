package weights

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/tensor"
)

// Init fills the parameters and buffers among specs as their Init says. What a tensor gets depends on the seed and its
// name only, not on which others there are.
func Init(store engine.Store, specs []*graph.StateSpec, seed uint64) error {
	for _, spec := range specs {
		if spec.Role != graph.Param && spec.Role != graph.Buffer {
			continue
		}
		for i := range spec.Parts() {
			name, typ := spec.PartName(i), spec.PartType()
			h := fnv.New64a()
			h.Write([]byte(name))
			rng := rand.New(rand.NewPCG(seed, h.Sum64()))
			values := tensor.New(dtype.F32, typ.Shape...)
			x := values.F32()
			for k := range x {
				x[k] = float32(spec.Init.Mean)
				if spec.Init.Std != 0 {
					x[k] += float32(rng.NormFloat64() * spec.Init.Std)
				}
			}
			if err := store.Set(name, values); err != nil {
				return fmt.Errorf("weights: %s: %w", name, err)
			}
		}
	}
	return nil
}
