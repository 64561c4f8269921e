package weights

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/format/safetensors"
	"danlu/quant"
	"danlu/tensor"
)

// checkpoint writes tensors as a model folder and opens it.
func checkpoint(t *testing.T, tensors map[string]*tensor.Tensor) Source {
	t.Helper()
	dir := t.TempDir()
	var infos []safetensors.Info
	for n, x := range tensors {
		infos = append(infos, safetensors.Info{Name: n, DType: x.DType, Shape: x.Shape})
	}
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), infos, nil, func(i safetensors.Info) (*tensor.Tensor, error) { return tensors[i.Name], nil }); err != nil {
		t.Fatal(err)
	}
	src, err := Open(dir, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// packedMatrix quantizes a random [out, in] matrix as GPTQ or AWQ describe it and returns its tensors and its values.
func packedMatrix(method string, in, out, group, bits int, order []int, offset int) (map[string]*tensor.Tensor, []float32) {
	random := rand.New(rand.NewPCG(7, uint64(in*out)))
	per := 32 / bits
	codes, want := make([]int, in*out), make([]float32, in*out) // [in, out], [out, in]
	zeros, scales := make([]int, in/group*out), make([]float32, in/group*out)
	for i := range zeros {
		zeros[i], scales[i] = 1+random.IntN(1<<bits-1), float32(1+random.IntN(7))/8 // exact in 16 bits
	}
	gidx := make([]int32, in)
	for i := range in {
		gidx[i] = int32(i / group)
		if order != nil {
			gidx[i] = int32(order[i] / group)
		}
		for o := range out {
			codes[i*out+o] = random.IntN(1 << bits)
			g := int(gidx[i])
			want[o*in+i] = scales[g*out+o] * float32(codes[i*out+o]-zeros[g*out+o])
		}
	}
	interleaved := []int{0, 2, 4, 6, 1, 3, 5, 7} // AWQ: place p of a word holds column interleaved[p]
	packOut := func(v []int, rows int, less int) []int32 {
		words := make([]int32, rows*out/per)
		for r := range rows {
			for w := range out / per {
				for p := range per {
					column := w*per + p
					if method == "awq" {
						column = w*per + interleaved[p]
					}
					words[r*(out/per)+w] |= int32(v[r*out+column]-less) << (bits * p)
				}
			}
		}
		return words
	}
	half := tensor.New(dtype.F16, in/group, out)
	if err := quant.Quantize(dtype.F16, half.Data, scales); err != nil {
		panic(err)
	}
	tensors := map[string]*tensor.Tensor{"a.scales": half, "a.qzeros": tensor.FromI32(packOut(zeros, in/group, offset), in/group, out/per)}
	if method == "awq" {
		tensors["a.qweight"] = tensor.FromI32(packOut(codes, in, 0), in, out/per)
		return tensors, want
	}
	words := make([]int32, in/per*out)
	for i := range in {
		for o := range out {
			words[i/per*out+o] |= int32(codes[i*out+o]) << (bits * (i % per))
		}
	}
	tensors["a.qweight"], tensors["a.g_idx"] = tensor.FromI32(words, in/per, out), tensor.FromI32(gidx, in)
	return tensors, want
}

func TestDequantized(t *testing.T) {
	backwards := make([]int, 32)
	for i := range backwards {
		backwards[i] = 31 - i
	}
	for _, c := range []struct {
		config        string
		method        string
		bits, shifted int
		order         []int
	}{
		{`"quant_method":"gptq","bits":4,"group_size":16,"desc_act":false`, "gptq", 4, 1, nil},
		{`"quant_method":"gptq","bits":4,"group_size":16,"desc_act":true`, "gptq", 4, 1, backwards},
		{`"quant_method":"gptq","bits":8,"group_size":16,"checkpoint_format":"gptq_v2"`, "gptq", 8, 0, nil},
		{`"quant_method":"awq","bits":4,"group_size":16,"version":"gemm","zero_point":true`, "awq", 4, 0, nil},
	} {
		tensors, want := packedMatrix(c.method, 32, 24, 16, c.bits, c.order, c.shifted)
		tensors["norm.weight"] = tensor.FromF32([]float32{1, 2}, 2)
		src, err := Dequantized(checkpoint(t, tensors), []byte(`{"quantization_config":{`+c.config+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		if len(src.Names()) != 2 || len(Stored(src).Names()) != len(tensors) {
			t.Errorf("%s: names %v of %v", c.config, src.Names(), Stored(src).Names())
		}
		got, err := src.Tensor("a.weight")
		if err != nil || got.String() != "f32[24 32]" {
			t.Fatalf("%s: %v %v", c.config, got, err)
		}
		for i, x := range got.F32() {
			if x != want[i] {
				t.Fatalf("%s: element %d is %v, want %v", c.config, i, x, want[i])
			}
		}
		if n, err := src.Tensor("norm.weight"); err != nil || n.F32()[1] != 2 {
			t.Errorf("%s: norm %v %v", c.config, n, err)
		}
	}
}

func TestDequantizedFP8(t *testing.T) {
	codes := tensor.New(dtype.F8E4M3, 3, 5)
	want := make([]float32, 15)
	scales := []float32{2, 0.5, 4, 8, 0.25, 1} // tiles of 2 x 2
	for i := range codes.Data {
		codes.Data[i] = byte(i * 5)
		want[i] = quant.E4M3ToF32(codes.Data[i]) * scales[i/5/2*3+i%5/2]
	}
	src := checkpoint(t, map[string]*tensor.Tensor{"a.weight": codes, "a.weight_scale_inv": tensor.FromF32(scales, 2, 3)})
	d, err := Dequantized(src, []byte(`{"quantization_config":{"quant_method":"fp8","weight_block_size":[2,2]}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Tensor("a.weight")
	if err != nil || fmt.Sprint(got.F32()) != fmt.Sprint(want) || len(d.Names()) != 1 {
		t.Errorf("%v %v, want %v", got, err, want)
	}
}

func TestDequantizedRefuses(t *testing.T) {
	tensors, _ := packedMatrix("gptq", 32, 24, 16, 4, nil, 1)
	for _, c := range []struct {
		config string
		change func()
		want   string
	}{
		{`"quant_method":"hqq"`, nil, `quant_method: want fp8, gptq or awq, got "hqq"`},
		{`"quant_method":"gptq","bits":3,"group_size":16`, nil, "bits: want 4"},
		{`"quant_method":"gptq","bits":4`, nil, "group_size"},
		{`"quant_method":"gptq","bits":4,"group_size":7`, nil, "does not split into groups of 7"},
		{`"quant_method":"awq","bits":4,"group_size":16,"version":"gemv"`, nil, "version"},
		{`"quant_method":"gptq","bits":4,"group_size":16`, func() { delete(tensors, "a.scales") }, `"a.scales": is missing`},
		{`"quant_method":["x"]`, nil, "quantization_config"},
	} {
		if c.change != nil {
			c.change()
		}
		_, err := Dequantized(checkpoint(t, tensors), []byte(`{"quantization_config":{`+c.config+`}}`))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", c.config, err, c.want)
		}
	}
	bad, _ := packedMatrix("gptq", 32, 24, 16, 4, nil, 1)
	bad["a.g_idx"].I32()[3] = 99
	d, err := Dequantized(checkpoint(t, bad), []byte(`{"quantization_config":{"quant_method":"gptq","bits":4,"group_size":16}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Tensor("a.weight"); err == nil || !strings.Contains(err.Error(), "element 3") {
		t.Errorf("a group that is not there: %v", err)
	}
}
