//go:build !noxla

package xla

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"danlu/engine/xla/pjrt"
	"danlu/internal/numtest"
)

func TestKeepCompiled(t *testing.T) {
	if kind, err := pjrt.KindOf("cpu"); err != nil {
		t.Fatal(err)
	} else if _, err := kind.Find(); err != nil {
		numtest.NoPlugin(t, err)
	}
	dir := filepath.Join(t.TempDir(), "compiled")
	opts := Options{Plugin: "cpu", CacheDir: dir}
	text := []byte(`module { func.func public @main(%a: tensor<4xf32>) -> tensor<4xf32> { return %a : tensor<4xf32> } }`)
	files := func() []os.DirEntry {
		t.Helper()
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for round := range 3 {
		e, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		x, err := e.(*Engine).compile(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		e.Close()
		list := files()
		if len(list) != 1 {
			t.Fatalf("round %d: %d files, want 1", round, len(list))
		}
		path := filepath.Join(dir, list[0].Name())
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 { // a file cut short is compiled anew
			if err := os.Truncate(path, info.Size()/2); err != nil {
				t.Fatal(err)
			}
		}
		if round == 2 && time.Since(info.ModTime()) > time.Minute {
			t.Error("a program that was used keeps its old date")
		}
	}
}
