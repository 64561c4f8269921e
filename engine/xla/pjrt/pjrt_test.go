//go:build !noxla

package pjrt

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"danlu/dtype"
	"danlu/internal/numtest"
)

func plugin(t testing.TB) *Plugin {
	t.Helper()
	kind, err := KindOf("cpu")
	if err != nil {
		t.Fatal(err)
	}
	place, err := kind.Find()
	if err != nil {
		numtest.NoPlugin(t, err)
	}
	p, err := Open(place.Path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func client(t testing.TB, options map[string]any) *Client {
	t.Helper()
	c, err := plugin(t).NewClient(ClientOptions{Values: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func floats(x ...float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func get(t testing.TB, b *Buffer, n int) []float32 {
	t.Helper()
	data := make([]byte, 4*n)
	if err := b.Get(data); err != nil {
		t.Fatal(err)
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

// addition adds its two arguments and puts the result where the first one was.
const addition = `module { func.func public @main(%a: tensor<4xf32> {tf.aliasing_output = 0 : i32}, %b: tensor<4xf32>) -> tensor<4xf32> {
	%c = stablehlo.add %a, %b : tensor<4xf32>
	return %c : tensor<4xf32>
} }`

func compile(t testing.TB, c *Client, text string, o CompileOptions) *Executable {
	t.Helper()
	e, err := c.Compile([]byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func put(t testing.TB, c *Client, x ...float32) *Buffer {
	t.Helper()
	b, err := c.Put(c.Devices[0], floats(x...), dtype.F32, []int{len(x)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestRunAndDonate(t *testing.T) {
	c := client(t, nil)
	e := compile(t, c, addition, CompileOptions{})
	sum, step := put(t, c, 0, 1, 2, 3), put(t, c, 1, 1, 1, 1)
	first := sum
	for range 5 {
		out, err := e.Run([][]*Buffer{{sum, step}}, []int{0})
		if err != nil {
			t.Fatal(err)
		}
		sum = out[0][0]
	}
	if got := get(t, sum, 4); got[0] != 5 || got[3] != 8 {
		t.Errorf("got %v, want [5 6 7 8]", got)
	}
	if got := get(t, step, 4); got[0] != 1 {
		t.Errorf("an argument that was not donated holds %v", got)
	}
	if _, err := e.Run([][]*Buffer{{first, step}}, []int{0}); !errors.Is(err, ErrSpent) {
		t.Errorf("use after donation: %v, want %v", err, ErrSpent)
	}
	if err := first.Get(make([]byte, 16)); !errors.Is(err, ErrSpent) {
		t.Errorf("reading after donation: %v, want %v", err, ErrSpent)
	}
	if _, err := e.Run([][]*Buffer{{step, step}}, []int{0}); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("donating an argument that is given twice: %v", err)
	}
	if _, err := e.Run([][]*Buffer{{step}}, nil); err == nil {
		t.Error("a run without an argument")
	}
	kept, err := e.Run([][]*Buffer{{sum, step}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := get(t, sum, 4), get(t, kept[0][0], 4); a[0] != 5 || b[0] != 6 {
		t.Errorf("a run that donates nothing left %v and gave %v", a, b)
	}
	if n, err := sum.Bytes(); n != 16 || err != nil {
		t.Errorf("%d bytes, %v; want 16", n, err)
	}
}

func TestSerialize(t *testing.T) {
	c := client(t, nil)
	e := compile(t, c, addition, CompileOptions{})
	data, err := e.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := c.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	out, err := loaded.Run([][]*Buffer{{put(t, c, 1, 2, 3, 4), put(t, c, 1, 1, 1, 1)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, out[0][0], 4); got[3] != 5 {
		t.Errorf("got %v", got)
	}
	if _, err := c.Load(data[:len(data)/2]); err == nil {
		t.Error("half an executable was loaded")
	}
	m, err := e.Memory()
	if err != nil || m.Arguments != 32 || m.Outputs != 16 {
		t.Errorf("memory %+v, %v; want 32 bytes of arguments and 16 of outputs", m, err)
	}
}

func TestDevicesAndPartitions(t *testing.T) {
	c := client(t, map[string]any{"cpu_device_count": 4})
	if len(c.Devices) != 4 || c.Devices[3].Kind != "cpu" {
		t.Fatalf("devices %+v, want 4 of kind cpu", c.Devices)
	}
	const sum = `module { sdy.mesh @mesh = <["x"=4]>
	func.func public @main(%a: tensor<4xf32> {sdy.sharding = #sdy.sharding<@mesh, [{"x"}]>}) -> (tensor<f32> {sdy.sharding = #sdy.sharding<@mesh, []>}) {
		%z = stablehlo.constant dense<0.0> : tensor<f32>
		%s = stablehlo.reduce(%a init: %z) applies stablehlo.add across dimensions = [0] : (tensor<4xf32>, tensor<f32>) -> tensor<f32>
		return %s : tensor<f32>
	} }`
	e := compile(t, c, sum, CompileOptions{Partitions: 4})
	var args [][]*Buffer
	for i, d := range c.Devices {
		b, err := c.Put(d, floats(float32(i+1)), dtype.F32, []int{1})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		args = append(args, []*Buffer{b})
	}
	out, err := e.Run(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	for d, list := range out {
		if got := get(t, list[0], 1); got[0] != 10 {
			t.Errorf("device %d has the sum %v, want 10", d, got)
		}
	}
}

func TestErrors(t *testing.T) {
	c := client(t, nil)
	if _, err := plugin(t).NewClient(ClientOptions{Values: map[string]any{"no_such_option": 1}}); err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("an unknown option: %v", err)
	}
	if _, err := plugin(t).NewClient(ClientOptions{Values: map[string]any{"cpu_device_count": struct{}{}}}); err == nil {
		t.Error("an option of an impossible type")
	}
	if _, err := c.Compile([]byte("module {"), CompileOptions{}); err == nil {
		t.Error("half a module was compiled")
	}
	if _, err := c.Compile([]byte(addition), CompileOptions{Flags: map[string]any{"xla_no_such_flag": true}}); err == nil || !strings.Contains(err.Error(), "xla_no_such_flag") {
		t.Errorf("an unknown flag: %v", err)
	}
	if _, err := c.Put(c.Devices[0], make([]byte, 3), dtype.F32, []int{1}); err == nil {
		t.Error("a tensor of 3 bytes")
	}
	if _, err := c.Put(c.Devices[0], nil, dtype.Q4_0, []int{0}); err == nil {
		t.Error("a block type went to a device")
	}
	garbage := filepath.Join(t.TempDir(), "plugin.so")
	if err := os.WriteFile(garbage, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{garbage, "/no/such/plugin.so"} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := c.Devices[0].Memory(); err == nil {
		t.Log("this plugin tells a device's memory")
	}
}

func TestFind(t *testing.T) {
	kind, err := KindOf("cpu")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := KindOf("abacus"); err == nil || !strings.Contains(err.Error(), "cuda13") {
		t.Errorf("an unknown plugin: %v", err)
	}
	t.Setenv(kind.Variable, "")
	home := t.TempDir()
	t.Setenv("DANLU_HOME", home)
	want := filepath.Join(home, "plugins", "cpu", "lammps_jax_pjrt_cpu", "x.so")
	if err := os.MkdirAll(filepath.Dir(want), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := kind.Find(); err != nil || p.Path != want {
		t.Errorf("found %+v, %v; want %s", p, err, want)
	}
	t.Setenv(kind.Variable, "/no/such/file")
	if _, err := kind.Find(); err == nil || !strings.Contains(err.Error(), kind.Variable) {
		t.Errorf("a variable that names nothing: %v", err)
	}
}

func TestCustomCall(t *testing.T) {
	p := plugin(t)
	err := p.Register("danlu_test_double", func(in, out []Tensor) error {
		if in[0].Shape[0] == 3 {
			return errors.New("three is refused")
		}
		if in[0].Shape[0] == 5 {
			panic("five is worse")
		}
		for i := 0; i < len(in[0].Data); i += 4 {
			x := math.Float32frombits(binary.LittleEndian.Uint32(in[0].Data[i:]))
			binary.LittleEndian.PutUint32(out[0].Data[i:], math.Float32bits(2*x))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, nil)
	run := func(x ...float32) ([]float32, error) {
		text := strings.ReplaceAll(`module { func.func public @main(%a: tensor<Nxf32>) -> tensor<Nxf32> {
			%b = stablehlo.custom_call @danlu_test_double(%a) {api_version = 4 : i32, backend_config = {}} : (tensor<Nxf32>) -> tensor<Nxf32>
			return %b : tensor<Nxf32> } }`, "N", string(rune('0'+len(x))))
		out, err := compile(t, c, text, CompileOptions{}).Run([][]*Buffer{{put(t, c, x...)}}, nil)
		if err != nil {
			return nil, err
		}
		data := make([]byte, 4*len(x))
		if err := out[0][0].Get(data); err != nil {
			return nil, err
		}
		return get(t, out[0][0], len(x)), nil
	}
	if got, err := run(1, 2); err != nil || got[0] != 2 || got[1] != 4 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := run(1, 2, 3); err == nil || !strings.Contains(err.Error(), "three is refused") {
		t.Errorf("a handler's error: %v", err)
	}
	if _, err := run(1, 2, 3, 4, 5); err == nil || !strings.Contains(err.Error(), "five is worse") {
		t.Errorf("a handler's panic: %v", err)
	}
}

func BenchmarkDispatch(b *testing.B) {
	c := client(b, nil)
	e := compile(b, c, addition, CompileOptions{})
	sum, step := put(b, c, 0, 1, 2, 3), put(b, c, 1, 1, 1, 1)
	start := time.Now()
	for b.Loop() {
		out, err := e.Run([][]*Buffer{{sum, step}}, []int{0})
		if err != nil {
			b.Fatal(err)
		}
		sum = out[0][0]
	}
	b.ReportMetric(float64(time.Since(start).Microseconds())/float64(b.N), "µs/run")
}
