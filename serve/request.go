package serve

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"

	"danlu/generate"
	"danlu/grammar"
	"danlu/tokenizer"
)

// Limits of OpenAI's API.
const (
	maxReplies = 128
	maxTop     = 20
	maxStops   = 16
)

// request is what chat and plain completions have in common.
type request struct {
	model       *Model
	stream      bool
	usage       bool // stream_options.include_usage
	n           int
	stops       []string
	probs       int // alternatives with each token's logprob; negative: no logprobs
	answer      generate.Request
	minNew      int
	admitted    []int32    // allowed_token_ids
	unended     bool       // ignore_eos
	budget      int        // most tokens of thoughts; negative: any number
	scope       string     // of the prefix cache
	anew        bool       // do not use the prefix cache
	form        *form      // nil: a reply is free
	echo        bool       // the prompt is a part of the reply
	promptProbs int        // alternatives to each token of the prompt; negative: no probabilities
	vllmProbs   bool       // they are told in the shape of vLLM too
	silent      bool       // nothing is written (max_tokens 0)
	readings    []*reading // of the replies, where something is to be found out about their prompts
	grammar     *grammar.Grammar
	single      bool    // a reply ends with its first call
	predicted   []int32 // what the reply is expected to be like
}

// named reads the name of the model that a request is for; nil where there is none, which f tells. A server of one model
// needs no name.
func (s *Server) named(f *fields) *Model {
	var name string
	given := read(f, "model", "a string", &name)
	if f.err != nil {
		return nil
	}
	if bases := s.bases(); !given && len(bases) == 1 {
		return bases[0]
	}
	m := s.model(name)
	if m == nil {
		e := fault(http.StatusNotFound, invalidRequest, "model_not_found", "the model %q does not exist; /v1/models lists those that do", name)
		param := "model"
		e.Param = &param
		f.fail(e)
	}
	return m
}

// common reads the fields of every completion.
func (s *Server) common(f *fields) *request {
	r := &request{n: 1, probs: -1, budget: -1, promptProbs: -1}
	if r.model = s.named(f); r.model == nil {
		return r
	}
	f.bool("stream", &r.stream)
	r.streamOptions(f)
	f.int("n", 1, maxReplies, &r.n)
	f.strings("stop", maxStops, &r.stops)
	r.answer.Sampling = r.model.Sampling
	r.sampling(f)
	r.ends(f)
	r.readForms(f)
	f.int("prompt_logprobs", 0, maxTop, &r.promptProbs)
	r.prediction(f)
	read(f, "cache_salt", "a text", &r.scope)
	if keep := true; f.bool("cache_prompt", &keep) {
		r.anew = !keep
	}
	f.labels()
	return r
}

func (r *request) streamOptions(f *fields) {
	v, ok := f.take("stream_options")
	if !ok {
		return
	}
	o, err := readFields(v)
	if err != nil {
		f.fail(badField("stream_options", "want an object, got %s", short(v)))
		return
	}
	if !r.stream {
		f.fail(badField("stream_options", "is for streams (stream: true)"))
	}
	o.bool("include_usage", &r.usage)
	o.only("include_obfuscation", "this server adds none", "false")
	f.within("stream_options", o)
}

func (r *request) sampling(f *fields) {
	p := &r.answer.Sampling
	f.float("temperature", 0, 2, &p.Temperature)
	f.float("top_p", 0, 1, &p.TopP)
	topK := p.TopK
	if f.int("top_k", -1, math.MaxInt32, &topK) {
		p.TopK = max(0, topK) // -1 is all tokens as well
	}
	f.float("min_p", 0, 1, &p.MinP)
	f.float("typical_p", 0, 1, &p.Typical)
	f.float("frequency_penalty", -2, 2, &p.FrequencyPenalty)
	f.float("presence_penalty", -2, 2, &p.PresencePenalty)
	if f.float("repetition_penalty", math.SmallestNonzeroFloat64, 100, &p.RepetitionPenalty) {
		if _, both := f.raw["repeat_penalty"]; both {
			f.fail(badField("repeat_penalty", "is repetition_penalty by another name; give one"))
		}
	}
	f.float("repeat_penalty", math.SmallestNonzeroFloat64, 100, &p.RepetitionPenalty)
	last := p.RepeatLast
	if f.int("repeat_last_n", -1, math.MaxInt32, &last) {
		if last == 0 {
			f.fail(badField("repeat_last_n", "0 switches penalties off: leave the penalties out instead"))
		}
		p.RepeatLast = max(0, last)
	}
	p.Seed = rand.Uint64()
	var seed int64
	if read(f, "seed", "a whole number of 64 bits", &seed) {
		p.Seed = uint64(seed)
	}
	r.bias(f)
}

