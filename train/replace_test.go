package train

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// writeTree writes files by relative path; their text is that path behind a prefix.
func writeTree(t *testing.T, root, prefix string, names ...string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(root, n)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(prefix+n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// tree lists the files under root with their texts.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

var (
	oldFiles = []string{"checkpoint-3/model.safetensors", "checkpoint-9/model.safetensors", "model.safetensors", "metrics.jsonl", "runs/events", "tokenizer.json"}
	newFiles = []string{"checkpoint-2/model.safetensors", "metrics.jsonl", "runs/events"}
	// What no run writes is not deleted.
	foreign = []string{"notes.md", "data/set.jsonl"}
)

// staged is a folder with an old run, files of the user, and a new run beside the old one.
func staged(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeTree(t, dir, "old ", oldFiles...)
	writeTree(t, dir, "user ", foreign...)
	writeTree(t, Staged(dir), "new ", newFiles...)
	return dir
}

func TestReplace(t *testing.T) {
	whole := staged(t)
	if err := Replace(whole); err != nil {
		t.Fatal(err)
	}
	want := tree(t, whole)
	if expected := []string{"new checkpoint-2/model.safetensors", "new metrics.jsonl", "new runs/events", "user data/set.jsonl", "user notes.md"}; !slices.Equal(want, expected) {
		t.Fatalf("%q, want %q", want, expected)
	}
	// A kill on the way leaves one of these states, which Settle carries to the end.
	steps := []func(dir string){
		func(dir string) { writeTree(t, Staged(dir), "", replaceMarker) },
		func(dir string) { os.RemoveAll(filepath.Join(dir, "checkpoint-3")) },
		func(dir string) { os.Remove(filepath.Join(dir, "metrics.jsonl")) },
		func(dir string) {
			for _, n := range oldFiles {
				os.RemoveAll(filepath.Join(dir, n))
			}
			for _, n := range []string{"checkpoint-9", "runs"} {
				os.RemoveAll(filepath.Join(dir, n))
			}
		},
		func(dir string) { writeTree(t, Staged(dir), "", movingMarker) },
		func(dir string) {
			os.Rename(filepath.Join(Staged(dir), "checkpoint-2"), filepath.Join(dir, "checkpoint-2"))
		},
		func(dir string) {
			os.Rename(filepath.Join(Staged(dir), "metrics.jsonl"), filepath.Join(dir, "metrics.jsonl"))
		},
	}
	for cut := 1; cut <= len(steps); cut++ {
		dir := staged(t)
		for _, step := range steps[:cut] {
			step(dir)
		}
		if err := Settle(dir); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, dir); !slices.Equal(got, want) {
			t.Errorf("killed after step %d: %q, want %q", cut, got, want)
		}
	}
}

func TestSettleDropsWhatIsNotComplete(t *testing.T) {
	dir := staged(t)
	writeTree(t, dir, "half ", ".checkpoint-123/model.safetensors")
	if err := Settle(dir); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range oldFiles {
		want = append(want, "old "+n)
	}
	for _, n := range foreign {
		want = append(want, "user "+n)
	}
	slices.Sort(want)
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
