package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"danlu/dtype"
	"danlu/format/pickle"
	"danlu/format/safetensors"
	"danlu/tensor"
)

// OpenOptions says which files of a folder are not the model's.
type OpenOptions struct {
	Skip []string // file names
}

// Open opens the checkpoint in a file or folder. In a folder that is the first of: safetensors, PyTorch's .bin files, each
// with or without an index; Meta's consolidated.NN.pth; one GGUF.
func Open(path string, opts OpenOptions) (Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	if !st.IsDir() {
		switch filepath.Ext(path) {
		case ".safetensors", ".bin", ".pt", ".pth":
			return openShards(path, filepath.Dir(path), []string{filepath.Base(path)}, "", nil)
		case ".gguf":
			return OpenGGUF(path)
		}
		return nil, fmt.Errorf("weights: %s: want a folder or a .safetensors, .gguf, .bin, .pt or .pth file", path)
	}
	for _, form := range []struct{ index, pattern string }{{indexFile, "*.safetensors"}, {"pytorch_model.bin.index.json", "pytorch_model*.bin"}} {
		files, where, err := readIndex(path, form.index)
		if err == nil && files == nil {
			files, err = matching(path, form.pattern, opts.Skip)
		}
		if err != nil {
			return nil, err
		}
		if len(files) > 0 {
			return openShards(path, path, files, form.index, where)
		}
	}
	if parts, err := matching(path, "consolidated.*.pth", nil); err != nil || len(parts) > 0 {
		if err != nil {
			return nil, err
		}
		return openMeta(path, parts)
	}
	one, err := soleGGUF(path)
	if err != nil {
		return nil, err
	}
	if one == "" {
		return nil, fmt.Errorf("weights: %s: holds no weights (model.safetensors, pytorch_model.bin, an index of either, consolidated.00.pth, or one .gguf)", path)
	}
	return OpenGGUF(filepath.Join(path, one))
}

// soleGGUF is the GGUF file of a folder that holds just one, or the first part of just one that is split; "" for none.
func soleGGUF(dir string) (string, error) {
	files, err := matching(dir, "*.gguf", nil)
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
	for _, pattern := range []string{indexFile, "*.safetensors", "pytorch_model*.bin", "pytorch_model.bin.index.json", "consolidated.*.pth", "*.gguf"} {
		if files, err := matching(dir, pattern, nil); err == nil && len(files) > 0 {
			return true
		}
	}
	return false
}

// matching lists the files of a folder whose names match a pattern, sorted.
func matching(dir, pattern string, skip []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	var files []string
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok && !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(skip, e.Name()) {
			files = append(files, e.Name())
		}
	}
	return files, nil
}

const indexFile = "model.safetensors.index.json"

// maxIndex bounds the index file; DeepSeek-V3's has 9 MB.
const maxIndex = 1 << 28

// readIndex reads a sharded checkpoint's index: its files, sorted, and the file of each tensor.
func readIndex(dir, name string) (files []string, where map[string]string, err error) {
	path := filepath.Join(dir, name)
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err == nil && st.Size() > maxIndex {
		err = fmt.Errorf("%s: %d bytes exceed %d", name, st.Size(), maxIndex)
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
		return nil, nil, fmt.Errorf("weights: %s: %w", name, err)
	}
	if len(index.WeightMap) == 0 {
		return nil, nil, fmt.Errorf("weights: %s: weight_map: is empty", name)
	}
	seen := map[string]bool{}
	for tensor, file := range index.WeightMap {
		// An index is somebody else's file: it may only name files beside it.
		if file == "" || file == "." || file == ".." || strings.ContainsAny(file, `/\:`) {
			return nil, nil, fmt.Errorf("weights: %s: weight_map: %q: want a plain file name, got %q", name, tensor, file)
		}
		if !seen[file] {
			seen[file] = true
			files = append(files, file)
		}
	}
	sort.Strings(files)
	return files, index.WeightMap, nil
}

// file is one open file of a checkpoint.
type file interface {
	Source
	Guarded
}

// openFile opens a file by its ending.
func openFile(path string) (file, error) {
	if strings.HasSuffix(path, ".safetensors") {
		return safetensors.Open(path)
	}
	return pickle.Open(path)
}

// shards is a checkpoint of one or more files.
type shards struct {
	path  string
	files []file
	names []string
	owner map[string]file
}

// openShards opens files of dir. where, if not nil, says which file holds which tensor; index is where that was read.
func openShards(path, dir string, files []string, index string, where map[string]string) (Source, error) {
	s := &shards{path: path, owner: map[string]file{}}
	for _, name := range files {
		f, err := openFile(filepath.Join(dir, name))
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
			return nil, fmt.Errorf("weights: %s: tensor %q is not in %s", index, n, file)
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
	f := s.owner[name]
	if f == nil {
		return dtype.Invalid, nil, fmt.Errorf("weights: %s: tensor %q: is missing", s.path, name)
	}
	return f.Describe(name)
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
