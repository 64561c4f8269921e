package data

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A Store keeps encoded samples on disk: samples.bin holds the records one after another, index.bin 16 bytes a sample
// (offset of the record 8, tokens of its first sequence 4, source 2, language 1, flags 1), meta.json the totals and
// checksums. All numbers are little-endian. Reading one sample costs two small reads whatever the size of the set.
type Store struct {
	dir     string
	temp    bool
	meta    storeMeta
	samples *os.File
	index   *os.File
}

type storeMeta struct {
	Format      string   `json:"format"`
	Fingerprint string   `json:"fingerprint"`
	Samples     int64    `json:"samples"`
	Bytes       int64    `json:"bytes"`
	Tokens      int64    `json:"tokens"`
	Scored      int64    `json:"scored"`
	Files       []string `json:"files"`
	Ranges      []Range  `json:"sources"`
	Report      *Report  `json:"report"`
	SamplesCRC  uint32   `json:"samples_crc32c"`
	IndexCRC    uint32   `json:"index_crc32c"`
}

// Range says which samples of a store are one dataset's: First <= i < Last.
type Range struct {
	Name  string `json:"name"`
	First int64  `json:"first"`
	Last  int64  `json:"last"`
}

const (
	storeFormat = "danlu tokens 1"
	indexSize   = 16
	// maxRecord bounds what a corrupt store can make a reader allocate.
	maxRecord = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	flagLabel     = 1 << 0
	flagTruncated = 1 << 1
	flagMasked    = 1 << 2
)

// Labels of a sequence are stored as nothing (all scored), one bit a token (scored or not), or in full.
const (
	labelsNone = iota
	labelsBits
	labelsFull
)

type storeWriter struct {
	store       *Store
	fileIndex   map[string]uint32
	samples     *bufio.Writer
	index       *bufio.Writer
	sCRC, iCRC  uint32
	offset      int64
	samplesFile *os.File
	indexFile   *os.File
	buf         []byte
}

func newStoreWriter(dir string) (*storeWriter, error) {
	w := &storeWriter{store: &Store{dir: dir}, fileIndex: map[string]uint32{}}
	if dir == "" {
		temp, err := os.MkdirTemp("", "danlu-tokens-")
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		w.store.dir, w.store.temp = temp, true
	} else if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("data: tokenized_path: %w", err)
	}
	var err error
	if w.samplesFile, err = os.Create(filepath.Join(w.store.dir, "samples.bin")); err == nil {
		w.indexFile, err = os.Create(filepath.Join(w.store.dir, "index.bin"))
	}
	if err != nil {
		w.abort()
		return nil, fmt.Errorf("data: %w", err)
	}
	w.samples, w.index = bufio.NewWriterSize(w.samplesFile, 1<<18), bufio.NewWriterSize(w.indexFile, 1<<16)
	return w, nil
}

func (w *storeWriter) abort() {
	if w.samplesFile != nil {
		w.samplesFile.Close()
	}
	if w.indexFile != nil {
		w.indexFile.Close()
	}
	if w.store.temp {
		os.RemoveAll(w.store.dir)
	}
}

// note is the part of a sample that is not tokens.
type note struct {
	File   uint32            `json:"f"`
	Line   int64             `json:"l"`
	Images []string          `json:"i,omitempty"`
	Videos []string          `json:"v,omitempty"`
	Audios []string          `json:"a,omitempty"`
	Extra  map[string]string `json:"x,omitempty"`
}

