package generate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"danlu/dtype"
	"danlu/family"
	"danlu/internal/numtest"
)

// cacheShape are the keys of a config that say how large its cache is, by all names that they have.
type cacheShape struct {
	Layers  int `json:"num_hidden_layers"`
	Layers2 int `json:"num_layers"`
	Hidden  int `json:"hidden_size"`
	Heads   int `json:"num_attention_heads"`
	KVHeads int `json:"num_key_value_heads"`
	Groups  int `json:"multi_query_group_num"`
	HeadDim int `json:"head_dim"`
	KV      int `json:"kv_channels"`
	Latent  int `json:"kv_lora_rank"`
	Rotary  int `json:"qk_rope_head_dim"`
}

// values is the number of values that a token leaves in the cache, and the kind of attention.
func (c cacheShape) values() (n int, kind string) {
	layers := max(c.Layers, c.Layers2)
	if c.Latent > 0 {
		return layers * (c.Latent + c.Rotary), "MLA"
	}
	kv, dim := max(c.KVHeads, c.Groups), max(c.HeadDim, c.KV)
	if kv == 0 {
		kv = c.Heads
	}
	if dim == 0 {
		dim = c.Hidden / c.Heads
	}
	switch kv {
	case c.Heads:
		kind = "MHA"
	case 1:
		kind = "MQA"
	default:
		kind = "GQA"
	}
	return layers * 2 * kv * dim, kind
}

// The cache that a runner allocates has the bytes per token that the formula says, which danlu inspect prints.
func TestGoldenCacheBytes(t *testing.T) {
	dir := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases, kinds := 0, map[string]int{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(filepath.Join(path, "config.json"))
		if err != nil {
			continue
		}
		cases++
		t.Run(e.Name(), func(t *testing.T) {
			var shape cacheShape
			if err := json.Unmarshal(data, &shape); err != nil {
				t.Fatal(err)
			}
			values, kind := shape.values()
			kinds[kind]++
			m, src, _ := goldenModel(t, path)
			const tokens = 96
			r := runnerOf(t, m, src, Options{Context: tokens / 2, Sequences: 2, PageLen: 8, Store: dtype.F16})
			allocated := r.store.Bytes()
			if err := r.Shut(); err != nil { // frees the cache
				t.Fatal(err)
			}
			allocated -= r.store.Bytes()
			if want := int64(tokens * values * 2); allocated != want {
				t.Errorf("%s: %d tokens take %d bytes, the formula says %d", kind, tokens, allocated, want)
			}
			facts, err := family.Count(m)
			if err != nil || facts.KVBytesPerToken != int64(2*values) {
				t.Errorf("%s: %d bytes a token (%v), the formula says %d", kind, facts.KVBytesPerToken, err, 2*values)
			}
		})
	}
	t.Log(kinds)
	if os.Getenv("DANLU_GOLDENS") != "" && (kinds["MHA"] == 0 || kinds["GQA"] == 0 || kinds["MQA"] == 0 || kinds["MLA"] == 0) {
		t.Errorf("not every kind of attention is among the cases: %v", kinds)
	}
	numtest.Count(t, "cache bytes", cases)
}
