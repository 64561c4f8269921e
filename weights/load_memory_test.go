package weights_test

import (
	"os"
	"testing"

	"danlu/dtype"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/weights"
)

// TestLoadMemory loads a checkpoint of a 7B model's matrices into an engine's store, quantized on the way and as it is,
// with the anonymous memory of the store, two tensors and 200 MB. With DANLU_LARGE_FILES set it has the 7B's width and
// its 32 layers and is quantized (13 GB read), else one layer of a quarter of the width.
func TestLoadMemory(t *testing.T) {
	width, layers, kinds := 1024, 1, []string{"q4_0", weights.QuantKeep}
	if os.Getenv("DANLU_LARGE_FILES") != "" {
		width, layers, kinds = 4096, 32, kinds[:1]
	}
	dir := t.TempDir()
	largest := weights.SparseLlama(t, dir, width, 11008*width/4096, layers, 32000, dtype.BF16)
	for _, kind := range kinds {
		c, err := family.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		specs, err := family.Params(c.Model)
		if err != nil {
			t.Fatal(err)
		}
		storage, err := weights.Storage(c.Weights, specs, kind, weights.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if specs, err = family.StoredParams(c.Model, storage); err != nil {
			t.Fatal(err)
		}
		eng, err := cpu.New(cpu.Options{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		store := eng.NewStore()
		took := weights.Peak(t, func() {
			for _, s := range specs {
				if err := store.Declare(s); err != nil {
					t.Fatal(err)
				}
			}
			if err := weights.Load(store, specs, c.Weights, weights.LoadOptions{}); err != nil {
				t.Error(err)
			}
		})
		beyond := took - store.Bytes()
		t.Logf("%s: %d layers: the store has %.0f MB, %.0f MB of anonymous memory beyond it at the most (largest tensor %.0f MB)", kind, layers,
			float64(store.Bytes())/1e6, float64(beyond)/1e6, float64(largest)/1e6)
		if limit := 2*largest + 200<<20; beyond > limit {
			t.Errorf("%s: took %d bytes beyond the store, want at most %d", kind, beyond, limit)
		}
		store.Close()
		eng.Close()
		c.Close()
	}
}