func (w *storeWriter) add(s *Sample) error {
	file, ok := w.fileIndex[s.File]
	if !ok {
		file = uint32(len(w.store.meta.Files))
		w.fileIndex[s.File] = file
		w.store.meta.Files = append(w.store.meta.Files, s.File)
	}
	le := binary.LittleEndian
	b := append(w.buf[:0], byte(len(s.Sequences)))
	for _, q := range s.Sequences {
		kind := labelsNone
		if q.Labels != nil {
			kind = labelsBits
			for i, l := range q.Labels {
				if l != Ignore && l != q.IDs[i] {
					kind = labelsFull
					break
				}
			}
		}
		b = append(b, byte(kind))
		b = le.AppendUint32(b, uint32(len(q.IDs)))
		for _, id := range q.IDs {
			b = le.AppendUint32(b, uint32(id))
		}
		switch kind {
		case labelsBits:
			bits := make([]byte, (len(q.Labels)+7)/8)
			for i, l := range q.Labels {
				if l != Ignore {
					bits[i/8] |= 1 << (i % 8)
				}
			}
			b = append(b, bits...)
		case labelsFull:
			for _, l := range q.Labels {
				b = le.AppendUint32(b, uint32(l))
			}
		}
	}
	n, err := json.Marshal(note{File: file, Line: s.Line, Images: s.Images, Videos: s.Videos, Audios: s.Audios, Extra: s.Extra})
	if err != nil {
		return err
	}
	b = append(b, n...)
	w.buf = b
	if len(b) > maxRecord {
		return fmt.Errorf("sample of %d bytes", len(b))
	}
	var flags byte
	if s.Label {
		flags |= flagLabel
	}
	if s.Truncated {
		flags |= flagTruncated
	}
	if s.Sequences[0].Labels != nil {
		flags |= flagMasked
	}
	var entry [indexSize]byte
	le.PutUint64(entry[:], uint64(w.offset))
	le.PutUint32(entry[8:], uint32(len(s.Sequences[0].IDs)))
	le.PutUint16(entry[12:], uint16(s.Source))
	entry[14], entry[15] = s.Language, flags
	w.sCRC = crc32.Update(w.sCRC, castagnoli, b)
	w.iCRC = crc32.Update(w.iCRC, castagnoli, entry[:])
	w.offset += int64(len(b))
	m := &w.store.meta
	m.Samples++
	for _, q := range s.Sequences {
		m.Tokens += int64(len(q.IDs))
		m.Scored += int64(q.Scored())
	}
	if _, err := w.samples.Write(b); err != nil {
		return err
	}
	_, err = w.index.Write(entry[:])
	return err
}

// finish writes meta.json last, under a temporary name: a store without it is incomplete and is made anew.
func (w *storeWriter) finish(fingerprint string, report *Report, ranges []Range) (*Store, error) {
	s := w.store
	err := errors.Join(w.samples.Flush(), w.index.Flush())
	if err == nil && !s.temp {
		err = errors.Join(w.samplesFile.Sync(), w.indexFile.Sync())
	}
	if err != nil {
		w.abort()
		return nil, fmt.Errorf("data: %s: %w", s.dir, err)
	}
	s.samples, s.index = w.samplesFile, w.indexFile
	m := &s.meta
	m.Format, m.Fingerprint, m.Bytes, m.Report, m.Ranges = storeFormat, fingerprint, w.offset, report, ranges
	m.SamplesCRC, m.IndexCRC = w.sCRC, w.iCRC
	if s.temp {
		return s, nil
	}
	raw, err := json.MarshalIndent(m, "", " ")
	if err == nil {
		path := filepath.Join(s.dir, "meta.json")
		if err = os.WriteFile(path+".tmp", raw, 0o666); err == nil {
			err = os.Rename(path+".tmp", path)
		}
	}
	if err != nil {
		w.abort()
		return nil, fmt.Errorf("data: %s: %w", s.dir, err)
	}
	return s, nil
}

