package eval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// cache is a file of answers, a line of JSON each, that grows as they come. A nil cache holds nothing.
type cache struct {
	file    *os.File
	model   string // hash of the model's identity
	answers map[string]Response
}

// cacheLine is a line of the file.
type cacheLine struct {
	Model string `json:"model"`
	Key   string `json:"key"`
	Response
}

// maxCacheLine bounds a line of the file.
const maxCacheLine = 16 << 20

// openCache reads the answers of a model and makes ready to add to them. A last line that was cut off by an end of the
// program is cut away.
func openCache(path, identity string) (*cache, error) {
	if dir := filepath.Dir(path); dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("eval: cache: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("eval: cache: %w", err)
	}
	c := &cache{file: f, model: hash(identity), answers: map[string]Response{}}
	if err := c.read(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

func (c *cache) read(path string) error {
	in := bufio.NewReaderSize(c.file, 1<<16)
	whole := int64(0)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(line) > maxCacheLine {
			return fmt.Errorf("eval: %s:%d: the line is longer than %d bytes", path, n, maxCacheLine)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("eval: cache: %w", err)
		}
		if err != nil { // without its line break: cut off
			break
		}
		var l cacheLine
		if err := json.Unmarshal(bytes.TrimSpace(line), &l); err != nil {
			return fmt.Errorf("eval: %s:%d: no line of a cache: %w", path, n, err)
		}
		whole += int64(len(line))
		if l.Model == c.model {
			c.answers[l.Key] = l.Response
		}
	}
	if err := c.file.Truncate(whole); err != nil {
		return fmt.Errorf("eval: cache: %w", err)
	}
	_, err := c.file.Seek(whole, io.SeekStart)
	return err
}

func (c *cache) get(key string) (Response, bool) {
	if c == nil {
		return Response{}, false
	}
	r, ok := c.answers[key]
	return r, ok
}

func (c *cache) put(key string, r Response) error {
	if c == nil {
		return nil
	}
	line, err := json.Marshal(cacheLine{c.model, key, r})
	if err != nil {
		return fmt.Errorf("eval: cache: %w", err)
	}
	if _, err := c.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("eval: cache: %w", err)
	}
	c.answers[key] = r
	return nil
}

// Close ends writing.
func (c *cache) Close() error {
	if err := c.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("eval: cache: %w", err)
	}
	return nil
}

// key is the request's hash.
func (q *Request) key() string {
	b, err := json.Marshal(q)
	if err != nil {
		panic(err) // a request is made of texts and finite numbers
	}
	return hash(string(b))
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
