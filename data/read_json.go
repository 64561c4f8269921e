package data

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// jsonReader streams the objects of a JSON array, or of a file of JSON values one after another (JSON lines under the
// name .json among them). Only one element is in memory at a time.
type jsonReader struct {
	r            *bufio.Reader
	max          int
	offset, line int64
	array        bool
	started      bool
	done         bool
	buf          []byte
}

func newJSONReader(s *source, opt ReadOptions) (recordReader, error) {
	// A position inside the file is behind an element, so the bracket was seen; whether it was an array shows in what
	// comes next: a comma or a closing bracket.
	return &jsonReader{r: bufio.NewReaderSize(s.body, 1<<16), max: opt.MaxRowBytes, offset: s.offset, line: s.line, started: s.offset > 0}, nil
}

func (j *jsonReader) pos() (int64, int64) { return j.offset, j.line }
func (j *jsonReader) close() error        { return nil }

func (j *jsonReader) readByte() (byte, error) {
	c, err := j.r.ReadByte()
	if err == nil {
		j.offset++
		if c == '\n' {
			j.line++
		}
	}
	return c, err
}

func (j *jsonReader) unread(c byte) {
	if err := j.r.UnreadByte(); err != nil {
		panic(err) // always follows a ReadByte
	}
	j.offset--
	if c == '\n' {
		j.line--
	}
}

func (j *jsonReader) nonSpace() (byte, error) {
	for {
		c, err := j.readByte()
		if err != nil {
			return 0, err
		}
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c, nil
		}
	}
}

func (j *jsonReader) next() ([]Field, int64, error) {
	if j.done {
		return nil, j.line + 1, io.EOF
	}
	c, err := j.begin()
	if err != nil {
		return nil, j.line + 1, err
	}
	start := j.line + 1
	element, tooLong, err := j.element(c)
	if err != nil {
		return nil, start, err
	}
	if tooLong {
		return nil, start, &RowError{Line: start, Err: errRowTooLong}
	}
	fields, err := parseObject(bytes.Clone(element))
	if err != nil {
		return nil, start, &RowError{Line: start, Err: err}
	}
	return fields, start, nil
}

// begin reads up to the first byte of the next element.
func (j *jsonReader) begin() (byte, error) {
	if !j.started {
		if b, err := j.r.Peek(3); err == nil && bytes.Equal(b, byteOrderMark) {
			if _, err := j.r.Discard(3); err != nil {
				return 0, err
			}
			j.offset += 3
		}
		c, err := j.nonSpace()
		if err != nil {
			return 0, err
		}
		j.started = true
		if c != '[' {
			return c, nil
		}
		j.array = true
		if c, err = j.nonSpace(); err != nil {
			return 0, cutShort(err)
		}
		if c == ']' {
			return 0, j.end()
		}
		return c, nil
	}
	c, err := j.nonSpace()
	switch {
	case err == io.EOF && !j.array:
		return 0, io.EOF
	case err != nil:
		return 0, cutShort(err)
	case c == ',':
		j.array = true
		if c, err = j.nonSpace(); err != nil {
			return 0, cutShort(err)
		}
		return c, nil
	case c == ']':
		return 0, j.end()
	case j.array:
		return 0, fmt.Errorf("JSON array: want , or ] after an element, got %q", c)
	}
	return c, nil
}

// end checks that nothing follows the array.
func (j *jsonReader) end() error {
	if c, err := j.nonSpace(); err == nil {
		return fmt.Errorf("JSON array: want the end of the file after ], got %q", c)
	} else if err != io.EOF {
		return err
	}
	j.done = true
	return io.EOF
}

func cutShort(err error) error {
	if err == io.EOF {
		return errors.New("JSON array: the file ends before the closing ]")
	}
	return err
}

// element reads the bytes of one value by counting brackets outside strings.
func (j *jsonReader) element(c byte) (b []byte, tooLong bool, err error) {
	j.buf = append(j.buf[:0], c)
	depth, inString, escaped := 0, c == '"', false
	if c == '{' || c == '[' {
		depth = 1
	} else if c == '}' || c == ']' || c == ',' || c == ':' {
		return nil, false, fmt.Errorf("JSON: want a value, got %q", c)
	}
	scalar := depth == 0 && !inString
	for depth > 0 || inString || scalar {
		c, err := j.readByte()
		if err == io.EOF && scalar {
			break
		}
		if err == io.EOF {
			return nil, false, errors.New("JSON: the file ends inside a record")
		}
		if err != nil {
			return nil, false, err
		}
		if scalar && (c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\t' || c == '\r') {
			j.unread(c)
			break
		}
		if len(j.buf) < j.max {
			j.buf = append(j.buf, c)
		} else {
			tooLong = true
		}
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"' && !scalar:
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
	}
	return j.buf, tooLong, nil
}
