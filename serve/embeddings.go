package serve

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"

	"danlu/generate"
)

// embedded is a text's vector in an answer.
type embedded struct {
	Object string `json:"object"`
	Index  int    `json:"index"`
	Vector any    `json:"embedding"` // numbers, or base64 of little-endian float32
}

// embeddings answers /v1/embeddings: the final hidden rows of each text, pooled to a vector of length 1.
func (s *Server) embeddings(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	r := &request{n: 1, probs: -1, budget: -1}
	if r.model = s.named(f); r.model == nil {
		return f.err
	}
	size := r.model.Runner.Info().HiddenSize
	n := size
	f.int("dimensions", 1, size, &n)
	coding, pool := "float", "mean"
	f.word("encoding_format", &coding, "float", "base64")
	f.word("pooling", &pool, "mean", "last")
	f.labels()
	raw, given := f.take("input")
	if !given {
		f.fail(badField("input", "is missing"))
	}
	if e := f.done(); e != nil {
		return e
	}
	prompts, e := r.texts("input", raw)
	if e != nil {
		return e
	}
	vectors, e := s.embed(q, r, prompts, pool == "mean", n)
	if e != nil {
		return e
	}
	data := []embedded{}
	for i, v := range vectors {
		x := embedded{"embedding", i, v}
		if coding == "base64" {
			x.Vector = littleEndian(v)
		}
		data = append(data, x)
	}
	tokens := 0
	for _, p := range prompts {
		tokens += len(p.ids)
	}
	writeJSON(w, map[string]any{"object": "list", "data": data, "model": r.model.ID, "usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens}})
	return nil
}

func littleEndian(v []float32) string {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// embed reads texts and returns their vectors.
func (s *Server) embed(q *http.Request, r *request, prompts []prompt, mean bool, n int) ([][]float32, *apiError) {
	ctx, cancel := context.WithTimeout(q.Context(), s.opts.Timeout)
	defer cancel()
	var jobs []*job
	for _, p := range prompts {
		x := &reading{only: true, probs: -1, pool: &pooling{size: r.model.Runner.Info().HiddenSize, mean: mean}}
		jobs = append(jobs, &job{ctx: ctx, req: generate.Request{Prompt: p.ids}, probabilities: -1, reading: x, adapter: r.model.adapter, anew: true})
	}
	if err := r.model.sched.submit(jobs...); err != nil {
		return nil, refused(err)
	}
	note := noted(q)
	note.model = r.model.ID
	var replies []*reply
	for _, j := range jobs {
		<-j.ended
		note.prompt += len(j.req.Prompt)
		replies = append(replies, &reply{job: j})
	}
	if e := failed(ctx, replies); e != nil {
		return nil, e
	}
	var out [][]float32
	for _, j := range jobs {
		if j.stop == generate.StopCancel {
			note.gone = true
			return nil, fault(http.StatusServiceUnavailable, serverError, "", "the client left")
		}
		out = append(out, j.reading.pool.vector(n))
	}
	return out, nil
}
