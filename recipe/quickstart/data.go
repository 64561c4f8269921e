package quickstart

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"danlu/data/corpus"
)

// Documents and conversations of a round: enough for its steps without seeing one twice.
const (
	documents     = 65000
	conversations = 14000
)

// conversation is what number i consists of: in turn one request and two.
func conversation(i uint64) []corpus.Turn {
	at := 3 * (i / 2)
	if i%2 == 0 {
		return []corpus.Turn{corpus.TurnAt(corpus.Train, at)}
	}
	return []corpus.Turn{corpus.TurnAt(corpus.Train, at+1), corpus.TurnAt(corpus.Train, at+2)}
}

// write makes the training texts of a round. The generator is endless: each round gets texts of its own.
func write(dir string, round int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	first := uint64(round - 1)
	if err := lines(filepath.Join(dir, "text.jsonl"), documents, func(i uint64) any {
		return map[string]string{"text": corpus.Document(corpus.Train, first*documents+i)}
	}); err != nil {
		return err
	}
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	return lines(filepath.Join(dir, "chat.jsonl"), conversations, func(i uint64) any {
		var talk []message
		for _, t := range conversation(first*conversations + i) {
			talk = append(talk, message{"user", t.Prompt}, message{"assistant", t.Reply})
		}
		return map[string][]message{"messages": talk}
	})
}

// lines writes n objects, a line each, unless the file is there: what is there is whole, since it is written under
// another name and renamed.
func lines(path string, n uint64, object func(i uint64) any) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for i := range n {
		if err = enc.Encode(object(i)); err != nil {
			break
		}
	}
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
