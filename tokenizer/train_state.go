package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

func indexNewline(b []byte) int { return bytes.IndexByte(b, '\n') }

// place is how far counting came.
type place struct {
	File    int    // index into the files
	Offset  int64  // bytes of that file's text
	Total   int64  // bytes of all files' text
	Options string // what the counts depend on
	Files   []string
	Sizes   []int64
	Lines   int64
	Long    int64
	Dropped int64
}

const stateMagic = "danlu word counts 1\n"

// identity describes what a state must have been made from.
func (c *Counting) identity(t Trainer) (place, error) {
	p := place{Options: t.options(), Files: c.Files}
	for _, f := range c.Files {
		info, err := os.Stat(f)
		if err != nil {
			return p, fmt.Errorf("tokenizer: train: %w", err)
		}
		p.Sizes = append(p.Sizes, info.Size())
	}
	return p, nil
}

func same(a, b place) bool {
	x, _ := json.Marshal(place{Options: a.Options, Files: a.Files, Sizes: a.Sizes})
	y, _ := json.Marshal(place{Options: b.Options, Files: b.Files, Sizes: b.Sizes})
	return bytes.Equal(x, y)
}

// save writes the counts beside the state and renames, so that a state is always whole: a header line of JSON, then
// words as length, bytes and count, characters as an empty word, code point and count, and a checksum.
func (c *Counting) save(t Trainer, forks []Trainer, pos place) (err error) {
	id, err := c.identity(t)
	if err != nil {
		return err
	}
	pos.Options, pos.Files, pos.Sizes, pos.Dropped = id.Options, id.Files, id.Sizes, c.Dropped
	pos.Lines, pos.Long = 0, 0
	all := append([]Trainer{t}, forks...)
	for _, f := range all {
		pos.Lines += f.words().lines
		pos.Long += f.words().long
	}
	f, err := os.Create(c.State + ".tmp")
	if err != nil {
		return fmt.Errorf("tokenizer: train: state: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), rename(f.Name(), c.State, err)) }()
	sum := crc32.NewIEEE()
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	head, err := json.Marshal(pos)
	if err != nil {
		return err
	}
	w.WriteString(stateMagic)
	w.Write(append(head, '\n'))
	var num []byte
	for _, f := range all {
		f.words().table.each(func(word []byte, n int64) {
			num = binary.AppendUvarint(num[:0], uint64(len(word)))
			w.Write(num)
			w.Write(word)
			w.Write(binary.AppendUvarint(num[:0], uint64(n)))
		})
		for r, n := range f.words().chars {
			num = binary.AppendUvarint(append(num[:0], 0), uint64(r))
			w.Write(binary.AppendUvarint(num, uint64(n)))
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("tokenizer: train: state: %w", err)
	}
	if err := binary.Write(f, binary.LittleEndian, sum.Sum32()); err != nil {
		return fmt.Errorf("tokenizer: train: state: %w", err)
	}
	return f.Sync()
}

func rename(from, to string, failed error) error {
	if failed != nil {
		return os.Remove(from)
	}
	return os.Rename(from, to)
}

// load reads the state into t, where there is one.
func (c *Counting) load(t Trainer) (place, error) {
	want, err := c.identity(t)
	if err != nil || c.State == "" {
		return place{}, err
	}
	data, err := os.ReadFile(c.State)
	if errors.Is(err, os.ErrNotExist) {
		return place{}, nil
	}
	if err != nil {
		return place{}, fmt.Errorf("tokenizer: train: state: %w", err)
	}
	fail := func(format string, args ...any) (place, error) {
		return place{}, fmt.Errorf("tokenizer: train: %s: %s; remove it to count anew", c.State, fmt.Sprintf(format, args...))
	}
	body, ok := bytes.CutPrefix(data, []byte(stateMagic))
	if !ok || len(body) < 4 || crc32.ChecksumIEEE(data[:len(data)-4]) != binary.LittleEndian.Uint32(data[len(data)-4:]) {
		return fail("checksum: the file is damaged")
	}
	head, body, _ := bytes.Cut(body[:len(body)-4], []byte("\n"))
	var pos place
	if err := json.Unmarshal(head, &pos); err != nil {
		return fail("header: %v", err)
	}
	if !same(pos, want) {
		return fail("it was made with other files or options")
	}
	w := t.words()
	number := func() (uint64, bool) {
		v, n := binary.Uvarint(body)
		if n <= 0 {
			return 0, false
		}
		body = body[n:]
		return v, true
	}
	for len(body) > 0 {
		size, ok := number()
		if !ok || size > maxLine || size > uint64(len(body)) {
			return fail("words: the file is damaged")
		}
		word := body[:size]
		body = body[size:]
		var r uint64
		if size == 0 {
			r, ok = number()
		}
		n, ok2 := number()
		if !ok || !ok2 {
			return fail("words: the file is damaged")
		}
		if size == 0 {
			w.chars[rune(r)] += int64(n)
		} else {
			w.table.add(word, int64(n))
		}
	}
	w.lines, w.long, c.Dropped, c.Resumed = pos.Lines, pos.Long, pos.Dropped, pos.Total
	return pos, nil
}
