package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// execute runs a command line and returns its exit status and what it printed.
func execute(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	capture := func(stream **os.File, name string) func() string {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		old := *stream
		*stream = f
		return func() string {
			*stream = old
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			return string(data)
		}
	}
	out, errs := capture(&os.Stdout, "out"), capture(&os.Stderr, "err")
	status = run(context.Background(), args)
	return status, out(), errs()
}
