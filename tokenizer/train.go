package tokenizer

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A Trainer learns a vocabulary in two steps: Add counts the words of texts, Train learns the merges.
type Trainer interface {
	// Add counts the words of one line, which ends in its line break where it has one.
	Add(line []byte) error
	// Train learns the vocabulary from what was counted.
	Train() (*Tokenizer, error)

	words() *wordCount
	fork() (Trainer, error) // counts apart, for another goroutine
	options() string        // what the counts depend on
}

// wordCount is what every trainer counts.
type wordCount struct {
	table *wordTable
	chars map[rune]int64 // words of one character, in trainers over characters
	lines int64
	long  int64 // lines left out for their length
}

func newWordCount() wordCount { return wordCount{table: newWordTable(), chars: map[rune]int64{}} }

// join adds another count, which is empty then.
func (c *wordCount) join(o *wordCount) {
	if o.table.n > c.table.n {
		c.table, o.table = o.table, c.table
	}
	o.table.each(c.table.add)
	for r, n := range o.chars {
		c.chars[r] += n
	}
	c.lines += o.lines
	c.long += o.long
	*o = newWordCount()
}

// maxWord bounds the words that byte-level training counts; longer ones are cut, as nothing learns from them.
const maxWord = 1 << 10

// maxLine bounds a line in memory; longer ones are counted in parts.
const maxLine = 1 << 24

// Counting counts the words of files for a trainer.
type Counting struct {
	Files   []string // text, one paragraph a line; .gz and .zst are unpacked on the way
	Threads int      // 0: one per CPU
	// MaxWords bounds memory: when a goroutine holds more distinct words than its share, those seen once are dropped and
	// counted in Dropped. 0: 50 million.
	MaxWords int
	// State is a file that keeps the counts from time to time, so that counting goes on where it stopped; "": none.
	State string
	// Tell is told how many bytes of the files were read, as stored. It may be nil.
	Tell func(read int64)

	Dropped int64
	Resumed int64 // bytes that an earlier process had counted
}

// batch is whole lines of a file, or a part of a very long one.
type batch []byte

const (
	batchSize  = 1 << 20
	stateEvery = 1 << 30 // bytes between two states
)

// Run counts the files into t. Results do not depend on the number of threads.
func (c *Counting) Run(ctx context.Context, t Trainer) error {
	workers := c.Threads
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	forks := make([]Trainer, workers)
	for i := range forks {
		var err error
		if forks[i], err = t.fork(); err != nil {
			return err
		}
	}
	pos, err := c.load(t)
	if err != nil {
		return err
	}
	for ; pos.File < len(c.Files); pos.File, pos.Offset = pos.File+1, 0 {
		if err := c.file(ctx, t, forks, &pos); err != nil {
			return err
		}
	}
	for _, f := range forks {
		t.words().join(f.words())
	}
	if c.State != "" {
		return c.save(t, forks, pos)
	}
	return nil
}

// file counts one file from pos on, a state's worth at a time.
func (c *Counting) file(ctx context.Context, t Trainer, forks []Trainer, pos *place) error {
	r, err := openText(c.Files[pos.File], pos.Offset)
	if err != nil {
		return err
	}
	defer r.Close()
	br := bufio.NewReaderSize(r, batchSize)
	for {
		n, end, err := c.round(ctx, br, forks)
		pos.Offset += n
		pos.Total += n
		if err != nil {
			return fmt.Errorf("tokenizer: train: %s: %w", c.Files[pos.File], err)
		}
		if end {
			return nil
		}
		if c.State != "" {
			if err := c.save(t, forks, *pos); err != nil {
				return err
			}
		}
	}
}

// round reads up to stateEvery bytes and counts them on all goroutines.
func (c *Counting) round(ctx context.Context, br *bufio.Reader, forks []Trainer) (read int64, end bool, err error) {
	work := make(chan batch, len(forks))
	var wg sync.WaitGroup
	errs := make([]error, len(forks))
	for i, f := range forks {
		wg.Go(func() {
			for b := range work {
				if errs[i] == nil {
					errs[i] = addLines(f, b)
					c.bound(f.words(), len(forks))
				}
			}
		})
	}
	free := sync.Pool{New: func() any { return make(batch, 0, batchSize+batchSize/4) }}
	for read < stateEvery && !end && err == nil {
		b := free.Get().(batch)[:0]
		b, err = readBatch(br, b)
		if err == io.EOF {
			end, err = true, nil
		}
		read += int64(len(b))
		if len(b) > 0 {
			work <- b
		}
		if c.Tell != nil {
			c.Tell(int64(len(b)))
		}
		if err == nil {
			err = ctx.Err()
		}
	}
	close(work)
	wg.Wait()
	return read, end, errors.Join(append(errs, err)...)
}

// bound drops rare words when there are too many.
func (c *Counting) bound(w *wordCount, shares int) {
	limit := c.MaxWords
	if limit <= 0 {
		limit = 50e6
	}
	for least := int64(2); w.table.n > limit/shares; least++ {
		kept, dropped := w.table.prune(least)
		w.table = kept
		droppedMu.Lock()
		c.Dropped += int64(dropped)
		droppedMu.Unlock()
	}
}

var droppedMu sync.Mutex

// readBatch appends about batchSize bytes of whole lines.
func readBatch(br *bufio.Reader, b batch) (batch, error) {
	for len(b) < batchSize {
		part, err := br.ReadSlice('\n')
		b = append(b, part...)
		if errors.Is(err, bufio.ErrBufferFull) && len(b) < maxLine {
			continue
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return b, err
		}
	}
	for len(b) < maxLine && b[len(b)-1] != '\n' {
		part, err := br.ReadSlice('\n')
		b = append(b, part...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return b, err
		}
	}
	return b, nil
}

func addLines(t Trainer, b batch) error {
	w := t.words()
	for len(b) > 0 {
		line := []byte(b)
		if i := indexNewline(b); i >= 0 {
			line = b[: i+1 : i+1]
		}
		b = b[len(line):]
		w.lines++
		if err := t.Add(line); err != nil {
			return err
		}
	}
	return nil
}

// openText opens a text file at an offset into its text.
func openText(path string, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: train: %w", err)
	}
	var r io.Reader = f
	switch {
	case strings.HasSuffix(path, ".gz"):
		r, err = gzip.NewReader(f)
	case strings.HasSuffix(path, ".zst"):
		r, err = zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<28))
	default:
		_, err = f.Seek(offset, io.SeekStart)
		offset = 0
	}
	if err == nil && offset > 0 {
		_, err = io.CopyN(io.Discard, r, offset)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("tokenizer: train: %s: %w", path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{r, f}, nil
}
