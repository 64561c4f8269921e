package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"danlu/data"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

// message is a message of a conversation, in OpenAI's form.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// messagesColumn is where a question keeps its conversation among the sample's other columns.
const messagesColumn = "danlu.messages"

// questionEncoder encodes prompts and keeps their conversations, so that datasets can be made of them.
type questionEncoder struct{ data.PromptEncoder }

// Encode implements data.Encoder.
func (q *questionEncoder) Encode(ex *data.Example) (*data.Sample, error) {
	s, err := q.PromptEncoder.Encode(ex)
	if err != nil {
		return nil, err
	}
	var said []message
	if ex.System != "" {
		said = append(said, message{data.System, ex.System})
	}
	for _, t := range ex.Prompt {
		role := t.Role
		if role == data.Observation {
			role = "tool"
		}
		said = append(said, message{role, t.Content})
	}
	text, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	s.Extra[messagesColumn] = string(text)
	return s, nil
}

// conversation is the question with an answer, as a line of a dataset.
func (q question) conversation(answer string) (conversation, error) {
	var c conversation
	if err := json.Unmarshal([]byte(q.extra[messagesColumn]), &c.Messages); err != nil {
		return c, fmt.Errorf("recipe: %s: %w", q.where, err)
	}
	c.Messages = append(c.Messages, message{data.Assistant, answer})
	return c, nil
}

type conversation struct {
	Messages []message `json:"messages"`
}

const (
	answersFolder = "answers" // in a run's folder; train lists it among what may be there before the first checkpoint
	answersFile   = "answers.jsonl"
	progressFile  = "progress.json"
)

// answered is how far a dataset of answers has come. Numbers are sums over the prompts that are done.
type answered struct {
	Of      string             `json:"of"` // what the answers depend on
	Prompts int64              `json:"prompts"`
	Bytes   int64              `json:"bytes"`
	Sums    map[string]float64 `json:"sums"`
}

// collect makes a dataset of answers to all prompts, some at a time, and returns its path. What is done is kept, so
// that a run that was cut off goes on. of says what the answers depend on.
func (j *job) collect(ctx context.Context, of string, set *data.Set, atOnce int64, do func(ctx context.Context, from, to int64) ([]conversation, map[string]float64, error)) (string, answered, error) {
	dir := filepath.Join(j.run.path, answersFolder)
	path := filepath.Join(dir, answersFile)
	state := answered{Of: of, Sums: map[string]float64{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", state, fmt.Errorf("recipe: %w", err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, progressFile)); err == nil {
		var old answered
		if err := json.Unmarshal(raw, &old); err != nil {
			return "", state, fmt.Errorf("recipe: %s: %w", filepath.Join(dir, progressFile), err)
		}
		if old.Of != of {
			return "", state, j.Errorf("output_dir", "%s holds answers of other prompts, another model or other settings; choose another folder, or set overwrite_output_dir: true", j.run.path)
		}
		state = old
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", state, fmt.Errorf("recipe: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(state.Bytes); err != nil {
		return "", state, fmt.Errorf("recipe: %w", err)
	}
	if _, err := f.Seek(state.Bytes, io.SeekStart); err != nil {
		return "", state, fmt.Errorf("recipe: %w", err)
	}
	bar := progress.New(j.Stderr, progress.Options{Label: locale.Text("answers", "生成回答"), Total: set.Len(), Quiet: j.Output.Quiet, Chinese: locale.Chinese()})
	defer bar.Done()
	for state.Prompts < set.Len() {
		to := min(state.Prompts+atOnce, set.Len())
		lines, sums, err := do(ctx, state.Prompts, to)
		if err != nil {
			return "", state, err
		}
		var out bytes.Buffer
		for _, c := range lines {
			line, err := json.Marshal(c)
			if err != nil {
				return "", state, fmt.Errorf("recipe: %w", err)
			}
			out.Write(append(line, '\n'))
		}
		_, err = f.Write(out.Bytes())
		if err = errors.Join(err, f.Sync()); err != nil {
			return "", state, fmt.Errorf("recipe: %w", err)
		}
		state.Prompts, state.Bytes = to, state.Bytes+int64(out.Len())
		for k, v := range sums {
			state.Sums[k] += v
		}
		if err := replaceJSON(filepath.Join(dir, progressFile), state); err != nil {
			return "", state, err
		}
		bar.Update(to)
	}
	return path, state, nil
}

// replaceJSON writes a file beside itself and renames it.
func replaceJSON(path string, v any) error {
	if err := writeJSON(path+".new", v); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	return nil
}

// questionsAt reads the prompts from to of a set, excluding to.
func (r *rows) questionsAt(set *data.Set, from, to int64) ([]question, error) {
	var list []question
	for i := from; i < to; i++ {
		s, err := set.Store.Sample(set.At(i))
		if err != nil {
			return nil, err
		}
		q, err := newQuestion(s)
		if err != nil {
			return nil, err
		}
		list = append(list, q)
	}
	return list, nil
}
