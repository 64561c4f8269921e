package xla

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/graph"
)

// meshAxes are the axes of a mesh of devices, the one with the slowest links first: copies of the model (dp), copies that
// hold a part of the weights each (fsdp), parts of the experts (ep), parts of each matrix (tp). The first three cut the
// batch.
var meshAxes = []string{"dp", "fsdp", "ep", "tp"}

// laterAxes are refused by name.
var laterAxes = map[string]string{"cp": "context parallelism", "pp": "pipeline parallelism"}

// batchAxes cut a batch's rows.
var batchAxes = []string{"dp", "fsdp", "ep"}

// axisRules say over which axis of the mesh each logical axis of a parameter is cut ("": none): the one table for all
// families, whose parameters name their axes (graph.StateSpec.Axes).
var axisRules = map[string]string{
	"vocab": "tp", "heads": "tp", "kv_heads": "tp", "mlp": "tp", "experts": "ep", "embed": "fsdp", "layers": "", "": "",
}

// inputRows is the axis of an input that counts a batch's rows; other inputs are the same on all devices.
var inputRows = map[string]int{"ids": 0, "targets": 0, "segments": 0, "lengths": 0, "prefix": 0, "positions": 1, "features": 0, "pictured": 0}

// mesh are the sizes of the axes in meshAxes' order.
type mesh []int

// newMesh checks the sizes of a mesh; no axis at all is one device.
func newMesh(sizes map[string]int) (mesh, error) {
	m := mesh(slices.Repeat([]int{1}, len(meshAxes)))
	for _, axis := range slices.Sorted(maps.Keys(sizes)) {
		i := slices.Index(meshAxes, axis)
		switch {
		case laterAxes[axis] != "":
			return nil, fmt.Errorf("%s: %s is not supported yet; axes are %s", axis, laterAxes[axis], strings.Join(meshAxes, ", "))
		case i < 0:
			return nil, fmt.Errorf("%q: is not an axis; axes are %s", axis, strings.Join(meshAxes, ", "))
		case sizes[axis] < 1 || sizes[axis] > maxDevices:
			return nil, fmt.Errorf("%s: want 1 to %d, got %d", axis, maxDevices, sizes[axis])
		}
		m[i] = sizes[axis]
	}
	if n := m.devices(); n > maxDevices {
		return nil, fmt.Errorf("want at most %d devices, got %d", maxDevices, n)
	}
	return m, nil
}

const maxDevices = 4096

func (m mesh) size(axis string) int { return m[slices.Index(meshAxes, axis)] }

// devices is the number of devices.
func (m mesh) devices() int {
	n := 1
	for _, s := range m {
		n *= s
	}
	return n
}

func (m mesh) String() string {
	var parts []string
	for i, s := range m {
		if s > 1 {
			parts = append(parts, fmt.Sprintf("%s %d", meshAxes[i], s))
		}
	}
	return strings.Join(parts, " × ")
}

// text declares the mesh in a program.
func (m mesh) text() string {
	parts := make([]string, len(m))
	for i, s := range m {
		parts[i] = fmt.Sprintf("%q=%d", meshAxes[i], s)
	}
	return "  sdy.mesh @mesh = <[" + strings.Join(parts, ", ") + "]>\n"
}

// sharding says, for each axis of an array, over which axes of the mesh it is cut; nil: not at all.
type sharding [][]string

// text is the sharding as an attribute of an argument or a result.
func (s sharding) text(rank int) string {
	dims := make([]string, rank)
	for i := range dims {
		var names []string
		if i < len(s) {
			for _, axis := range s[i] {
				names = append(names, fmt.Sprintf("%q", axis))
			}
		}
		dims[i] = "{" + strings.Join(names, ", ") + "}"
	}
	return "sdy.sharding = #sdy.sharding<@mesh, [" + strings.Join(dims, ", ") + "]>"
}

// stateSharding is how a state is cut.
func (m mesh) stateSharding(spec *graph.StateSpec) (sharding, error) {
	if spec.Axes == nil || m.devices() == 1 {
		return nil, nil
	}
	s := make(sharding, len(spec.Type.Shape))
	var used []string
	for i, logical := range spec.Axes {
		axis, ok := axisRules[logical]
		if !ok {
			return nil, fmt.Errorf("mesh: %s: no rule cuts its axis %q", spec.Label, logical)
		}
		vector := logical == "embed" && len(spec.Type.Shape)-len(spec.Stack) < 2 // a norm's weight: not worth gathering
		if axis == "" || vector || m.size(axis) == 1 || slices.Contains(used, axis) {
			continue
		}
		if n := spec.Type.Shape[i]; n%m.size(axis) != 0 {
			return nil, fmt.Errorf("mesh: %s: %d does not divide the %d of axis %q of %s", axis, m.size(axis), n, logical, spec.Label)
		}
		s[i], used = []string{axis}, append(used, axis)
	}
	return s, nil
}

// inputSharding is how an input is cut.
func (m mesh) inputSharding(in graph.Input) (sharding, error) {
	axis, ok := inputRows[in.Label]
	if !ok || m.devices() == 1 || axis >= len(in.Type.Shape) {
		return nil, nil
	}
	var cut []string
	n := 1
	for _, a := range batchAxes {
		if m.size(a) > 1 {
			cut, n = append(cut, a), n*m.size(a)
		}
	}
	if rows := in.Type.Shape[axis]; rows%n != 0 {
		return nil, fmt.Errorf("mesh: %s: its devices cut a batch in %d, which does not divide its %d rows; choose another batch size", m, n, rows)
	}
	s := make(sharding, len(in.Type.Shape))
	s[axis] = cut
	return s, nil
}

// block is the part of an array that a device holds.
type block struct{ from, shape []int }

// block is the part of an array of a shape that device d holds.
func (m mesh) block(s sharding, shape []int, d int) block {
	at := make([]int, len(m)) // d's place on each axis
	for i := len(m) - 1; i >= 0; i-- {
		at[i], d = d%m[i], d/m[i]
	}
	b := block{make([]int, len(shape)), slices.Clone(shape)}
	for i, axes := range s {
		place := 0
		for _, axis := range axes {
			k := slices.Index(meshAxes, axis)
			place = place*m[k] + at[k]
			b.shape[i] /= m[k]
		}
		b.from[i] = place * b.shape[i]
	}
	return b
}

// whole reports whether the block is all of the array.
func (b block) whole(shape []int) bool { return slices.Equal(b.shape, shape) }

// move copies a block between an array and memory of its own, out of the array or into it.
func (b block) move(array []byte, shape []int, own []byte, d dtype.DType, out bool) {
	if len(shape) == 0 {
		shape, b = []int{1}, block{[]int{0}, []int{1}}
	}
	last := len(shape) - 1
	run := d.Bytes(b.shape[last])
	index := make([]int, last)
	for k := 0; k < len(own); k += run {
		place := 0
		for i, x := range index {
			place = place*shape[i] + b.from[i] + x
		}
		place = d.Bytes(place*shape[last] + b.from[last])
		if out {
			copy(own[k:k+run], array[place:])
		} else {
			copy(array[place:place+run], own[k:])
		}
		for i := last - 1; i >= 0; i-- {
			if index[i]++; index[i] < b.shape[i] {
				break
			}
			index[i] = 0
		}
	}
}
