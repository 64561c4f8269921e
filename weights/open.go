package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"danlu/dtype"
	"danlu/format/safetensors"
	"danlu/tensor"
)

// OpenOptions says which files of a folder are not the model's.
type OpenOptions struct {
	Skip []string // file names
}

// Open opens the checkpoint in a folder or file: a GGUF file, or model.safetensors.index.json and its shards, or every
// .safetensors file of the folder.
func Open(path string, opts OpenOptions) (Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	if !st.IsDir() {
		if strings.HasSuffix(path, ".safetensors") {
			return openShards(path, filepath.Dir(path), []string{filepath.Base(path)}, nil)
		}
		if strings.HasSuffix(path, ".gguf") {
			return OpenGGUF(path)
		}
		return nil, fmt.Errorf("weights: %s: want a folder, a .safetensors or a .gguf file", path)
	}
	if files, where, err := readIndex(path); err != nil || files != nil {
		if err != nil {
			return nil, err
		}
		return openShards(path, path, files, where)
	}
	files, err := byEnding(path, ".safetensors", opts.Skip)
	if err != nil {
		return nil, err
	}
	if len(files) > 0 {
		return openShards(path, path, files, nil)
	}
	one, err := soleGGUF(path)
	if err != nil {
		return nil, err
	}
	if one == "" {
		return nil, fmt.Errorf("weights: %s: holds no weights (model.safetensors, model.safetensors.index.json or one .gguf)", path)
	}
	return OpenGGUF(filepath.Join(path, one))
}

// soleGGUF is the GGUF file of a folder that holds just one, or the first part of just one that is split; "" for none.
func soleGGUF(dir string) (string, error) {
	files, err := byEnding(dir, ".gguf", nil)
	if err != nil {
		return "", err
	}
	var found []string
	for _, f := range files {
		if m := laterPart.FindStringSubmatch(f); (m == nil || m[1] == "00001") && !strings.HasPrefix(f, "mmproj") {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("weights: %s: holds several models: give one of %s", dir, some(found))
}

var laterPart = regexp.MustCompile(`-(\d{5})-of-\d{5}\.gguf$`)

// Present reports whether a folder holds weights.
func Present(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, indexFile)); err == nil {
		return true
	}
	for _, ending := range []string{".safetensors", ".gguf"} {
		if files, err := byEnding(dir, ending, nil); err == nil && len(files) > 0 {
			return true
		}
	}
	return false
}

func byEnding(dir, ending string, skip []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	var files []string
next:
	for _, e := range entries {
		for _, s := range skip {
			if e.Name() == s {
				continue next
			}
		}
		if strings.HasSuffix(e.Name(), ending) && !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, e.Name())
		}
	}
	return files, nil
}

const indexFile = "model.safetensors.index.json"

// maxIndex bounds the index file; DeepSeek-V3's has 9 MB.
const maxIndex = 1 << 28

// readIndex reads a sharded checkpoint's index: its files, sorted, and the file of each tensor.
func readIndex(dir string) (files []string, where map[string]string, err error) {
	path := filepath.Join(dir, indexFile)
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err == nil && st.Size() > maxIndex {
		err = fmt.Errorf("%s: %d bytes exceed %d", indexFile, st.Size(), maxIndex)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("weights: %w", err)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, nil, fmt.Errorf("weights: %s: %w", indexFile, err)
	}
	if len(index.WeightMap) == 0 {
		return nil, nil, fmt.Errorf("weights: %s: weight_map: is empty", indexFile)
	}
	seen := map[string]bool{}
	for name, file := range index.WeightMap {
		// An index is somebody else's file: it may only name files beside it.
		if file == "" || file == "." || file == ".." || strings.ContainsAny(file, `/\:`) {
			return nil, nil, fmt.Errorf("weights: %s: weight_map: %q: want a plain file name, got %q", indexFile, name, file)
		}
		if !seen[file] {
			seen[file] = true
			files = append(files, file)
		}
	}
	sort.Strings(files)
	return files, index.WeightMap, nil
}

// shards is a checkpoint of one or more safetensors files.
type shards struct {
	path  string
	files []*safetensors.File
	names []string
	owner map[string]*safetensors.File
}

func openShards(path, dir string, files []string, where map[string]string) (Source, error) {
	s := &shards{path: path, owner: map[string]*safetensors.File{}}
	for _, name := range files {
		f, err := safetensors.Open(filepath.Join(dir, name))
		if err != nil {
			s.Close()
			return nil, err
		}
		s.files = append(s.files, f)
		for _, n := range f.Names() {
			if where != nil && where[n] != name {
				continue
			}
			if s.owner[n] != nil {
				s.Close()
				return nil, fmt.Errorf("weights: %s: tensor %q is in %s too", name, n, filepath.Base(s.owner[n].Path()))
			}
			s.owner[n] = f
			s.names = append(s.names, n)
		}
	}
	for n, file := range where {
		if s.owner[n] == nil {
			s.Close()
			return nil, fmt.Errorf("weights: %s: tensor %q is not in %s", indexFile, n, file)
		}
	}
	return s, nil
}

// Path implements Source.
func (s *shards) Path() string { return s.path }

// Names implements Source.
func (s *shards) Names() []string { return s.names }

// Describe implements Source.
func (s *shards) Describe(name string) (dtype.DType, []int, error) {
	t, err := s.Tensor(name)
	if err != nil {
		return dtype.Invalid, nil, err
	}
	return t.DType, t.Shape, nil
}

// Tensor implements Source.
func (s *shards) Tensor(name string) (*tensor.Tensor, error) {
	f := s.owner[name]
	if f == nil {
		return nil, fmt.Errorf("weights: %s: tensor %q: is missing", s.path, name)
	}
	return f.Tensor(name)
}

// Guard implements Guarded.
func (s *shards) Guard(read func() error) error {
	for _, f := range s.files {
		inner := read
		read = func() error { return f.Guard(inner) }
	}
	return read()
}

// Close implements Source.
func (s *shards) Close() error {
	var err error
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}
