package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"danlu/data/corpus"
)

const (
	// corpusPrefix marks a data set of the built-in corpus: corpus:NAME or corpus:NAME:RECORDS.
	corpusPrefix = "corpus:"
	// corpusRecords is how many records such a set has unless the recipe says so.
	corpusRecords = 4000
	// maxCorpusRecords keeps a slip of the pen from filling the disk.
	maxCorpusRecords = 10_000_000
	// dataFolder is where such sets are written: in the folder of the pipeline, else of the run; train lists it among what
	// may be there before the first checkpoint.
	dataFolder = "corpus"
)

// written replaces the built-in data sets among names by files, which are made where they are not there yet.
func (r *Recipe) written(key string, names []string) ([]string, error) {
	list := make([]string, len(names))
	for i, name := range names {
		set, ok := strings.CutPrefix(name, corpusPrefix)
		if !ok {
			list[i] = name
			continue
		}
		n := corpusRecords
		if at := strings.LastIndex(set, ":"); at >= 0 {
			var err error
			if n, err = strconv.Atoi(set[at+1:]); err != nil || n < 1 || n > maxCorpusRecords {
				return nil, r.Errorf(key, "%s: want a number of records from 1 to %d, got %q", word(name), maxCorpusRecords, set[at+1:])
			}
			set = set[:at]
		}
		root := r.root
		if root == "" {
			root = r.Output.Dir
		}
		list[i] = filepath.Join(root, dataFolder, fmt.Sprintf("%s-%d.jsonl", set, n))
		if err := writeCorpus(list[i], set, n); err != nil {
			return nil, r.Errorf(key, "%v", err)
		}
	}
	return list, nil
}

// writeCorpus writes a built-in data set beside its place and renames it, unless it is there.
func writeCorpus(path, set string, n int) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(corpus.WriteSet(f, set, n), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
