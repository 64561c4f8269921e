package data

import (
	"bufio"
	"bytes"
	"io"
	"unicode/utf8"
)

// byteOrderMark opens some Windows text files; it is no part of the text.
var byteOrderMark = []byte("\xef\xbb\xbf")

// lineScanner reads lines of bounded length and knows where it stands.
type lineScanner struct {
	r      *bufio.Reader
	max    int
	offset int64 // of the next line
	line   int64 // lines read
	buf    []byte
}

func newLineScanner(s *source, max int) *lineScanner {
	return &lineScanner{r: bufio.NewReaderSize(s.body, 1<<16), max: max, offset: s.offset, line: s.line}
}

// read returns the next line without its end; tooLong is set when it was passed over for its length. The bytes are
// valid until the next call. io.EOF comes only after the last line.
func (l *lineScanner) read() (b []byte, tooLong bool, err error) {
	l.buf = l.buf[:0]
	first := l.offset == 0
	for {
		part, err := l.r.ReadSlice('\n')
		l.offset += int64(len(part))
		if len(l.buf)+len(part) > l.max {
			tooLong = true
			l.buf = l.buf[:0]
		} else if !tooLong {
			l.buf = append(l.buf, part...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil && err != io.EOF {
			return nil, false, err
		}
		if err == io.EOF && len(l.buf) == 0 && !tooLong {
			return nil, false, io.EOF
		}
		break
	}
	l.line++
	b = bytes.TrimSuffix(l.buf, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	if first {
		b = bytes.TrimPrefix(b, byteOrderMark)
	}
	return b, tooLong, nil
}

// textReader reads .txt files: a record is a line, a paragraph or the whole file, with the single field "text".
// Blank lines hold no record.
type textReader struct {
	lines *lineScanner
	unit  string
	max   int
}

func newTextReader(s *source, opt ReadOptions) (recordReader, error) {
	return &textReader{lines: newLineScanner(s, opt.MaxRowBytes), unit: opt.TextUnit, max: opt.MaxRowBytes}, nil
}

func (t *textReader) pos() (int64, int64) { return t.lines.offset, t.lines.line }
func (t *textReader) close() error        { return nil }

func (t *textReader) next() ([]Field, int64, error) {
	var text []byte
	var start int64
	bad := error(nil)
	for {
		b, tooLong, err := t.lines.read()
		if err == io.EOF {
			if start == 0 {
				return nil, t.lines.line, io.EOF
			}
			break
		}
		if err != nil {
			return nil, t.lines.line, err
		}
		blank := !tooLong && len(bytes.TrimSpace(b)) == 0
		if blank && (start == 0 || t.unit == "paragraph") {
			if start == 0 {
				continue
			}
			break
		}
		if start == 0 {
			start = t.lines.line
		} else {
			text = append(text, '\n')
		}
		switch {
		case tooLong || len(text)+len(b) > t.max:
			bad, text = errRowTooLong, nil
		case !utf8.Valid(b):
			bad, text = errInvalidUTF8, nil
		case bad == nil:
			text = append(text, b...)
		default:
			text = nil
		}
		if t.unit == "" || t.unit == "line" {
			break
		}
	}
	if bad != nil {
		return nil, start, &RowError{Line: start, Err: bad}
	}
	if t.unit == "document" || t.unit == "paragraph" {
		text = bytes.TrimRight(text, " \t\n")
	}
	return []Field{{Name: "text", Text: string(text)}}, start, nil
}

// linesReader reads JSON lines: one object a line, blank lines passed over.
type linesReader struct{ lines *lineScanner }

func newLinesReader(s *source, opt ReadOptions) (recordReader, error) {
	return &linesReader{lines: newLineScanner(s, opt.MaxRowBytes)}, nil
}

func (l *linesReader) pos() (int64, int64) { return l.lines.offset, l.lines.line }
func (l *linesReader) close() error        { return nil }

func (l *linesReader) next() ([]Field, int64, error) {
	for {
		b, tooLong, err := l.lines.read()
		if err != nil {
			return nil, l.lines.line, err
		}
		if tooLong {
			return nil, l.lines.line, &RowError{Line: l.lines.line, Err: errRowTooLong}
		}
		if len(bytes.TrimSpace(b)) == 0 {
			continue
		}
		fields, err := parseObject(bytes.Clone(b))
		if err != nil {
			return nil, l.lines.line, &RowError{Line: l.lines.line, Err: err}
		}
		return fields, l.lines.line, nil
	}
}
