package mmap

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	want := bytes.Repeat([]byte("danlu"), 3000)
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Data, want) {
		t.Error("mapped bytes differ")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Dir(path)); err == nil {
		t.Error("a folder was mapped")
	}
	if _, err := Open(path + ".none"); err == nil {
		t.Error("a missing file was mapped")
	}
}

func TestGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 10); err != nil {
		t.Skip("SKIPPED: the system does not cut mapped files: ", err)
	}
	sum := 0
	err = f.Guard(func() error {
		for _, b := range f.Data {
			sum += int(b)
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("reading a file that was cut short: %v", err)
	}
}

func TestForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	want := make([]byte, 5*os.Getpagesize()+100)
	for i := range want {
		want[i] = byte(i * 7)
	}
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, cut := range [][2]int{{0, len(want)}, {1, len(want)}, {10, 20}, {100, 2*os.Getpagesize() + 5}, {0, 0}} {
		Forget(f.Data[cut[0]:cut[1]])
		if !bytes.Equal(f.Data, want) {
			t.Fatalf("after Forget of %v: the data changed", cut)
		}
	}
	own := bytes.Clone(want) // memory of our own stays as it is
	Forget(own)
	if !bytes.Equal(own, want) {
		t.Fatal("Forget changed memory that is not mapped")
	}
}
