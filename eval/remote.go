package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"danlu/chat/jinja"
)

// Remote is a model behind an endpoint in the shape of OpenAI's API.
type Remote struct {
	URL      string // up to and with /v1
	Key      string
	Model    string
	Parallel int           // requests at a time [8]
	Retries  int           // of a request that fails for the moment [5]
	Wait     time.Duration // before the first retry, doubled each time [1 s]

	mu    sync.Mutex
	usage Usage
}

// Check says what is wrong with the address or the model's name.
func (r *Remote) Check() error {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("eval: endpoint: want http://HOST:PORT/v1, got %q", r.URL)
	}
	if r.Model == "" {
		return errors.New("eval: endpoint: the model's name is missing (-m NAME)")
	}
	return nil
}

// Name implements Model.
func (r *Remote) Name() string { return r.Model }

// Identity implements Model.
func (r *Remote) Identity() string { return r.URL + "\n" + r.Model }

// Usage implements Model.
func (r *Remote) Usage() Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.usage
}

// chatMark begins a prompt that stands for a conversation: the server renders it.
const chatMark = "\x00chat\x00"

// Template implements Model: the server has the template, so the conversation is kept as it is.
func (r *Remote) Template(messages []*jinja.Dict, open bool) (string, error) {
	if !open {
		return "", errors.New("gen_prefix: a server cannot go on with the beginning of an answer")
	}
	list := make(jinja.List, len(messages))
	for i, m := range messages {
		list[i] = m
	}
	s, err := jinja.DumpJSON(list, jinja.JSONStyle{})
	return chatMark + s, err
}

// Answer implements Model.
func (r *Remote) Answer(ctx context.Context, requests []Request, done func(i int, x Response) error) error {
	parallel := r.Parallel
	if parallel <= 0 {
		parallel = 8
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wait sync.WaitGroup
	var telling sync.Mutex
	for range min(parallel, len(requests)) {
		wait.Go(func() {
			for i := range next {
				x, err := r.ask(ctx, requests[i])
				telling.Lock()
				if err == nil && ctx.Err() == nil {
					err = done(i, x)
				}
				telling.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range requests {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wait.Wait()
	return context.Cause(ctx)
}

// completion is what the API answers, of both kinds.
type completion struct {
	Choices []struct {
		Text    string `json:"text"`
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
		FinishReason string `json:"finish_reason"`
		LogProbs     *struct {
			TokenLogProbs []*float64           `json:"token_logprobs"`
			TextOffset    []int                `json:"text_offset"`
			TopLogProbs   []map[string]float64 `json:"top_logprobs"`
			Tokens        []string             `json:"tokens"`
		} `json:"logprobs"`
	} `json:"choices"`
	Usage struct {
		Prompt    int64 `json:"prompt_tokens"`
		Generated int64 `json:"completion_tokens"`
	} `json:"usage"`
}

func (r *Remote) ask(ctx context.Context, q Request) (Response, error) {
	if q.Output != Generate {
		return r.likelihood(ctx, q)
	}
	body := map[string]any{"model": r.Model, "temperature": q.Generation.Temperature, "seed": q.Repeat}
	body["max_tokens"] = q.Generation.MaxTokens
	if q.Generation.MaxTokens == 0 {
		body["max_tokens"] = defaultTokens
	}
	if q.Generation.TopP > 0 {
		body["top_p"] = q.Generation.TopP
	}
	if stops := q.Generation.Until; len(stops) > 0 { // the API takes four; the rest is cut here
		body["stop"] = stops[:min(4, len(stops))]
	}
	path := "/completions"
	if messages, ok := strings.CutPrefix(q.Context, chatMark); ok {
		path, body["messages"] = "/chat/completions", json.RawMessage(messages)
	} else {
		body["prompt"] = q.Context
	}
	c, err := r.post(ctx, path, body)
	if err != nil {
		return Response{}, err
	}
	text := c.Choices[0].Text + c.Choices[0].Message.Content
	for _, s := range q.Generation.Until {
		if s != "" {
			text, _, _ = strings.Cut(text, s)
		}
	}
	return Response{Text: text, Cut: c.Choices[0].FinishReason == "length"}, nil
}

// likelihood scores a text by having the server repeat it with the logarithms of its probabilities.
func (r *Remote) likelihood(ctx context.Context, q Request) (Response, error) {
	if strings.HasPrefix(q.Context, chatMark) {
		return Response{}, errors.New("a server does not score answers within a conversation; leave --apply-chat-template out")
	}
	body := map[string]any{"model": r.Model, "prompt": q.Context + q.Target, "max_tokens": 1, "temperature": 0, "echo": true, "logprobs": 1}
	c, err := r.post(ctx, "/completions", body)
	if err != nil {
		return Response{}, err
	}
	p := c.Choices[0].LogProbs
	if p == nil || len(p.TokenLogProbs) != len(p.TextOffset) || len(p.TokenLogProbs) == 0 {
		return Response{}, errors.New("the server gives no logprobs of the prompt (echo); it can be asked tasks with generated answers only")
	}
	from, to := utf8.RuneCountInString(strings.TrimRight(q.Context, " \n\t")), utf8.RuneCountInString(q.Context+q.Target)
	x := Response{Greedy: true}
	for i, ll := range p.TokenLogProbs {
		if p.TextOffset[i] < from || p.TextOffset[i] >= to || ll == nil {
			continue
		}
		x.LogLikelihood += *ll
		if i < len(p.TopLogProbs) && i < len(p.Tokens) {
			for token, top := range p.TopLogProbs[i] {
				x.Greedy = x.Greedy && (token == p.Tokens[i] || top <= *ll)
			}
		}
	}
	return x, nil
}

// maxReply bounds an answer of the server.
const maxReply = 64 << 20

// post asks the server, again where it is busy.
func (r *Remote) post(ctx context.Context, path string, body map[string]any) (*completion, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	retries, wait := r.Retries, r.Wait
	if retries == 0 {
		retries = 5
	}
	if wait == 0 {
		wait = time.Second
	}
	for try := 0; ; try++ {
		c, again, err := r.once(ctx, path, raw)
		if err == nil || !again || try == retries {
			return c, err
		}
		select {
		case <-time.After(wait << try):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *Remote) once(ctx context.Context, path string, raw []byte) (c *completion, again bool, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(r.URL, "/")+path, bytes.NewReader(raw))
	if err != nil {
		return nil, false, err
	}
	q.Header.Set("Content-Type", "application/json")
	if r.Key != "" {
		q.Header.Set("Authorization", "Bearer "+r.Key)
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, ctx.Err() == nil, fmt.Errorf("endpoint: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil {
		return nil, ctx.Err() == nil, fmt.Errorf("endpoint: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		again := res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500
		return nil, again, fmt.Errorf("endpoint: %s: %s", res.Status, short(string(b)))
	}
	c = &completion{}
	if err := json.Unmarshal(b, c); err != nil || len(c.Choices) == 0 {
		return nil, false, fmt.Errorf("endpoint: %s: want an answer in the shape of OpenAI's API, got %s", path, short(string(b)))
	}
	r.mu.Lock()
	r.usage.Prompt += c.Usage.Prompt
	r.usage.Read += c.Usage.Prompt
	r.usage.Generated += c.Usage.Generated
	r.mu.Unlock()
	return c, false, nil
}
