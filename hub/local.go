package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Model is a model in the local store.
type Model struct {
	ID       string `json:"id"`
	Hub      Kind   `json:"hub"`
	Revision string `json:"revision,omitempty"`
	Path     string `json:"path"` // the folder to give to other verbs
	Bytes    int64  `json:"bytes"`
	root     string // what removing it deletes
}

// Find returns the folder of a model of the local store.
func Find(id string) (string, bool) {
	if !ValidID(id) {
		return "", false
	}
	for _, kind := range []Kind{HuggingFace, ModelScope} {
		root, err := cacheRoot(kind)
		if err != nil {
			continue
		}
		s := (&Client{Kind: kind, Cache: root}).store(id)
		if dir, _, ok := s.current(); ok {
			return dir, true
		}
	}
	return "", false
}

// Resolve turns a name of the local store into the model's folder; other names, and names of what is there as a path,
// stay as they are.
func Resolve(name string) string {
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if dir, ok := Find(name); ok {
		return dir
	}
	return name
}

// current is the newest complete revision of a stored model.
func (s store) current() (dir, revision string, ok bool) {
	if s.kind == ModelScope {
		return s.dir, "", isModel(s.dir)
	}
	for _, ref := range []string{"main", "master"} {
		sha, err := os.ReadFile(filepath.Join(s.dir, "refs", ref))
		if err != nil || !isHex(string(sha), 40) {
			continue
		}
		dir := filepath.Join(s.dir, "snapshots", string(sha))
		if isModel(dir) {
			return dir, string(sha), true
		}
	}
	// No branch: the snapshot that was made last.
	entries, err := os.ReadDir(filepath.Join(s.dir, "snapshots"))
	if err != nil {
		return "", "", false
	}
	var newest int64
	for _, e := range entries {
		info, err := e.Info()
		path := filepath.Join(s.dir, "snapshots", e.Name())
		if err == nil && isModel(path) && info.ModTime().UnixNano() > newest {
			newest, dir, revision = info.ModTime().UnixNano(), path, e.Name()
		}
	}
	return dir, revision, dir != ""
}

// isModel reports whether a folder holds a configuration or a GGUF.
func isModel(dir string) bool {
	for _, pattern := range []string{"config.json", "params.json", "*.gguf"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return true
		}
	}
	return false
}

// List lists the models of both hubs' caches, by name.
func List() ([]Model, error) {
	var models []Model
	root, err := cacheRoot(HuggingFace)
	if err != nil {
		return nil, err
	}
	entries, err := folders(root)
	if err != nil {
		return nil, err
	}
	for _, name := range entries {
		rest, ok := strings.CutPrefix(name, "models--")
		id := strings.ReplaceAll(rest, "--", "/")
		if ok && ValidID(id) {
			models, err = appendModel(models, id, store{HuggingFace, filepath.Join(root, name)}, err)
		}
	}
	if root, err = cacheRoot(ModelScope); err != nil {
		return nil, err
	}
	orgs, err := folders(filepath.Join(root, "models"))
	for _, org := range orgs {
		var names []string
		if names, err = folders(filepath.Join(root, "models", org)); err != nil {
			break
		}
		for _, name := range names {
			if id := org + "/" + name; ValidID(id) {
				models, err = appendModel(models, id, store{ModelScope, filepath.Join(root, "models", org, name)}, err)
			}
		}
	}
	sort.SliceStable(models, func(i, j int) bool { return models[i].ID < models[j].ID })
	return models, err
}

func appendModel(models []Model, id string, s store, err error) ([]Model, error) {
	if err != nil {
		return models, err
	}
	dir, revision, ok := s.current()
	if !ok {
		return models, nil
	}
	size, err := diskBytes(s.dir)
	return append(models, Model{ID: id, Hub: s.kind, Revision: revision, Path: dir, Bytes: size, root: s.dir}), err
}

func folders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("hub: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// diskBytes is the size of the files in a folder, links not counted.
func diskBytes(dir string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("hub: %w", err)
	}
	return total, nil
}

// Remove deletes a model with all its revisions from the local store.
func Remove(id string) (Model, error) {
	models, err := List()
	if err != nil {
		return Model{}, err
	}
	var names []string
	for _, m := range models {
		if m.ID == id {
			if err := os.RemoveAll(m.root); err != nil {
				return m, fmt.Errorf("hub: %w", err)
			}
			return m, nil
		}
		names = append(names, m.ID)
	}
	if len(names) == 0 {
		return Model{}, fmt.Errorf("hub: %q: the local store is empty", id)
	}
	return Model{}, fmt.Errorf("hub: %q: is not in the local store, which holds %s", id, strings.Join(names, ", "))
}
