package quant

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
)

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func floats(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	decodeF32(v, b)
	return v
}

func typeOf(t *testing.T, name string) dtype.DType {
	t.Helper()
	d, err := dtype.Parse(strings.ToLower(name))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type goldenIndex struct {
	Dequantize map[string]json.RawMessage
	Quantize   map[string]json.RawMessage
	RMSE       map[string]map[string]struct{ RMSE float64 } `json:"quantize_rmse"`
	Input      struct{ File string }                        `json:"quantize_input"`
	Inputs     struct {
		Shape  []int
		Seed   uint64
		First8 map[string][]float64
	} `json:"rmse_inputs"`
}

func TestGoldenQuant(t *testing.T) {
	dir := numtest.Goldens(t, "quant")
	var index goldenIndex
	if err := json.Unmarshal(readFile(t, dir, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	cases := 0
	for name := range index.Dequantize {
		want := floats(readFile(t, dir, name+".f32"))
		got := make([]float32, len(want))
		if err := Dequantize(typeOf(t, name), got, readFile(t, dir, name+".blocks.bin")); err != nil {
			t.Fatal(err)
		}
		cases++
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Errorf("dequantize %s: value %d: want %g, got %g", name, i, want[i], got[i])
				break
			}
		}
	}
	for name := range index.Quantize {
		x, want := floats(readFile(t, dir, index.Input.File)), readFile(t, dir, name+".quantized.bin")
		got := make([]byte, len(want))
		if err := Quantize(typeOf(t, name), got, x); err != nil {
			t.Fatal(err)
		}
		cases++
		if !bytes.Equal(got, want) {
			t.Errorf("quantize %s: bytes differ", name)
		}
	}
	inputs := rmseInputs(index.Inputs.Seed, index.Inputs.Shape[0], index.Inputs.Shape[1])
	for kind, first := range index.Inputs.First8 {
		for i, w := range first {
			if g := float64(inputs[kind][i]); !(math.Abs(g-w) <= 1e-6*math.Abs(w)) {
				t.Fatalf("input %s: value %d: want %g, got %g", kind, i, w, g)
			}
		}
	}
	for name, kinds := range index.RMSE {
		d := typeOf(t, name)
		for kind, ref := range kinds {
			got := rmse(t, d, inputs[kind])
			cases++
			limit := ref.RMSE * (1 + 1e-6)
			if d.BlockLen() == superLen {
				limit = ref.RMSE * 1.02
			}
			if !(got <= limit) {
				t.Errorf("quantize %s: %s: rmse %.9g, want at most %.9g (ratio %.4f)", name, kind, got, limit, got/ref.RMSE)
			}
			t.Logf("%s %s: rmse ratio %.5f", name, kind, got/ref.RMSE)
		}
	}
	numtest.Count(t, "quant", cases)
}

func rmse(t *testing.T, d dtype.DType, x []float32) float64 {
	t.Helper()
	b, y := make([]byte, d.Bytes(len(x))), make([]float32, len(x))
	if err := Quantize(d, b, x); err != nil {
		t.Fatal(err)
	}
	if err := Dequantize(d, y, b); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i := range x {
		e := float64(y[i]) - float64(x[i])
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(x)))
}

func rmseInputs(seed uint64, rows, cols int) map[string][]float32 {
	state := seed
	next := func() float64 {
		state += 0x9E3779B97F4A7C15
		z := state
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		return (float64((z^z>>31)>>11) + 0.5) / (1 << 53)
	}
	m := map[string][]float32{}
	add := func(i int, n float64) {
		m["normal"] = append(m["normal"], float32(0.02*n))
		m["cubed"] = append(m["cubed"], float32(0.01*n*n*n))
		m["rowscaled"] = append(m["rowscaled"], float32(n*0.001*math.Pow(1.1, float64(i/cols))))
	}
	for i := 0; i < rows*cols; i += 2 {
		u1, u2 := next(), next()
		r := math.Sqrt(-2 * math.Log(u1))
		add(i, r*math.Cos(2*math.Pi*u2))
		add(i+1, r*math.Sin(2*math.Pi*u2))
	}
	return m
}

