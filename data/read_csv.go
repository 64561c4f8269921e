package data

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// csvReader reads .csv and .tsv files. The first record names the columns.
type csvReader struct {
	r            *csv.Reader
	limit        *limitReader
	names        []string
	offset, line int64 // where the body starts
	ended        int64 // lines of the body up to the end of the last record
	max          int
}

// limitReader ends a runaway record (a quote never closed) before it fills the memory.
type limitReader struct {
	r    io.Reader
	left int
}

func (l *limitReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errRowTooLong
	}
	if len(p) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}

func newCSVReader(s *source, opt ReadOptions) (recordReader, error) {
	c := &csvReader{offset: s.offset, line: s.line, max: opt.MaxRowBytes}
	comma := ','
	if s.ext == ".tsv" {
		comma = '\t'
	}
	if s.offset > 0 { // the names stand at the head of the file
		head, err := openSource(s.path, 0, 0)
		if err != nil {
			return nil, err
		}
		defer head.close()
		h := &csvReader{max: opt.MaxRowBytes}
		h.start(head.body, comma)
		if err := h.header(); err != nil {
			return nil, err
		}
		c.names = h.names
	}
	c.start(s.body, comma)
	if s.offset == 0 {
		if err := c.header(); err != nil && err != io.EOF {
			return nil, err
		}
	}
	return c, nil
}

func (c *csvReader) start(body io.Reader, comma rune) {
	c.limit = &limitReader{r: body, left: c.max}
	c.r = csv.NewReader(bufio.NewReaderSize(c.limit, 1<<16))
	c.r.Comma = comma
	c.r.FieldsPerRecord = -1
	c.r.LazyQuotes = comma == '\t'
}

func (c *csvReader) header() error {
	names, err := c.r.Read()
	if err != nil {
		return err
	}
	names[0] = strings.TrimPrefix(names[0], string(byteOrderMark))
	seen := map[string]bool{}
	for i, n := range names {
		names[i] = strings.TrimSpace(n)
		if seen[names[i]] {
			return fmt.Errorf("header: column %q stands twice", names[i])
		}
		seen[names[i]] = true
	}
	c.ended = c.lastLine(names)
	c.names = names
	return nil
}

// lastLine returns the line on which the record just read ends.
func (c *csvReader) lastLine(values []string) int64 {
	last := len(values) - 1
	row, _ := c.r.FieldPos(last)
	return int64(row + strings.Count(values[last], "\n"))
}

func (c *csvReader) pos() (int64, int64) {
	return c.offset + c.r.InputOffset(), c.line + c.ended
}

func (c *csvReader) close() error { return nil }

func (c *csvReader) next() ([]Field, int64, error) {
	c.limit.left = c.max
	before := c.r.InputOffset()
	values, err := c.r.Read()
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse) && c.r.InputOffset() > before:
		c.ended = int64(parse.Line)
		return nil, int64(parse.StartLine) + c.line, &RowError{Line: int64(parse.StartLine) + c.line, Err: parse.Err}
	case err != nil:
		return nil, c.line, err
	}
	row, _ := c.r.FieldPos(0)
	c.ended = c.lastLine(values)
	line := int64(row) + c.line
	if len(values) != len(c.names) {
		return nil, line, &RowError{Line: line, Err: fmt.Errorf("want %d columns (%s), got %d", len(c.names), strings.Join(c.names, ", "), len(values))}
	}
	fields := make([]Field, len(values))
	for i, v := range values {
		if !utf8.ValidString(v) {
			return nil, line, &RowError{Line: line, Err: fmt.Errorf("column %s: %w", c.names[i], errInvalidUTF8)}
		}
		fields[i] = Field{Name: c.names[i], Text: v}
	}
	return fields, line, nil
}

// looksLikeParagraphs reports whether a text file separates paragraphs by blank lines, judged by its first 64 KiB.
func looksLikeParagraphs(path string) (bool, error) {
	s, err := openSource(path, 0, 0)
	if err != nil {
		return false, err
	}
	defer s.close()
	head := make([]byte, 1<<16)
	n, err := io.ReadFull(s.body, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		if os.IsNotExist(err) {
			return false, err
		}
		return false, fmt.Errorf("data: %s: %w", path, err)
	}
	head = bytes.ReplaceAll(bytes.TrimSpace(head[:n]), []byte("\r\n"), []byte("\n"))
	return bytes.Contains(head, []byte("\n\n")), nil
}
