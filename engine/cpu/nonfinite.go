package cpu

import (
	"context"
	"fmt"
	"math"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/kernel"
)

// FirstNonFinite implements engine.Seeker.
func (p *program) FirstNonFinite(ctx context.Context, in engine.Tensors) (string, error) {
	s := &seek{}
	_, err := p.Run(context.WithValue(ctx, seekKey{}, s), in)
	return s.found, err
}

type seekKey struct{}

// seek looks at what every step of a run has written until it finds NaN or +Inf; -Inf is how keys are hidden.
type seek struct {
	layers []int // iterations of the Repeats that run
	found  string
}

// seeking is the search that a run is for; nil, whose methods do nothing, in other runs.
func seeking(ctx context.Context) *seek {
	s, _ := ctx.Value(seekKey{}).(*seek)
	return s
}

func (s *seek) enter(iteration int) {
	if s != nil {
		s.layers = append(s.layers, iteration)
	}
}

func (s *seek) leave() {
	if s != nil {
		s.layers = s.layers[:len(s.layers)-1]
	}
}

// look examines a step's results.
func (s *seek) look(n *node) {
	if s == nil || s.found != "" || n.body != nil {
		return
	}
	for _, v := range n.out {
		if v.st != nil && v.st.p != nil && !v.packed && hasNonFinite(v) {
			s.found = s.describe(n)
			return
		}
	}
}

func hasNonFinite(v *value) bool {
	bad := func(x []float32) bool {
		for _, y := range x {
			if y != y || y > math.MaxFloat32 {
				return true
			}
		}
		return false
	}
	switch v.typ.DType {
	case dtype.F32:
		return bad(of[float32](v))
	case dtype.BF16:
		var wide [512]float32
		for x := of[uint16](v); len(x) > 0; {
			n := min(len(x), len(wide))
			if kernel.BF16ToF32(wide[:n], x[:n]); bad(wide[:n]) {
				return true
			}
			x = x[n:]
		}
	}
	return false
}

// describe names a step by its operation, its layer and the weights that it reads.
func (s *seek) describe(n *node) string {
	text := n.op.Name()
	if k := len(s.layers); k > 0 {
		text += fmt.Sprintf(" of layer %d", s.layers[k-1])
	}
	var labels []string
	for _, v := range n.in {
		if v == nil || v.label == "" {
			continue
		}
		label := v.label
		if k := len(s.layers); k > 0 && strings.Contains(label, "%d") {
			label = fmt.Sprintf(label, s.layers[k-1])
		}
		labels = append(labels, label)
	}
	if len(labels) > 0 {
		text += " (" + strings.Join(labels, ", ") + ")"
	}
	return text
}
