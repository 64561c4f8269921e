package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/tensor"
)

// raw is a file of the given header and number of data bytes.
func raw(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

func open(t *testing.T, data []byte) (*File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

func TestRoundTrip(t *testing.T) {
	infos := []Info{{"a", dtype.F32, []int{2, 3}}, {"empty", dtype.BF16, []int{0, 4}}, {"scalar", dtype.I64, nil}, {"codes", dtype.F8E4M3, []int{5}}}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	value := func(i Info) (*tensor.Tensor, error) {
		x := tensor.New(i.DType, i.Shape...)
		for k := range x.Data {
			x.Data[k] = byte(k + len(i.Name))
		}
		return x, nil
	}
	if err := Write(path, infos, map[string]string{"format": "pt"}, value); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Names()) != len(infos) || f.Metadata()["format"] != "pt" {
		t.Errorf("names %v, metadata %v", f.Names(), f.Metadata())
	}
	for _, i := range infos {
		got, err := f.Tensor(i.Name)
		want, _ := value(i)
		if err != nil || got.String() != want.String() || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: %v %v, want %v", i.Name, got, err, want)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v", left)
	}
}

func TestWriteFailureLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := Write(path, []Info{{"a", dtype.F32, []int{2}}}, nil, func(Info) (*tensor.Tensor, error) { return tensor.New(dtype.F32, 3), nil })
	if err == nil || !strings.Contains(err.Error(), `x.safetensors: tensor "a"`) {
		t.Errorf("a tensor of another shape was written: %v", err)
	}
	if data, _ := os.ReadFile(path); string(data) != "old" {
		t.Error("the old file is gone")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("a temporary file was left: %v", left)
	}
}

// broken are headers, each with what the error must say.
var broken = []struct {
	header string
	data   int
	want   string
}{
	{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 7, `tensor "a": data_offsets`},
	{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 9, "1 bytes belong to no tensor"},
	{`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8, `tensor "a": shape [3] of F32: want 12 bytes`},
	{`{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}`, 8, `tensor "a": dtype: "F33"`},
	{`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4, `tensor "a": shape: is missing`},
	{`{"a":{"dtype":"F32","shape":[2]}}`, 8, `tensor "a": data_offsets`},
	{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8, `tensor "a": data_offsets`},
	{`{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8, `tensor "a": tensor: shape [-2]`},
	{`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}`, 8, "overflows"},
	{`{"a":{"dtype":"F32","shape":[1e99],"data_offsets":[0,8]}}`, 8, `tensor "a"`},
	{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]}}`, 8, `tensor "a"`},
	{`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`, 6, `tensor "b": data_offsets: want a start at 4`},
	{`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}}`, 9, "a gap or an overlap"},
	{`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2, `tensor "a": is described twice`},
	{"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "header: is not valid UTF-8"},
	{`{"a":[]}`, 0, `tensor "a"`},
	{`{"__metadata__":{"a":1}}`, 0, "__metadata__"},
	{`[]`, 0, "want a JSON object"},
	{`{"a":`, 0, `tensor "a"`},
	{`{} {}`, 0, "follow the JSON object"},
	{strings.Repeat("[", 1000), 0, "want a JSON object"},
	{`{"a":` + strings.Repeat("[", 20000), 0, `tensor "a"`},
}

func TestBroken(t *testing.T) {
	for _, c := range broken {
		_, err := open(t, raw(c.header, c.data))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "safetensors: x.safetensors: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: want one line about %q, got %v", c.header, c.want, err)
		}
	}
	good := raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)
	for n := range good {
		if _, err := open(t, good[:n]); err == nil {
			t.Errorf("a file cut at %d was opened", n)
		}
	}
	for _, length := range []uint64{1 << 20, maxHeader + 1, 1 << 63, 1<<64 - 1} {
		huge := bytes.Clone(good)
		binary.LittleEndian.PutUint64(huge, length)
		if _, err := open(t, huge); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("header: its length %d", length)) {
			t.Errorf("a header of %d bytes: %v", length, err)
		}
	}
}

// TestFlipped flips every bit of a small file: what still opens must describe tensors that lie within it.
func TestFlipped(t *testing.T) {
	good := raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}`, 12)
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if f, err := Parse(bad); err == nil {
			checkFile(t, f, len(bad))
		}
	}
}

func checkFile(t *testing.T, f *File, size int) {
	sum := 0
	for _, n := range f.Names() {
		x, err := f.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Data) != x.DType.Bytes(x.Len()) {
			t.Fatalf("tensor %q: %v has %d bytes", n, x, len(x.Data))
		}
		sum += len(x.Data)
	}
	if sum > size {
		t.Fatalf("tensors of %d bytes in a file of %d", sum, size)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range broken {
		f.Add(raw(c.header, c.data))
	}
	f.Add(raw(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		checkFile(t, file, len(data))
		// What was read can be written, and reads back the same.
		var infos []Info
		for _, n := range file.Names() {
			x, _ := file.Tensor(n)
			infos = append(infos, Info{n, x.DType, x.Shape})
		}
		path := filepath.Join(t.TempDir(), "x.safetensors")
		if err := Write(path, infos, file.Metadata(), func(i Info) (*tensor.Tensor, error) { return file.Tensor(i.Name) }); err != nil {
			t.Fatal(err)
		}
		again, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		for _, n := range file.Names() {
			a, _ := file.Tensor(n)
			b, err := again.Tensor(n)
			if err != nil || !bytes.Equal(a.Data, b.Data) || a.String() != b.String() {
				t.Fatalf("tensor %q: %v came back as %v (%v)", n, a, b, err)
			}
		}
	})
}
