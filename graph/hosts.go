package graph

import (
	"fmt"

	"danlu/dtype"
)

// SumHosts adds up each of its float32 operands over the processes of a run. In a run of one process the results are the
// operands.
type SumHosts struct{}

// Name implements Op.
func (SumHosts) Name() string { return "sum_hosts" }

// Infer implements Op.
func (SumHosts) Infer(in []Type) ([]Type, error) {
	out := make([]Type, len(in))
	for i, t := range in {
		if t.DType != dtype.F32 {
			return nil, fmt.Errorf("want float32 operands")
		}
		out[i] = Of(t.DType, t.Shape...)
	}
	return out, nil
}

// Decompose implements Decomposer, for a run of one process.
func (SumHosts) Decompose(in []*Value) []*Value { return in }
