package xla

import (
	"fmt"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/xla/pjrt"
	"danlu/graph"
	"danlu/tensor"
)

// pagesInput is the label of the page table: attention looks at no more of its columns than a run needs.
const pagesInput = "pages"

// text writes the program for a bucket, and says what its arguments and results are.
func (p *program) text(k bucket) (_ []byte, v *variant, err error) {
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(*graph.Fault)
			if !ok {
				panic(r)
			}
			err = fault
		}
	}()
	outputs, updates, err := p.opts.Wanted(p.g)
	if err != nil {
		return nil, nil, err
	}
	a := &arguments{program: p, pages: k.pages}
	l := &lowering{writer: newWriter(), rows: k.rows, env: map[*graph.Value]*value{}, live: graph.Needed(p.g, engine.Results(outputs, updates)...), given: a.give, hosts: p.engine.group != nil}
	if err := l.graph(p.g); err != nil {
		return nil, nil, err
	}
	if a.err != nil {
		return nil, nil, a.err
	}
	v = &variant{inputs: a.inputs, cuts: a.cuts, states: a.states}
	var results []*value
	for _, o := range outputs {
		r := l.env[o.Value]
		v.outputs = append(v.outputs, boundOutput{o, r.typ, rowAxis(o.Value)})
		results = append(results, r)
	}
	aliases := map[*value]int{} // argument → the result that takes its memory
	for _, u := range updates {
		spec := u.State.Node.Op.(graph.State)
		v.updates = append(v.updates, p.store.byKey[spec.Key()])
		arrays := l.env[u.Value].flat()
		for i, arg := range l.env[u.State].flat() {
			aliases[arg] = len(results)
			results = append(results, arrays[i])
		}
	}
	all := append(a.inputValues, a.stateValues...)
	for i, arg := range all {
		if _, ok := aliases[arg]; ok {
			v.donated = append(v.donated, i)
		}
	}
	return p.engine.moduleText(l.text.String(), all, results, aliases), v, nil
}

// moduleText puts a function's body between its head and its end. A result that takes an argument's memory is cut as the
// argument is, others are whole on every device.
func (e *Engine) moduleText(body string, args, results []*value, aliases map[*value]int) []byte {
	var b strings.Builder
	partitioned := e.mesh.devices() > 1
	b.WriteString("module @danlu {\n")
	if partitioned {
		b.WriteString(e.mesh.text())
	}
	cuts := make([]sharding, len(results))
	b.WriteString("  func.func public @main(")
	for i, a := range args {
		if i > 0 {
			b.WriteString(", ")
		}
		var attributes []string
		if k, ok := aliases[a]; ok {
			attributes = append(attributes, fmt.Sprintf("tf.aliasing_output = %d : i32", k))
			cuts[k] = a.cut
		}
		if partitioned {
			attributes = append(attributes, a.cut.text(a.typ.Rank()))
		}
		fmt.Fprintf(&b, "%s: %s", a.name, typeText(a.typ))
		if len(attributes) > 0 {
			fmt.Fprintf(&b, " {%s}", strings.Join(attributes, ", "))
		}
	}
	b.WriteString(") -> (")
	for i, r := range results {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(typeText(r.typ))
		if partitioned {
			fmt.Fprintf(&b, " {%s}", cuts[i].text(r.typ.Rank()))
		}
	}
	fmt.Fprintf(&b, ") {\n%s    return", body)
	if len(results) > 0 {
		fmt.Fprintf(&b, " %s : %s", namesText(results), typesText(results))
	}
	b.WriteString("\n  }\n}\n")
	return []byte(b.String())
}

// arguments are those of the program, in the order in which the graph comes to them.
type arguments struct {
	program                  *program
	pages                    int
	inputs                   []graph.Input
	cuts                     []sharding
	inputValues, stateValues []*value
	states                   []*state
	err                      error // the first input that the mesh cannot cut
}

// give makes the arguments of an input or a state.
func (a *arguments) give(op graph.Op) *value {
	if in, ok := op.(graph.Input); ok {
		if in.Label == pagesInput && a.pages > 0 {
			in.Type.Shape = []int{in.Type.Shape[0], a.pages}
		}
		cut, err := a.program.engine.mesh.inputSharding(in)
		if err != nil && a.err == nil {
			a.err = err
		}
		v := &value{name: fmt.Sprintf("%%in%d", len(a.inputs)), typ: in.Type, cut: cut}
		a.inputs, a.inputValues, a.cuts = append(a.inputs, in), append(a.inputValues, v), append(a.cuts, cut)
		return v
	}
	st := a.program.store.byKey[op.(graph.State).Key()]
	a.states = append(a.states, st)
	var arrays []*value
	for _, t := range st.types {
		v := &value{name: fmt.Sprintf("%%state%d", len(a.stateValues)), typ: t, cut: st.cut}
		arrays, a.stateValues = append(arrays, v), append(a.stateValues, v)
	}
	if st.spec.Cache != nil {
		return &value{typ: st.spec.Type, parts: &cacheParts{spec: st.spec.Cache, arrays: arrays}}
	}
	return arrays[0]
}

// rowAxis is the axis of an output that counts rows, -1 for none. A stacked result has it behind the stack's.
func rowAxis(v *graph.Value) int {
	if v.Rows {
		return 0
	}
	if op, ok := v.Node.Op.(graph.Repeat); ok && v.Index >= op.Carry && op.Body.Results[v.Index].Rows {
		return 1
	}
	return -1
}

// pageBucket is how many pages of each sequence a run has to look at: a power of two that holds the furthest token of
// each. 0 where the graph has no cache, or where tokens see what was not asked about.
func (p *program) pageBucket(in engine.Tensors) int {
	var spec *graph.CacheSpec
	for _, v := range p.g.States() {
		if c := v.Node.Op.(graph.State).Cache; c != nil {
			spec = c
		}
	}
	at, pages := in["at"], in[pagesInput]
	if spec == nil || at == nil || at.DType != dtype.I32 || pages == nil || pages.DType != dtype.I32 || len(pages.Shape) != 2 {
		return 0
	}
	last := int32(0)
	for _, t := range []*tensor.Tensor{at, in["prefix"]} {
		if t != nil && t.DType == dtype.I32 {
			for _, x := range t.I32() {
				last = max(last, x)
			}
		}
	}
	need, n := int(last)/spec.PageLen+1, 1
	for n < need {
		n *= 2
	}
	return min(n, pages.Shape[1])
}

// flags are XLA's debug options for a platform's programs.
func flags(platform string) map[string]any {
	f := map[string]any{
		// A bfloat16 result is rounded where the graph says so.
		"xla_allow_excess_precision": false,
	}
	if platform == "cpu" {
		// Without it products of bfloat16 matrices inside larger programs take loops that are an order of magnitude slower.
		f["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_DOT"
	}
	return f
}

// compileOptions are the plugin's options of a compilation.
func (e *Engine) compileOptions() pjrt.CompileOptions {
	o := pjrt.CompileOptions{Flags: flags(e.platform), Partitions: len(e.devices)}
	if o.Partitions > 1 {
		for _, d := range e.devices {
			o.Devices = append(o.Devices, d.ID)
		}
	}
	return o
}
