package xla

import (
	"encoding/hex"
	"fmt"
	"strings"

	"danlu/dtype"
	"danlu/graph"
	"danlu/tensor"
)

// value is a result in the text of a program.
type value struct {
	name string // %12, %12#1 or %arg3
	typ  graph.Type
	// exact is the bfloat16 value of which this one is the float32 form.
	exact *value
	// parts are what a KV cache is made of.
	parts *cacheParts
	cut   sharding // of an argument
}

// writer writes StableHLO in MLIR's generic form, which is the same for every operation.
type writer struct {
	text   *strings.Builder
	names  *int // numbers given so far
	indent int
}

func newWriter() writer { return writer{text: new(strings.Builder), names: new(int), indent: 2} }

func (w writer) line(format string, args ...any) {
	for range w.indent {
		w.text.WriteString("  ")
	}
	fmt.Fprintf(w.text, format, args...)
	w.text.WriteByte('\n')
}

// fresh names n results.
func (w writer) fresh(n int) (name string) {
	*w.names++
	return fmt.Sprintf("%%%d", *w.names)
}

// elementNames are MLIR's names of element types.
var elementNames = map[dtype.DType]string{
	dtype.Bool: "i1", dtype.U8: "ui8", dtype.I8: "i8", dtype.U16: "ui16", dtype.I16: "i16", dtype.I32: "i32", dtype.I64: "i64", dtype.U32: "ui32", dtype.U64: "ui64",
	dtype.F8E4M3: "f8E4M3FN", dtype.F8E5M2: "f8E5M2", dtype.F16: "f16", dtype.BF16: "bf16", dtype.F32: "f32", dtype.F64: "f64",
}

// typeText is a tensor's type: tensor<2x3xf32>.
func typeText(t graph.Type) string {
	var b strings.Builder
	b.WriteString("tensor<")
	for _, d := range t.Shape {
		fmt.Fprintf(&b, "%dx", d)
	}
	b.WriteString(elementNames[t.DType])
	b.WriteByte('>')
	return b.String()
}

func typesText(values []*value) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = typeText(v.typ)
	}
	return strings.Join(s, ", ")
}

func namesText(values []*value) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = v.name
	}
	return strings.Join(s, ", ")
}

// region is the body of an operation: its arguments and what writes it.
type region struct {
	args  []*value
	write func(w writer) []*value // returns the results
}

// apply writes an operation: its attributes are the text between braces, "" for none.
func (w writer) apply(op, attributes string, out []graph.Type, regions []region, in ...*value) []*value {
	name := w.fresh(1)
	left := name
	results := make([]*value, len(out))
	for i, t := range out {
		results[i] = &value{name: name, typ: t}
		if len(out) > 1 {
			left = fmt.Sprintf("%s:%d", name, len(out))
			results[i].name = fmt.Sprintf("%s#%d", name, i)
		}
	}
	if attributes != "" {
		attributes = " {" + attributes + "}"
	}
	signature := fmt.Sprintf("%s : (%s) -> (%s)", attributes, typesText(in), typesText(results))
	if len(regions) == 0 {
		w.line("%s = %q(%s)%s", left, op, namesText(in), signature)
		return results
	}
	w.line("%s = %q(%s) ({", left, op, namesText(in))
	inner := w
	inner.indent++
	for i, r := range regions {
		if i > 0 {
			w.line("}, {")
		}
		if len(r.args) > 0 {
			args := make([]string, len(r.args))
			for k, a := range r.args {
				args[k] = a.name + ": " + typeText(a.typ)
			}
			w.line("^bb0(%s):", strings.Join(args, ", "))
		}
		out := r.write(inner)
		inner.line(`"stablehlo.return"(%s) : (%s) -> ()`, namesText(out), typesText(out))
	}
	w.line("})%s", signature)
	return results
}

// one is apply for an operation with a single result and no body.
func (w writer) one(op, attributes string, out graph.Type, in ...*value) *value {
	return w.apply(op, attributes, []graph.Type{out}, nil, in...)[0]
}

// argument is a fresh argument of a region.
func (w writer) argument(t graph.Type) *value { return &value{name: w.fresh(1), typ: t} }

// numbers is a list as MLIR writes arrays of 64-bit integers.
func numbers(list ...int) string {
	s := strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ", "), "[]")
	if s == "" {
		return "array<i64>"
	}
	return "array<i64: " + s + ">"
}

// list is a list as StableHLO's dimension numbers write it.
func list(n ...int) string { return strings.ReplaceAll(fmt.Sprint(n), " ", ", ") }

func ints(from, n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = from + i
	}
	return s
}

// scalar is a constant without axes in d's type.
func (w writer) scalar(d dtype.DType, x float64) *value {
	t := tensor.New(d)
	graph.Fill(t, x)
	return w.constant(t)
}

// full is a constant of type t, all elements x.
func (w writer) full(t graph.Type, x float64) *value {
	return w.broadcast(w.scalar(t.DType, x), t.Shape, nil)
}

// constant writes a tensor's bytes.
func (w writer) constant(t *tensor.Tensor) *value {
	typ := graph.Of(t.DType, t.Shape...)
	return w.one("stablehlo.constant", "value = "+denseText(t)+" : "+typeText(typ), typ)
}

// denseText is a constant's value: one element when all are equal, else the bytes in hexadecimal.
func denseText(t *tensor.Tensor) string {
	size := t.DType.Bytes(1)
	n := t.Len()
	if n == 0 {
		return "dense<>"
	}
	splat := true
	for i := size; i < len(t.Data) && splat; i++ {
		splat = t.Data[i] == t.Data[i-size]
	}
	if t.DType == dtype.Bool {
		return boolsText(t, splat)
	}
	if !splat {
		return `dense<"0x` + strings.ToUpper(hex.EncodeToString(t.Data)) + `">`
	}
	element := make([]byte, size)
	for i := range size { // most significant byte first
		element[i] = t.Data[size-1-i]
	}
	return "dense<0x" + strings.ToUpper(hex.EncodeToString(element)) + ">"
}

func boolsText(t *tensor.Tensor, splat bool) string {
	words := [2]string{"false", "true"}
	if splat {
		return "dense<" + words[t.Data[0]&1] + ">"
	}
	var write func(shape []int, data []byte) string
	write = func(shape []int, data []byte) string {
		if len(shape) == 0 {
			return words[data[0]&1]
		}
		parts, step := make([]string, shape[0]), len(data)/shape[0]
		for i := range parts {
			parts[i] = write(shape[1:], data[i*step:(i+1)*step])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "dense<" + write(t.Shape, t.Data) + ">"
}
