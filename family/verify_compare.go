package family

import (
	"math"
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/tensor"
)

// compareAll holds the program's outputs against the reference tensors of the same names.
func (v *verification) compareAll(out engine.Tensors, g *graph.Graph, x *batch) error {
	grads := gradients(g, out)
	for _, name := range v.file.Names() {
		want, err := v.file.Tensor(name)
		if err != nil {
			return err
		}
		if want.DType != dtype.F32 && !strings.HasPrefix(name, "router_topk_ids.") {
			continue // inputs
		}
		v.res.TensorsInGolden++
		switch {
		case strings.HasPrefix(name, "grad."):
			if got := grads[name]; got != nil {
				if e := relErr(got.F32(), want.F32(), v.gradScale(want), nil, 1); v.res.GradErr < e || e != e {
					v.res.GradErr, v.res.worstGrad = e, name
				}
				v.checked[name] = true
			}
		case name == "logits" || strings.HasPrefix(name, "hidden."):
			got := out[name]
			if got == nil || len(got.Data) != len(want.Data) {
				continue
			}
			e := relErr(got.F32(), want.F32(), v.golden.MaxAbsLogit, x.real, want.Shape[len(want.Shape)-1])
			if name == "logits" {
				v.res.LogitsErr = e
			} else {
				v.res.HiddenErr = worse(v.res.HiddenErr, e)
			}
			v.checked[name] = true
		case strings.HasPrefix(name, "router_topk_"):
			if err := v.compareRouting(out, name, want); err != nil {
				return err
			}
		case name == "pixel_values": // an input of the tower; the processor has tests of its own
			v.res.TensorsInGolden--
		default: // routers, prediction modules, vision towers
			if got := out[name]; got != nil && got.DType == dtype.F32 && len(got.Data) == len(want.Data) {
				v.res.ExtraErr = worse(v.res.ExtraErr, relErr(got.F32(), want.F32(), max(v.golden.MaxAbsLogit, maxAbs(want.F32())), nil, 1))
				v.checked[name] = true
			}
		}
	}
	return nil
}

// roundingShare of the largest gradient of all tensors is what rounding leaves where the true gradient is zero (the key
// bias of attention without rotation).
const roundingShare = 1e-4

// gradScale is what a gradient's error is relative to: its largest value, or the model's where it is rounding alone. A
// gradient of exact zeros has to be met exactly.
func (v *verification) gradScale(want *tensor.Tensor) float64 {
	own := maxAbs(want.F32())
	if own == 0 {
		return 0
	}
	if v.maxGrad == 0 {
		for _, n := range v.file.Names() {
			if t, err := v.file.Tensor(n); err == nil && strings.HasPrefix(n, "grad.") {
				v.maxGrad = max(v.maxGrad, maxAbs(t.F32()))
			}
		}
	}
	return max(own, roundingShare*v.maxGrad)
}

// compareRouting holds the chosen experts and their weights, which the reference data sorts by expert, against the
// program's.
func (v *verification) compareRouting(out engine.Tensors, name string, want *tensor.Tensor) error {
	layer := name[strings.LastIndex(name, ".")+1:]
	ids, w := out["router_topk_ids."+layer], out["router_topk_weights."+layer]
	if ids == nil || w == nil || ids.Len() != want.Len() {
		return nil
	}
	k := want.Shape[len(want.Shape)-1]
	choice := make([]int, k)
	for row := 0; row < ids.Len(); row += k {
		for i := range choice {
			choice[i] = row + i
		}
		slices.SortFunc(choice, func(a, b int) int { return int(ids.I32()[a] - ids.I32()[b]) })
		for i, at := range choice {
			e := 0.0
			if want.DType == dtype.I64 {
				if want.I64()[row+i] != int64(ids.I32()[at]) {
					e = math.Inf(1)
				}
			} else {
				e = math.Abs(float64(w.F32()[at])-float64(want.F32()[row+i])) / maxAbs(want.F32())
			}
			v.res.ExtraErr = worse(v.res.ExtraErr, e)
		}
	}
	v.checked[name] = true
	return nil
}

func maxAbs(x []float32) float64 {
	m := 0.0
	for _, v := range x {
		m = max(m, math.Abs(float64(v)))
	}
	return m
}

// worse is the larger error; NaN is the worst.
func worse(a, b float64) float64 {
	if a != a || b > a || b != b {
		if a != a {
			return a
		}
		return b
	}
	return a
}

// relErr is the largest difference over scale, of the rows of the given width that are real (nil: all). Where scale is
// zero, any difference is infinite. NaN comes through.
func relErr(got, want []float32, scale float64, real []bool, width int) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range want {
		if real != nil && !real[i/width] {
			continue
		}
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if d != d {
			return d
		}
		worst = max(worst, d)
	}
	if worst == 0 {
		return 0
	}
	return worst / scale
}
