package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	endpointCalls   = 8 // at the same time
	endpointRetries = 4
	endpointReply   = 16 << 20 // most bytes of a reply
	endpointTimeout = 10 * time.Minute
)

// askEndpoint lets an OpenAI-compatible endpoint answer (teacher_api_base; teacher_model is the name it knows the model
// by, OPENAI_API_KEY the key). Answers that were cut off are "".
func (j *job) askEndpoint(ctx context.Context, asked []question, seed uint64) ([]string, error) {
	said, errs := make([]string, len(asked)), make([]error, len(asked))
	turns := make(chan struct{}, endpointCalls)
	var wait sync.WaitGroup
	for i, q := range asked {
		wait.Add(1)
		turns <- struct{}{}
		go func() {
			defer func() { <-turns; wait.Done() }()
			said[i], errs[i] = j.askOnce(ctx, q, seed+uint64(i))
		}()
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, &Failure{fmt.Errorf("recipe: teacher_api_base: %s: %w", asked[i].where, err)}
		}
	}
	return said, nil
}

// askOnce asks one question, several times while the endpoint is busy.
func (j *job) askOnce(ctx context.Context, q question, seed uint64) (string, error) {
	c, err := q.conversation("")
	if err != nil {
		return "", err
	}
	g := &j.Generation
	body := map[string]any{"messages": c.Messages[:len(c.Messages)-1], "max_tokens": g.MaxNewTokens, "temperature": g.Temperature, "top_p": g.TopP, "seed": seed >> 1}
	if j.Distill.Teacher != "" {
		body["model"] = j.Distill.Teacher
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	for wait := time.Second; ; wait *= 2 {
		text, again, err := j.post(ctx, payload)
		if err == nil || !again || wait >= time.Second<<endpointRetries {
			return text, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(wait):
		}
	}
}

// post sends one request; again says that it may succeed later.
func (j *job) post(ctx context.Context, payload []byte) (text string, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	url := strings.TrimSuffix(j.Distill.TeacherAPI, "/") + "/chat/completions"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		return "", false, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key := os.Getenv("OPENAI_API_KEY"); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", true, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, endpointReply))
	if err != nil {
		return "", true, err
	}
	if res.StatusCode != http.StatusOK {
		busy := res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500
		return "", busy, fmt.Errorf("%s: %.200s", res.Status, raw)
	}
	var reply struct {
		Choices []struct {
			Message struct {
				Content   string `json:"content"`
				Reasoning string `json:"reasoning_content"`
			} `json:"message"`
			Finish string `json:"finish_reason"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		return "", false, fmt.Errorf("the reply is no completion: %w", err)
	}
	if len(reply.Choices) == 0 || reply.Choices[0].Finish == "length" {
		return "", false, nil
	}
	m := reply.Choices[0].Message
	if m.Reasoning != "" {
		return "<think>\n" + m.Reasoning + "\n</think>\n\n" + m.Content, false, nil
	}
	return m.Content, false, nil
}
