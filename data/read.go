package data

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Pos is where a Files reader stands. Seeking to it costs O(1) for plain text, JSON lines, CSV, JSON arrays and parquet;
// compressed files are decompressed up to the place without being parsed.
type Pos struct {
	File   int   `json:"file"`   // index into Files.Paths
	Offset int64 `json:"offset"` // byte offset in the decompressed file; row number for parquet
	Line   int64 `json:"line"`   // lines before the offset
}

// ReadOptions says how files are read. The zero value suits most files.
type ReadOptions struct {
	TextUnit    string // what one record of a .txt file is: "line" (default), "paragraph" (separated by blank lines) or "document" (the file)
	MaxRowBytes int    // a longer record is malformed; 0 means 64 MiB
}

const defaultMaxRowBytes = 64 << 20

// formats maps a file name's end to its record reader.
var formats = map[string]func(*source, ReadOptions) (recordReader, error){
	".txt":     newTextReader,
	".text":    newTextReader,
	".md":      newTextReader,
	".jsonl":   newLinesReader,
	".ndjson":  newLinesReader,
	".json":    newJSONReader,
	".csv":     newCSVReader,
	".tsv":     newCSVReader,
	".parquet": newParquetReader,
}

// recordReader reads the records of one file.
type recordReader interface {
	// next returns the fields and the line where the record starts (1-based).
	// errors: io.EOF at the end, *RowError for a record that can be passed over, others end the file.
	next() (fields []Field, line int64, err error)
	// pos returns the offset and number of lines before the next record.
	pos() (offset, line int64)
	close() error
}

// source is one open file: plain or decompressed bytes.
type source struct {
	path   string // as the user names it
	ext    string // format end without compression
	file   *os.File
	offset int64 // where body starts in the decompressed file
	line   int64
	body   io.Reader
	closer []func() error
}

func (s *source) close() error {
	var err error
	for i := len(s.closer) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closer[i]())
	}
	return err
}

// splitExt returns the format and compression ends of a file name, in lower case.
func splitExt(path string) (format, compression string) {
	name := strings.ToLower(filepath.Base(path))
	switch e := filepath.Ext(name); e {
	case ".gz", ".zst":
		return filepath.Ext(strings.TrimSuffix(name, e)), e
	default:
		return e, ""
	}
}

// Supported reports whether a file's name ends like a dataset file's.
func Supported(path string) bool {
	ext, compression := splitExt(path)
	_, ok := formats[ext]
	return ok && (compression == "" || ext != ".parquet")
}

// openSource opens the file and moves to an offset of the decompressed bytes.
func openSource(path string, offset, line int64) (*source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	ext, compression := splitExt(path)
	s := &source{path: path, ext: ext, file: f, offset: offset, line: line, closer: []func() error{f.Close}}
	fail := func(err error) (*source, error) {
		s.close()
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	switch compression {
	case ".gz":
		z, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<16))
		if err != nil {
			return fail(err)
		}
		s.closer = append(s.closer, z.Close)
		s.body = z
	case ".zst":
		// The window bounds what a hostile frame can make the decoder allocate.
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return fail(err)
		}
		s.closer = append(s.closer, func() error { z.Close(); return nil })
		s.body = z
	default:
		if ext != ".parquet" && offset > 0 {
			info, err := f.Stat()
			if err != nil {
				return fail(err)
			}
			if offset > info.Size() {
				return fail(fmt.Errorf("position %d lies behind the end %d: the file has changed", offset, info.Size()))
			}
			if _, err := f.Seek(offset, io.SeekStart); err != nil {
				return fail(err)
			}
		}
		s.body = f
		return s, nil
	}
	if offset > 0 {
		if _, err := io.CopyN(io.Discard, s.body, offset); err != nil {
			return fail(fmt.Errorf("position %d: %w", offset, err))
		}
	}
	return s, nil
}

// Files reads the records of a list of files one after another.
type Files struct {
	Paths []string
	opt   ReadOptions
	pos   Pos
	src   *source
	rec   recordReader
}

// Open expands folders (recursively, in name order, files of known formats, hidden ones left out) and returns a reader
// of all records. A path of unknown format and a folder without dataset files are errors.
func Open(paths []string, opt ReadOptions) (*Files, error) {
	if opt.MaxRowBytes <= 0 {
		opt.MaxRowBytes = defaultMaxRowBytes
	}
	switch opt.TextUnit {
	case "", "line", "paragraph", "document":
	default:
		return nil, fmt.Errorf("data: text_unit: want line, paragraph or document, got %q", opt.TextUnit)
	}
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	return &Files{Paths: files, opt: opt}, nil
}

func expand(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		if !info.IsDir() {
			if !Supported(p) {
				return nil, fmt.Errorf("data: %s: unknown format; want one of .txt .jsonl .json .csv .tsv .parquet, or the text ones with .gz or .zst", p)
			}
			files = append(files, p)
			continue
		}
		var found []string
		err = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if name := d.Name(); path != p && strings.HasPrefix(name, ".") {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if !d.IsDir() && Supported(path) && d.Name() != InfoFile {
				found = append(found, path)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("data: %s: %w", p, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("data: %s: no dataset file in this folder; want .txt .jsonl .json .csv .tsv or .parquet", p)
		}
		sort.Strings(found)
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, errors.New("data: no dataset file given")
	}
	return files, nil
}

// Next returns the next record. It returns io.EOF after the last one, a *RowError for a malformed record (reading may
// go on), and any other error when a file cannot be read further.
func (f *Files) Next() (Row, error) {
	for {
		if f.rec == nil {
			if f.pos.File >= len(f.Paths) {
				return Row{}, io.EOF
			}
			if err := f.open(); err != nil {
				return Row{}, err
			}
		}
		path := f.Paths[f.pos.File]
		fields, line, err := f.rec.next()
		f.pos.Offset, f.pos.Line = f.rec.pos()
		if err == io.EOF {
			if err := f.shut(); err != nil {
				return Row{}, fmt.Errorf("data: %s: %w", path, err)
			}
			f.pos = Pos{File: f.pos.File + 1}
			continue
		}
		var bad *RowError
		if errors.As(err, &bad) {
			bad.File = path
			return Row{}, bad
		}
		if err != nil {
			return Row{}, fmt.Errorf("data: %s:%d: %w", path, line, err)
		}
		return Row{File: path, Line: line, Fields: fields}, nil
	}
}

// Pos returns the place of the record that Next will return.
func (f *Files) Pos() Pos { return f.pos }

// Seek moves to a place that Pos returned for the same list of files.
func (f *Files) Seek(p Pos) error {
	if p.File < 0 || p.File > len(f.Paths) || p.Offset < 0 || p.Line < 0 {
		return fmt.Errorf("data: position: want file 0..%d and offsets of at least 0, got %+v", len(f.Paths), p)
	}
	if err := f.shut(); err != nil {
		return err
	}
	f.pos = p
	return nil
}

// Close releases the open file.
func (f *Files) Close() error { return f.shut() }

func (f *Files) open() error {
	s, err := openSource(f.Paths[f.pos.File], f.pos.Offset, f.pos.Line)
	if err != nil {
		return err
	}
	rec, err := formats[s.ext](s, f.opt)
	if err != nil {
		s.close()
		return fmt.Errorf("data: %s: %w", s.path, err)
	}
	f.src, f.rec = s, rec
	return nil
}

func (f *Files) shut() error {
	if f.rec == nil {
		return nil
	}
	err := errors.Join(f.rec.close(), f.src.close())
	f.rec, f.src = nil, nil
	return err
}
