package pickle

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/quant"
)

func float(t *testing.T, f *File, name string) (string, []float32) {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	d, shape, err := f.Describe(name)
	if err != nil || d != x.DType || fmt.Sprint(shape) != fmt.Sprint(x.Shape) {
		t.Errorf("%s: described as %v%v (%v), is %v", name, d, shape, err, x)
	}
	values := make([]float32, x.Len())
	switch {
	case x.DType.IsFloat():
		if err := quant.Dequantize(x.DType, values, x.Data); err != nil {
			t.Fatal(err)
		}
	case x.DType == dtype.I64:
		for i, v := range x.I64() {
			values[i] = float32(v)
		}
	default:
		for i := range values {
			values[i] = float32(int8(x.Data[i*x.DType.BlockBytes()]))
		}
	}
	return x.String(), values
}

func TestOpen(t *testing.T) {
	count := func(from, n, step int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(from + i*step)
		}
		return out
	}
	transposed := []float32{}
	for c := range 6 {
		transposed = append(transposed, count(c, 4, 6)...)
	}
	for _, file := range []string{"zip.pt", "legacy.pt"} {
		f, err := Open(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, what string
			values     []float32
		}{
			{"plain", "f32[4 6]", count(0, 24, 1)}, {"shared_a", "f32[3 4]", count(0, 12, 1)}, {"shared_b", "f32[4 3]", count(6, 12, 1)},
			{"transposed", "f32[6 4]", transposed}, {"column", "f32[4]", count(2, 4, 6)}, {"scalar", "f32[]", []float32{7.5}}, {"empty", "f32[0 3]", nil},
			{"half", "f16[6]", count(0, 6, 1)}, {"bfloat", "bf16[6]", count(0, 6, 1)}, {"double", "f64[6]", count(0, 6, 1)}, {"long", "i64[6]", count(-3, 6, 1)},
			{"int8", "i8[6]", count(-3, 6, 1)}, {"bool", "bool[3]", []float32{1, 0, 1}}, {"parameter", "f32[4]", count(0, 4, 1)},
		} {
			what, values := float(t, f, c.name)
			if what != c.what || fmt.Sprint(values) != fmt.Sprint(append([]float32{}, c.values...)) {
				t.Errorf("%s: %s: %s %v, want %s %v", file, c.name, what, values, c.what, c.values)
			}
		}
		if len(f.Names()) != 14 {
			t.Errorf("%s: names %v", file, f.Names())
		}
		f.Close()
	}
	f, err := Open("testdata/wrapped.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if what, values := float(t, f, "w"); what != "f32[4]" || values[3] != 3 {
		t.Errorf("wrapped: %s %v", what, values)
	}
	g, err := Open("testdata/new_types.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if what, values := float(t, g, "f8"); what != "f8e4m3[6]" || values[5] != 5 {
		t.Errorf("float8: %s %v", what, values)
	}
	if what, _ := float(t, g, "u16"); what != "u16[6]" {
		t.Errorf("uint16: %s", what)
	}
}

// TestRefuses holds that nothing but tensors is built, and that the error names what was asked for.
func TestRefuses(t *testing.T) {
	for _, name := range []string{"evil.pt", "evil_legacy.pt"} {
		_, err := Open(filepath.Join("testdata", name))
		if err == nil || !strings.Contains(err.Error(), name+": ") || !strings.Contains(err.Error(), "system") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, program := range []string{
		"cos\nsystem\n(S'true'\ntR.", "cbuiltins\neval\n(S'1'\ntR.", "ctorch._utils\n_rebuild_tensor_v2\n)R.", "ccollections\nOrderedDict\n(I1\ntR.",
		"\x80\x09.", "", ".", "R", "(", "}(I1\nu.", "}I1\na.", "h\x07.", "X\xff\xff\xff\xff.", "\x8a\xff", "\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
		"X\x01\x00\x00\x00\xff.", "I99999999999999999999\n.", "(i", "cos\n", "Q.", "(Q.", "]}R.",
	} {
		if v, err := newMachine([]byte(program), nil).run(); err == nil {
			t.Errorf("%q gives %v", program, v)
		}
	}
}

// TestBroken cuts and flips files: each is an error, or tensors within the file.
func TestBroken(t *testing.T) {
	for _, name := range []string{"wrapped.pt", "legacy.pt"} {
		good, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(good); n += 7 {
			read(t, good[:n])
		}
		for i := 0; i < len(good)*8; i += 5 {
			bad := bytes.Clone(good)
			bad[i/8] ^= 1 << (i % 8)
			read(t, bad)
		}
	}
}

// read parses a file and reads all of its tensors.
func read(t *testing.T, data []byte) {
	t.Helper()
	f := &File{path: "memory"}
	if f.parse(data) != nil {
		return
	}
	for _, n := range f.Names() {
		x, err := f.Tensor(n)
		if err == nil && len(x.Data) != x.DType.Bytes(x.Len()) {
			t.Fatalf("tensor %q: %v of %d bytes", n, x, len(x.Data))
		}
		if err == nil && len(x.Data) > len(data) {
			t.Fatalf("tensor %q: %d bytes of a file of %d", n, len(x.Data), len(data))
		}
	}
}

func FuzzOpen(f *testing.F) {
	files, err := filepath.Glob("testdata/*.pt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { read(t, data) })
}