// OpenStore opens a folder that Build wrote and checks sizes and checksums.
// errors: os.ErrNotExist when there is no complete store; anything else is a damaged one.
func OpenStore(dir string) (*Store, error) {
	path := filepath.Join(dir, "meta.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	s := &Store{dir: dir}
	if err := json.Unmarshal(raw, &s.meta); err != nil {
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	if s.meta.Format != storeFormat {
		return nil, fmt.Errorf("data: %s: format: want %q, got %q", path, storeFormat, s.meta.Format)
	}
	open := func(name string, size int64, sum uint32) (*os.File, error) {
		p := filepath.Join(dir, name)
		f, err := os.Open(p)
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		crc := crc32.New(castagnoli)
		n, err := io.Copy(crc, f)
		if err == nil && n != size {
			err = fmt.Errorf("want %d bytes, got %d", size, n)
		}
		if err == nil && crc.Sum32() != sum {
			err = errors.New("wrong checksum")
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("data: %s: %w; remove the folder to prepare the data anew", p, err)
		}
		return f, nil
	}
	if s.meta.Samples < 0 || s.meta.Samples > 1<<40 {
		return nil, fmt.Errorf("data: %s: samples: got %d", path, s.meta.Samples)
	}
	if s.samples, err = open("samples.bin", s.meta.Bytes, s.meta.SamplesCRC); err != nil {
		return nil, err
	}
	if s.index, err = open("index.bin", s.meta.Samples*indexSize, s.meta.IndexCRC); err != nil {
		s.samples.Close()
		return nil, err
	}
	return s, nil
}

// Close releases the files and removes a temporary store.
func (s *Store) Close() error {
	err := errors.Join(s.samples.Close(), s.index.Close())
	if s.temp {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// Len returns the number of samples.
func (s *Store) Len() int64 { return s.meta.Samples }

// Tokens and Scored are totals over all sequences; Scored counts tokens that a causal model is trained on.
func (s *Store) Tokens() int64 { return s.meta.Tokens }

// Scored returns how many tokens are trained on in one pass over all samples.
func (s *Store) Scored() int64 { return s.meta.Scored }

// Report returns what was counted while the store was made.
func (s *Store) Report() *Report { return s.meta.Report }

// Sources returns which samples belong to which dataset.
func (s *Store) Sources() []Range { return s.meta.Ranges }

// SourceTokens counts the tokens of each dataset and says which hold samples that say themselves what is scored.
func (s *Store) SourceTokens() (tokens []int64, masked []bool, err error) {
	tokens, masked = make([]int64, len(s.Sources())), make([]bool, len(s.Sources()))
	err = s.Entries(func(_ int64, e Entry) {
		tokens[e.Source] += int64(e.Length)
		masked[e.Source] = masked[e.Source] || e.Masked
	})
	return tokens, masked, err
}

// Checksum identifies the encoded samples and their order, wherever they are kept.
func (s *Store) Checksum() string { return fmt.Sprintf("%08x%08x", s.meta.SamplesCRC, s.meta.IndexCRC) }

// Fingerprint identifies files and encoder settings of a store with a path; "" for a temporary one.
func (s *Store) Fingerprint() string { return s.meta.Fingerprint }

// Entry is what the index knows of a sample without reading it.
type Entry struct {
	Length    int // tokens of the first sequence
	Source    int
	Language  byte
	Label     bool
	Truncated bool
	Masked    bool // the first sequence has labels: not every token is scored
	offset    int64
}

// Entry reads the index entry of sample i.
func (s *Store) Entry(i int64) (Entry, error) {
	var b [indexSize]byte
	if i < 0 || i >= s.meta.Samples {
		return Entry{}, fmt.Errorf("data: sample: want 0..%d, got %d", s.meta.Samples-1, i)
	}
	if _, err := s.index.ReadAt(b[:], i*indexSize); err != nil {
		return Entry{}, fmt.Errorf("data: %s: index of sample %d: %w", s.dir, i, err)
	}
	return parseEntryBytes(b[:]), nil
}

func parseEntryBytes(b []byte) Entry {
	le := binary.LittleEndian
	return Entry{Length: int(le.Uint32(b[8:])), Source: int(le.Uint16(b[12:])), Language: b[14], Label: b[15]&flagLabel != 0, Truncated: b[15]&flagTruncated != 0, Masked: b[15]&flagMasked != 0, offset: int64(le.Uint64(b))}
}

// Entries calls f for every sample in order, reading the index in large pieces.
func (s *Store) Entries(f func(i int64, e Entry)) error {
	r := bufio.NewReaderSize(io.NewSectionReader(s.index, 0, s.meta.Samples*indexSize), 1<<18)
	var b [indexSize]byte
	for i := range s.meta.Samples {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return fmt.Errorf("data: %s: index of sample %d: %w", s.dir, i, err)
		}
		f(i, parseEntryBytes(b[:]))
	}
	return nil
}

// Sample reads sample i.
func (s *Store) Sample(i int64) (*Sample, error) {
	e, err := s.Entry(i)
	if err != nil {
		return nil, err
	}
	end := s.meta.Bytes
	if i+1 < s.meta.Samples {
		next, err := s.Entry(i + 1)
		if err != nil {
			return nil, err
		}
		end = next.offset
	}
	if e.offset < 0 || end < e.offset || end > s.meta.Bytes || end-e.offset > maxRecord {
		return nil, fmt.Errorf("data: %s: sample %d: record from %d to %d", s.dir, i, e.offset, end)
	}
	b := make([]byte, end-e.offset)
	if _, err := s.samples.ReadAt(b, e.offset); err != nil {
		return nil, fmt.Errorf("data: %s: sample %d: %w", s.dir, i, err)
	}
	sample, file, err := decodeSample(b)
	if err != nil || int(file) >= len(s.meta.Files) {
		return nil, fmt.Errorf("data: %s: sample %d: damaged record", s.dir, i)
	}
	sample.File = s.meta.Files[file]
	sample.Source, sample.Language, sample.Label, sample.Truncated = e.Source, e.Language, e.Label, e.Truncated
	return sample, nil
}

// Piece reads n tokens of the first sequence of sample i from start on. Where every token is scored (pretraining) only
// these bytes are read, so that cutting a book into rows costs its length once.
func (s *Store) Piece(i int64, start, n int) (Sequence, error) {
	e, err := s.Entry(i)
	if err != nil {
		return Sequence{}, err
	}
	if start < 0 || n < 0 || start+n > e.Length {
		return Sequence{}, fmt.Errorf("data: sample %d: tokens %d to %d of %d", i, start, start+n, e.Length)
	}
	var head [6]byte // sequences, kind of labels, tokens
	if e.offset < 0 || e.offset+int64(len(head))+4*int64(e.Length) > s.meta.Bytes {
		return Sequence{}, fmt.Errorf("data: %s: sample %d: damaged record", s.dir, i)
	}
	if _, err := s.samples.ReadAt(head[:], e.offset); err != nil {
		return Sequence{}, fmt.Errorf("data: %s: sample %d: %w", s.dir, i, err)
	}
	if head[0] == 1 && head[1] == labelsNone && int(binary.LittleEndian.Uint32(head[2:])) == e.Length {
		b := make([]byte, 4*n)
		if _, err := s.samples.ReadAt(b, e.offset+int64(len(head))+4*int64(start)); err != nil {
			return Sequence{}, fmt.Errorf("data: %s: sample %d: %w", s.dir, i, err)
		}
		q := Sequence{IDs: make([]int32, n)}
		for k := range q.IDs {
			q.IDs[k] = int32(binary.LittleEndian.Uint32(b[4*k:]))
		}
		return q, nil
	}
	sample, err := s.Sample(i)
	if err != nil {
		return Sequence{}, err
	}
	q := sample.Sequences[0]
	if start+n > len(q.IDs) {
		return Sequence{}, fmt.Errorf("data: %s: sample %d: damaged record", s.dir, i)
	}
	return Sequence{IDs: q.IDs[start : start+n], Labels: cutLabels(q.Labels, start, start+n)}, nil
}

func cutLabels(labels []int32, start, end int) []int32 {
	if labels == nil {
		return nil
	}
	return labels[start:end]
}

var errRecord = errors.New("damaged record")

func decodeSample(b []byte) (*Sample, uint32, error) {
	le := binary.LittleEndian
	if len(b) < 1 {
		return nil, 0, errRecord
	}
	sequences := int(b[0])
	b = b[1:]
	s := &Sample{}
	for range sequences {
		if len(b) < 5 {
			return nil, 0, errRecord
		}
		kind, n := b[0], int(le.Uint32(b[1:]))
		b = b[5:]
		if n > len(b)/4 {
			return nil, 0, errRecord
		}
		q := Sequence{IDs: make([]int32, n)}
		for i := range q.IDs {
			q.IDs[i] = int32(le.Uint32(b[4*i:]))
		}
		b = b[4*n:]
		switch kind {
		case labelsNone:
		case labelsBits:
			if len(b) < (n+7)/8 {
				return nil, 0, errRecord
			}
			q.Labels = make([]int32, n)
			for i := range q.Labels {
				q.Labels[i] = Ignore
				if b[i/8]&(1<<(i%8)) != 0 {
					q.Labels[i] = q.IDs[i]
				}
			}
			b = b[(n+7)/8:]
		case labelsFull:
			if n > len(b)/4 {
				return nil, 0, errRecord
			}
			q.Labels = make([]int32, n)
			for i := range q.Labels {
				q.Labels[i] = int32(le.Uint32(b[4*i:]))
			}
			b = b[4*n:]
		default:
			return nil, 0, errRecord
		}
		s.Sequences = append(s.Sequences, q)
	}
	var n note
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, 0, err
	}
	s.Line, s.Images, s.Videos, s.Audios, s.Extra = n.Line, n.Images, n.Videos, n.Audios, n.Extra
	return s, n.File, nil
}
