package weights

import (
	"encoding/binary"
	"io"
	"math"
	"path/filepath"
	"testing"

	"danlu/dtype"
	"danlu/format/safetensors"
)

func TestCopyResized(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	infos := []safetensors.Info{{Name: "embed.weight", DType: dtype.F32, Shape: []int{3, 2}}, {Name: "norm.weight", DType: dtype.F32, Shape: []int{2}}}
	err := safetensors.Stream(filepath.Join(dir, "model.safetensors"), infos, nil, func(i safetensors.Info, w io.Writer) error {
		for k := range i.Bytes() / 4 {
			if err := binary.Write(w, binary.LittleEndian, float32(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	src, err := Open(dir, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	from := [][]int{{0}, {1}, {2}, {0, 2}, nil, nil}
	size := Resize{Old: 3, New: len(from), From: func(r int) []int { return from[r] }}
	if err := CopyResized(out, src, size, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := Open(out, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	x, err := got.Tensor("embed.weight")
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{0, 1, 2, 3, 4, 5, 2, 3, 2, 3, 2, 3}
	for i, w := range want {
		if v := math.Float32frombits(binary.LittleEndian.Uint32(x.Data[4*i:])); v != w {
			t.Errorf("value %d: got %g, want %g", i, v, w)
		}
	}
	if n, err := got.Tensor("norm.weight"); err != nil || n.Shape[0] != 2 {
		t.Errorf("norm.weight: %v (%v)", n, err)
	}
	for _, bad := range []Resize{{Old: 3, New: 2}, {Old: 7, New: 9, From: size.From}} {
		if err := CopyResized(t.TempDir(), src, bad, CopyOptions{}); err == nil {
			t.Errorf("%d to %d rows: want an error", bad.Old, bad.New)
		}
	}
}
