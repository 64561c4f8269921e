package hub

import (
	"os"
	"path/filepath"
	"strings"
)

// FindDataset returns the folder of a dataset in Hugging Face's cache: the newest of its main branch, else the snapshot
// that was made last.
func FindDataset(id string) (string, bool) {
	if !ValidID(id) {
		return "", false
	}
	root, err := cacheRoot(HuggingFace)
	if err != nil {
		return "", false
	}
	dir := filepath.Join(root, "datasets--"+strings.ReplaceAll(id, "/", "--"))
	if sha, err := os.ReadFile(filepath.Join(dir, "refs", "main")); err == nil && isHex(string(sha), 40) {
		if path := filepath.Join(dir, "snapshots", string(sha)); isDir(path) {
			return path, true
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		return "", false
	}
	newest, found := int64(0), ""
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && info.ModTime().UnixNano() > newest {
			newest, found = info.ModTime().UnixNano(), filepath.Join(dir, "snapshots", e.Name())
		}
	}
	return found, found != ""
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