func TestGoldenFP8(t *testing.T) {
	dir := numtest.Goldens(t, "quant")
	var tables map[string]struct{ Table []any }
	if err := json.Unmarshal(readFile(t, dir, "fp8_tables.json"), &tables); err != nil {
		t.Fatal(err)
	}
	decode := map[string]func(byte) float32{"e4m3fn": E4M3ToF32, "e5m2": E5M2ToF32}
	encode := map[string]func(float32) byte{"e4m3fn": F32ToE4M3, "e5m2": F32ToE5M2}
	cases := 0
	for kind, tab := range tables {
		for c, v := range tab.Table {
			want, ok := v.(float64)
			if s, text := v.(string); text {
				want, ok = map[string]float64{"nan": math.NaN(), "inf": math.Inf(1), "-inf": math.Inf(-1)}[s], true
			}
			if got := float64(decode[kind](byte(c))); !ok || got != want && !(got != got && want != want) {
				t.Errorf("%s: code %#x: want %v, got %v", kind, c, v, got)
			}
		}
		x, codes := floats(readFile(t, dir, "fp8_"+kind+"_input.f32")), readFile(t, dir, "fp8_"+kind+"_codes.u8")
		for i, v := range x {
			got := encode[kind](v)
			if w := decode[kind](codes[i]); got != codes[i] && !(w != w && decode[kind](got) != decode[kind](got)) {
				t.Errorf("%s: %g: want code %#x, got %#x", kind, v, codes[i], got)
			}
		}
		cases += 2
	}
	f := open(t, dir, "fp8_block128.safetensors")
	w, err := f.Tensor("weight")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, w.Len())
	if err := DequantizeFP8Tiles(got, w.Data, f32(t, f, "weight_scale_inv"), w.Shape[0], w.Shape[1], 128); err != nil {
		t.Fatal(err)
	}
	near(t, "fp8_block128", got, f32(t, f, "dequant_f32"), 0)
	rounded := make([]byte, 2*len(got))
	encodeBF16(rounded, got)
	if b, err := f.Tensor("dequant_bf16"); err != nil || !bytes.Equal(b.Data, rounded) {
		t.Errorf("fp8_block128: bfloat16 values differ (%v)", err)
	}
	f = open(t, dir, "fp8_act_group128.safetensors")
	x := f32(t, f, "x")
	q, scales := make([]byte, len(x)), make([]float32, len(x)/128)
	if err := QuantizeFP8Groups(q, scales, x, 128); err != nil {
		t.Fatal(err)
	}
	near(t, "act scale", scales, f32(t, f, "scale"), 0)
	if b, err := f.Tensor("q"); err != nil || !bytes.Equal(b.Data, q) {
		t.Errorf("fp8_act_group128: codes differ (%v)", err)
	}
	got = make([]float32, len(x))
	if err := DequantizeFP8Groups(got, q, scales, 128); err != nil {
		t.Fatal(err)
	}
	near(t, "act dequant", got, f32(t, f, "dequant"), 0)
	numtest.Count(t, "quant/fp8", cases+2)
}

func open(t *testing.T, dir, name string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// f32 reads a tensor as float32 values.
func f32(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, x.Len())
	if err := Dequantize(x.DType, v, x.Data); err != nil {
		t.Fatal(err)
	}
	return v
}

func near(t *testing.T, what string, got, want []float32, rel float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: want %d values, got %d", what, len(want), len(got))
	}
	for i := range got {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= rel*math.Abs(float64(want[i]))) {
			t.Errorf("%s: value %d: want %g, got %g", what, i, want[i], got[i])
			return
		}
	}
}

// sameCodes allows another code only where the value lies within 1e-6 of the boundary between the two.
func sameCodes(t *testing.T, what string, c *Codebook, got, want []byte, absmax, x []float32, block int) {
	t.Helper()
	at := func(q []byte, i int) float64 {
		if c.perByte() == 1 {
			return float64(c.values[q[i]])
		}
		return float64(c.values[q[i/2]>>(4&^(i&1*4))&15])
	}
	for i := range x {
		g, w := at(got, i), at(want, i)
		if v := float64(x[i]) / float64(absmax[i/block]); g != w && !(math.Abs(v-(g+w)/2) <= 1e-6) {
			t.Errorf("%s: value %d (%g): want %g, got %g", what, i, v, w, g)
			return
		}
	}
}

