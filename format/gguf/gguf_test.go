package gguf

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
)

func text(s string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
}

// sample is a file with metadata of three types and one Q4_0 tensor of shape [2, 32].
func sample(version uint32, name string, typ uint32, cols uint64) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("GGUF"), version)
	b = le.AppendUint64(le.AppendUint64(b, 1), 3)
	b = append(le.AppendUint32(append(b, text("general.architecture")...), 8), text("llama")...)
	b = le.AppendUint32(le.AppendUint32(append(b, text("llama.block_count")...), 4), 30)
	b = le.AppendUint64(le.AppendUint32(le.AppendUint32(append(b, text("tokens")...), 9), 8), 2)
	b = append(append(b, text("a")...), text("b")...)
	b = le.AppendUint32(append(b, text(name)...), 2)
	b = le.AppendUint64(le.AppendUint64(b, cols), 2)
	b = le.AppendUint64(le.AppendUint32(b, typ), 0)
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, 36)...)
}

func open(t testing.TB, data []byte) (*File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

func TestOpen(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		f, err := open(t, sample(version, "w", 2, 32))
		if err != nil {
			t.Fatal(err)
		}
		w, err := f.Tensor("w")
		if err != nil || w.DType != dtype.Q4_0 || w.Shape[0] != 2 || w.Shape[1] != 32 || len(w.Data) != 36 {
			t.Errorf("tensor w: %v, %v", w, err)
		}
		if s, err := f.Text("general.architecture"); err != nil || s != "llama" {
			t.Errorf("architecture %q, %v", s, err)
		}
		if n, err := f.Int("llama.block_count"); err != nil || n != 30 {
			t.Errorf("block count %d, %v", n, err)
		}
		if s, err := f.Texts("tokens"); err != nil || strings.Join(s, " ") != "a b" {
			t.Errorf("tokens %q, %v", s, err)
		}
		if _, err := f.Int("tokens"); err == nil || !strings.Contains(err.Error(), "tokens: want an integer") {
			t.Errorf("an array read as an integer: %v", err)
		}
	}
}

func TestBroken(t *testing.T) {
	good := sample(3, "w", 2, 32)
	huge := append([]byte(nil), good...)
	binary.LittleEndian.PutUint64(huge[8:], 1<<60)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"cut":     {good[:len(good)-1], `tensor "w"`},
		"count":   {huge, "do not fit the file"},
		"version": {sample(9, "w", 2, 32), "version"},
		"type":    {sample(3, "w", 99, 32), `tensor "w": type 99`},
		"rows":    {sample(3, "w", 2, 33), "multiple of 32"},
		"size":    {sample(3, "w", 2, 1<<62), "overflows"},
		"utf-8":   {sample(3, "\xff", 2, 32), "UTF-8"},
		"empty":   {nil, "header"},
	} {
		if _, err := open(t, c.data); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "gguf: x.gguf: ") {
			t.Errorf("%s: want an error about %q, got %v", name, c.want, err)
		}
	}
	for n := range good {
		if _, err := open(t, good[:n]); err == nil {
			t.Errorf("a file cut at %d was opened", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(3, "w", 2, 32))
	f.Fuzz(func(t *testing.T, data []byte) {
		g := &File{path: "fuzz"}
		if err := g.parse(data); err == nil && len(g.names) != len(g.tensors) {
			t.Error("names and tensors differ in number")
		}
	})
}
