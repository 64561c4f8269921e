package family_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/engine/ref"
	"danlu/engine/xla"
	"danlu/engine/xla/pjrt"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/numtest"
	"danlu/nn"
)

// cached reads texts through a KV cache with small pages and passes.
func cached(eng engine.Engine) family.CachedRun {
	return func(store engine.Store, m family.Model, capacity int) (family.CachedModel, error) {
		r, err := generate.NewRunner(eng, store, m, generate.Options{Context: capacity, PageLen: 8, Store: dtype.F32, Chunk: 64})
		if err != nil {
			return nil, err
		}
		return r.Verifier()
	}
}

// verifyAll runs every case of the reference data on an engine.
func verifyAll(t *testing.T, eng engine.Engine) {
	dir := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "config.json")); err != nil {
			continue
		}
		cases++
		t.Run(e.Name(), func(t *testing.T) {
			r, err := family.Verify(context.Background(), filepath.Join(dir, e.Name()), family.VerifyOptions{Engine: eng, Policy: nn.Float32, Cached: cached(eng)})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("logits %.1e hidden %.1e loss %.1e grad %.1e cached %.1e padded %.1e greedy %v tensors %d/%d", r.LogitsErr, r.HiddenErr, r.LossErr, r.GradErr,
				r.CachedLogitsErr, r.PaddedLogitsErr, r.GreedyMatch, r.TensorsChecked, r.TensorsInGolden)
			for _, why := range r.Why {
				t.Error(why)
			}
		})
	}
	numtest.Count(t, "models", cases)
}

func TestGoldenModelsRef(t *testing.T) { verifyAll(t, ref.New()) }

func TestGoldenModels(t *testing.T) {
	eng, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	verifyAll(t, eng)
}

func TestGoldenModelsXLA(t *testing.T) {
	kind, err := pjrt.KindOf("cpu")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kind.Find(); err != nil {
		numtest.NoPlugin(t, err)
	}
	compiled, err := pjrt.Home("compiled")
	if err != nil {
		t.Fatal(err)
	}
	eng, err := xla.New(xla.Options{Plugin: "cpu", CacheDir: compiled})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	verifyAll(t, eng)
}
