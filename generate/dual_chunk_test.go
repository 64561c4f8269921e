package generate

import (
	"context"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine/cpu"
	"danlu/nn"
)

// A model with dual chunk attention generates inside its first chunk as one without; a cache that reaches beyond is
// refused.
func TestDualChunkStaysInItsChunk(t *testing.T) {
	const shape = `{"architectures":["Qwen2ForCausalLM"],"vocab_size":60,"hidden_size":32,"intermediate_size":40,"num_attention_heads":2,"num_hidden_layers":2,"initializer_range":0.4,"max_position_embeddings":256`
	plain := parseModel(t, "config.json", []byte(shape+"}"))
	dual := parseModel(t, "config.json", []byte(shape+`,"dual_chunk_attention_config":{"chunk_size":48,"local_size":8,"original_max_position_embeddings":48}}`))
	opts := Options{Context: 40, PageLen: 8, Store: dtype.F32}
	req := Request{Prompt: []int32{4, 8, 15, 16, 23, 42}, MaxNew: 20}
	var answers [][]int32
	for _, r := range []*Runner{runnerOf(t, plain, nil, opts), runnerOf(t, dual, nil, opts)} {
		seq, err := r.Open()
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Generate(context.Background(), seq, req)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, idsOf(res))
	}
	for i, id := range answers[0] {
		if answers[1][i] != id {
			t.Fatalf("plain %v, in one chunk %v", answers[0], answers[1])
		}
	}
	eng, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	store := eng.NewStore()
	defer store.Close()
	if _, err := NewRunner(eng, store, dual, Options{Policy: nn.Float32, Context: 64, PageLen: 8}); err == nil || !strings.Contains(err.Error(), "first chunk of 40") {
		t.Errorf("a context beyond the first chunk: %v", err)
	}
}
