package cpu

import "slices"

// walk goes over a broadcast result in runs along its last axis: outer steps, each with the operands' offsets, and in
// each an inner loop of equal strides. Axes that lie together in all operands are joined.
type walk struct {
	outer, inner int
	dims         []int    // of the outer axes
	strides      [][]int  // of each operand along the outer axes
	step         []int    // of each operand along the inner axis
	size         int      // outer steps of one task
	cut          int      // inner elements of one task, when there is one outer step
	_            struct{} // keyed literals only
}

const taskElements = 1 << 14

// newWalk joins axes of shape for operands of the given strides.
func newWalk(shape []int, strides ...[]int) *walk {
	w := &walk{outer: 1, inner: 1}
	var dims []int
	joined := make([][]int, len(strides))
	for i, d := range shape {
		if d == 1 {
			continue
		}
		k := len(dims) - 1
		if k >= 0 && !slices.ContainsFunc(seq(len(strides)), func(j int) bool { return joined[j][k] != strides[j][i]*d }) {
			dims[k] *= d
			for j := range strides {
				joined[j][k] = strides[j][i]
			}
			continue
		}
		dims = append(dims, d)
		for j := range strides {
			joined[j] = append(joined[j], strides[j][i])
		}
	}
	if len(dims) == 0 {
		dims = []int{1}
		for j := range joined {
			joined[j] = []int{1}
		}
	}
	last := len(dims) - 1
	w.inner, w.dims = dims[last], dims[:last]
	for j := range joined {
		w.step = append(w.step, joined[j][last])
		w.strides = append(w.strides, joined[j][:last])
	}
	for _, d := range w.dims {
		w.outer *= d
	}
	w.size = max(1, taskElements/max(w.inner, 1))
	w.cut = w.inner
	if w.outer == 1 {
		w.cut = taskElements
	}
	return w
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// tasks is the number of tasks.
func (w *walk) tasks() int {
	if w.outer == 0 || w.inner == 0 {
		return 0
	}
	if w.outer == 1 {
		return (w.inner + w.cut - 1) / w.cut
	}
	return (w.outer + w.size - 1) / w.size
}

// task calls f for the runs of task i with the offsets of up to four operands and the number of elements.
func (w *walk) task(i int, f func(at [4]int, n int)) {
	if w.outer == 1 {
		from := i * w.cut
		var at [4]int
		for j, s := range w.step {
			at[j] = from * s
		}
		f(at, min(w.cut, w.inner-from))
		return
	}
	for o := i * w.size; o < min((i+1)*w.size, w.outer); o++ {
		var at [4]int
		rest := o
		for k := len(w.dims) - 1; k >= 0; k-- {
			x := rest % w.dims[k]
			rest /= w.dims[k]
			for j := range w.strides {
				at[j] += x * w.strides[j][k]
			}
		}
		f(at, w.inner)
	}
}

// strides of a row-major shape.
func strides(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		s[i] = n
		n *= shape[i]
	}
	return s
}

// aligned are an operand's strides along a broadcast result's axes: zero where it is repeated.
func aligned(operand, result []int) []int {
	own := strides(operand)
	s := make([]int, len(result))
	lead := len(result) - len(operand)
	for i := range operand {
		if operand[i] != 1 {
			s[i+lead] = own[i]
		}
	}
	return s
}