func TestGoldenFourBit(t *testing.T) {
	dir := numtest.Goldens(t, "quant")
	f := open(t, dir, "nf4.safetensors")
	raw := func(name string) []byte {
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		return x.Data
	}
	run := func(what string, c *Codebook, x []float32, q []byte, absmax, want []float32, block int, tol float64) {
		codes, scale, y := make([]byte, len(q)), make([]float32, len(absmax)), make([]float32, len(x))
		if err := c.Quantize(codes, scale, x, block); err != nil {
			t.Fatal(err)
		}
		near(t, what+": absmax", scale, absmax, 0)
		sameCodes(t, what, c, codes, q, absmax, x, block)
		if err := c.Dequantize(y, q, absmax, block); err != nil {
			t.Fatal(err)
		}
		near(t, what+": dequant", y, want, tol)
	}
	var index struct {
		Cases map[string]struct{ Blocksize int }
	}
	if err := json.Unmarshal(readFile(t, dir, "nf4.json"), &index); err != nil {
		t.Fatal(err)
	}
	cases := 0
	for name, c := range index.Cases {
		set, kind, _ := strings.Cut(name, ".")
		book := map[bool]*Codebook{true: NF4, false: FP4}[strings.HasPrefix(kind, "nf4")]
		run(name, book, f32(t, f, set+".input"), raw(name+".q"), f32(t, f, name+".absmax"), f32(t, f, name+".dequant"), c.Blocksize, 1e-6)
		cases++
	}
	// A bfloat16 result is rounded after the product.
	run("bf16", NF4, f32(t, f, "bf16.input"), raw("bf16.q"), f32(t, f, "bf16.absmax"), f32(t, f, "bf16.dequant"), 64, 1.0/256)
	x := f32(t, f, "int8dyn.input")
	near(t, "code", Dynamic8.Values(), f32(t, f, "int8dyn.code"), 1e-6)
	run("int8dyn", Dynamic8, x, raw("int8dyn.q"), f32(t, f, "int8dyn.absmax"), f32(t, f, "int8dyn.dequant"), 256, 1e-6)
	plain := f32(t, f, "dq.absmax_plain")
	dq := QuantizeAbsmax(plain)
	near(t, "dq.offset", []float32{dq.Offset}, f32(t, f, "dq.offset"), 1e-6)
	near(t, "dq.state2_absmax", dq.Scale, f32(t, f, "dq.state2_absmax"), 1e-4)
	want := Absmax{Codes: raw("dq.absmax_q"), Scale: f32(t, f, "dq.state2_absmax"), Offset: f32(t, f, "dq.offset")[0]}
	rest := make([]float32, len(plain))
	for i := range rest {
		rest[i] = plain[i] - want.Offset
	}
	sameCodes(t, "dq.absmax", Dynamic8, dq.Codes, want.Codes, want.Scale, rest, doubleBlock)
	restored := make([]float32, len(plain))
	if err := want.Dequantize(restored); err != nil {
		t.Fatal(err)
	}
	near(t, "dq.absmax_dequant", restored, f32(t, f, "dq.absmax_dequant"), 1e-6)
	y := make([]float32, len(f32(t, f, "dq.dequant")))
	if err := NF4.Dequantize(y, raw("dq.q"), restored[:len(y)/64], 64); err != nil {
		t.Fatal(err)
	}
	near(t, "dq.dequant", y, f32(t, f, "dq.dequant"), 2e-6)
	numtest.Count(t, "quant/fourbit", cases+3)
}

func BenchmarkDequantize(b *testing.B) {
	for _, d := range []dtype.DType{dtype.F16, dtype.Q4_0, dtype.Q4_1, dtype.Q8_0, dtype.Q2_K, dtype.Q4_K, dtype.Q6_K} {
		b.Run(fmt.Sprint(d), func(b *testing.B) {
			src, dst := make([]byte, d.Bytes(1<<16)), make([]float32, 1<<16)
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				if err := Dequantize(d, dst, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