func (r *request) bias(f *fields) {
	var bias map[string]float64
	read(f, "logit_bias", "an object of token ids and numbers", &bias)
	for name, x := range bias {
		id, err := strconv.ParseInt(name, 10, 32)
		switch vocab := r.model.Runner.Info().VocabSize; {
		case err != nil || id < 0 || int(id) >= vocab:
			f.fail(badField("logit_bias", "want token ids of 0 to %d, got %q", vocab-1, name))
			return
		case x < -100 || x > 100:
			f.fail(badField("logit_bias", "token %d: want -100 to 100, got %v", id, x))
			return
		}
		if r.answer.Sampling.LogitBias == nil {
			r.answer.Sampling.LogitBias = map[int32]float32{}
		}
		r.answer.Sampling.LogitBias[int32(id)] = float32(x)
		if x == -100 { // OpenAI: the token is banned
			r.answer.Sampling.LogitBias[int32(id)] = float32(math.Inf(-1))
		}
	}
}

// ends reads what ends a reply, and what it is made of.
func (r *request) ends(f *fields) {
	most := math.MaxInt32
	least := 1
	if string(f.raw["echo"]) == "true" { // the prompt alone is an answer too
		least = 0
	}
	old := f.int("max_tokens", least, most, &r.answer.MaxNew)
	r.silent = old && r.answer.MaxNew == 0
	if f.int("max_completion_tokens", 1, most, &r.answer.MaxNew) && old {
		f.fail(badField("max_tokens", "is max_completion_tokens by an older name; give one"))
	}
	r.answer.End = r.model.End
	var more []int32
	read(f, "stop_token_ids", "a list of token ids", &more)
	r.answer.End = slices.Concat(r.answer.End, more)
	if f.bool("ignore_eos", &r.unended); r.unended {
		r.answer.End = more
	}
	f.int("min_tokens", 0, most, &r.minNew)
	if r.answer.MaxNew > 0 && r.minNew > r.answer.MaxNew {
		f.fail(badField("min_tokens", "want at most max_tokens (%d), got %d", r.answer.MaxNew, r.minNew))
	}
	read(f, "allowed_token_ids", "a list of token ids", &r.admitted)
	vocab := r.model.Runner.Info().VocabSize
	for _, id := range r.admitted {
		if id < 0 || int(id) >= vocab {
			f.fail(badField("allowed_token_ids", "want token ids of 0 to %d, got %d", vocab-1, id))
		}
	}
}

// prediction reads what the reply is expected to be like: guesses are taken from it.
func (r *request) prediction(f *fields) {
	v, ok := f.take("prediction")
	if !ok {
		return
	}
	o, e := readFields(v)
	if e != nil {
		f.fail(badField("prediction", "want an object, got %s", short(v)))
		return
	}
	o.only("type", "this server reads content", `"content"`)
	var text string
	if !read(o, "content", "a text", &text) && o.err == nil {
		o.fail(badField("content", "is missing"))
	}
	if err := r.model.Runner.CanDraft(); err != nil {
		o.fail(cannot("content", "%v", err))
	}
	r.predicted = r.model.Tokenizer.Encode(text, tokenizer.Options{})
	f.within("prediction", o)
}

// usualGuesses is the most guesses of one pass.
const usualGuesses = 8

// drafting makes what guesses for one reply; nil for no guesses.
func (r *request) drafting() (*generate.Drafting, error) {
	most := r.model.Guesses
	if most == 0 {
		most = usualGuesses
	}
	if r.predicted != nil {
		return &generate.Drafting{Drafter: &generate.NGrams{Before: r.predicted}, Most: 2 * most}, nil
	}
	if r.model.Drafter == nil {
		return nil, nil
	}
	d, err := r.model.Drafter()
	if d == nil || err != nil {
		return nil, err
	}
	return &generate.Drafting{Drafter: d, Most: most}, nil
}

// contextExceeded is the code of a prompt that leaves no room for a reply.
const contextExceeded = "context_length_exceeded"

// fits refuses a prompt that leaves no room for a reply.
func (r *request) fits(param string, prompt []int32) *apiError {
	size := r.model.Runner.Context()
	if len(prompt) == 0 {
		return badField(param, "is empty: no token to start from")
	}
	if len(prompt) < size {
		return nil
	}
	e := fault(http.StatusBadRequest, invalidRequest, contextExceeded,
		"this model's context is %d tokens, the prompt has %d; nothing was cut: shorten it", size, len(prompt))
	e.Param = &param
	return e
}

// object re-assembles members as a JSON object, for readers of whole objects.
func object(members map[string]json.RawMessage) []byte {
	b, err := json.Marshal(members)
	if err != nil { // they were parsed before
		panic(err)
	}
	return b
}
