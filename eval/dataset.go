package eval

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"danlu/chat/jinja"
	"danlu/data"
	"danlu/hub"
)

// Dataset is where a task's items come from: files, a folder, a dataset of the hub's cache, or a generator.
type Dataset struct {
	Path    string              // "json", "csv", "parquet", "text", a folder, ORG/NAME, or danlu:GENERATOR
	Name    string              // configuration of a dataset of the hub
	Files   map[string][]string // by split
	Options *jinja.Dict         // dataset_kwargs of a generator
	base    string              // folder of the task file
}

// maxItems bounds the items of a split.
const maxItems = 5_000_000

// loaders are dataset_path's names of file formats.
var loaders = []string{"json", "csv", "parquet", "text"}

// generatorPrefix begins the names of the generators.
const generatorPrefix = "danlu:"

// load reads the items of a split.
func (s *Dataset) load(split string) ([]Doc, error) {
	if name, ok := strings.CutPrefix(s.Path, generatorPrefix); ok {
		return s.generate(name, split)
	}
	files, err := s.find(split)
	if err != nil {
		return nil, err
	}
	docs, err := readDocs(files)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("split %s: %s: no items", split, strings.Join(files, ", "))
	}
	return docs, nil
}

// find returns the files of a split.
func (s *Dataset) find(split string) ([]string, error) {
	if slices.Contains(loaders, s.Path) || len(s.Files) > 0 {
		patterns, ok := s.Files[split]
		if !ok {
			return nil, fmt.Errorf("split %s: dataset_kwargs.data_files has none of that name", split)
		}
		return s.expand(patterns)
	}
	for _, dir := range []string{filepath.Join(s.base, s.Path), s.Path} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return splitFiles(dir, s.Name, split)
		}
	}
	dir, ok := hub.FindDataset(s.Path)
	if !ok {
		return nil, fmt.Errorf("dataset_path: %q is neither a folder nor in the hub's cache; download it there, or name files with dataset_path: json and dataset_kwargs: {data_files: ...}", s.Path)
	}
	return splitFiles(dir, s.Name, split)
}

// expand finds the files of patterns, beside the task file or from the working folder.
func (s *Dataset) expand(patterns []string) ([]string, error) {
	var files []string
	for _, p := range patterns {
		found := false
		for _, path := range []string{filepath.Join(s.base, p), p} {
			if filepath.IsAbs(p) {
				path = p
			}
			names, err := filepath.Glob(path)
			if err != nil {
				return nil, fmt.Errorf("data_files: %q: %w", p, err)
			}
			if len(names) > 0 {
				files, found = append(files, names...), true
				break
			}
		}
		if !found {
			return nil, fmt.Errorf("data_files: %s: no such file", p)
		}
	}
	return files, nil
}

// splitFiles finds the files of a split in a dataset's folder: in the configuration's folder if there is one, in data,
// or at the top; their names are the split's, or begin with it.
func splitFiles(dir, config, split string) ([]string, error) {
	for _, sub := range []string{config, filepath.Join("data", config), filepath.Join(config, "data"), "data", ""} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			continue
		}
		var files []string
		for _, e := range entries {
			name := e.Name()
			rest, ok := strings.CutPrefix(strings.TrimPrefix(name, config+"_"), split)
			if ok && !e.IsDir() && rest != "" && strings.ContainsRune("-._", rune(rest[0])) && data.Supported(name) {
				files = append(files, filepath.Join(dir, sub, name))
			}
		}
		if len(files) > 0 {
			sort.Strings(files)
			return files, nil
		}
	}
	return nil, fmt.Errorf("split %s: %s has no file of it; want %s.jsonl, %s-*.parquet or the like", split, dir, split, split)
}

// readDocs reads records. A column that is not in every record is None where it is missing, as in a table.
func readDocs(files []string) ([]Doc, error) {
	r, err := data.Open(files, data.ReadOptions{TextUnit: "line"})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var docs []Doc
	var names []string
	known := map[string]bool{}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(docs) == maxItems {
			return nil, fmt.Errorf("%s: want at most %d items", row.File, maxItems)
		}
		d, err := docOf(&row)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", row.File, row.Line, err)
		}
		for _, f := range row.Fields {
			if !known[f.Name] {
				known[f.Name], names = true, append(names, f.Name)
			}
		}
		docs = append(docs, d)
	}
	for _, n := range names {
		inferType(docs, n)
	}
	for i, d := range docs {
		if d.Len() == len(names) {
			continue
		}
		full := jinja.NewDict()
		for _, n := range names {
			v, _ := d.Get(n)
			full.SetString(n, v)
		}
		docs[i] = full
	}
	return docs, nil
}

func docOf(row *data.Row) (Doc, error) {
	d := jinja.NewDict()
	for _, f := range row.Fields {
		if f.Raw == nil {
			if typeless(row.File) {
				d.SetString(f.Name, cell(f.Text))
			} else {
				d.SetString(f.Name, f.Text)
			}
			continue
		}
		v, err := jinja.ParseJSON(f.Raw)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		d.SetString(f.Name, v)
	}
	return d, nil
}

// typeless reports whether a file's values are written without types.
func typeless(file string) bool {
	name := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(file), ".gz"), ".zst")
	return strings.HasSuffix(name, ".csv") || strings.HasSuffix(name, ".tsv")
}

// cell is a value of a file without types, until the whole column is known.
type cell string

// inferType gives a column of cells the type that all its values have: whole numbers, numbers, else text. An empty cell
// of numbers is None.
func inferType(docs []Doc, name string) {
	cells, whole, numbers := false, true, true
	for _, d := range docs {
		v, _ := d.Get(name)
		c, ok := v.(cell)
		if !ok || c == "" {
			cells = cells || ok
			continue
		}
		cells = true
		_, notWhole := strconv.ParseInt(string(c), 10, 64)
		_, notNumber := strconv.ParseFloat(string(c), 64)
		whole, numbers = whole && notWhole == nil, numbers && notNumber == nil
	}
	if !cells {
		return
	}
	for _, d := range docs {
		v, _ := d.Get(name)
		c, ok := v.(cell)
		switch {
		case !ok:
		case !numbers:
			d.SetString(name, string(c))
		case c == "":
			d.SetString(name, nil)
		case whole:
			n, _ := strconv.ParseInt(string(c), 10, 64)
			d.SetString(name, n)
		default:
			x, _ := strconv.ParseFloat(string(c), 64)
			d.SetString(name, x)
		}
	}
}
