package train

import (
	"fmt"
	"maps"
	"slices"

	"danlu/data"
	"danlu/dtype"
	"danlu/graph"
)

// local is this process's part of a batch: with N processes, one N-th of its rows.
func (s *Stepper) local(x *data.Batch) (*data.Batch, error) {
	if s.nodes == 1 {
		return x, nil
	}
	if x.B%s.nodes != 0 {
		return nil, fmt.Errorf("train: several nodes: %d nodes do not divide a batch of %d rows; choose another batch size", s.nodes, x.B)
	}
	if len(x.Extra) > 0 || x.Sequences > 1 {
		return nil, fmt.Errorf("train: several nodes: train on plain texts so far (stages pt and sft)")
	}
	b := x.B / s.nodes
	from, to := s.rank*b, (s.rank+1)*b
	part := *x
	part.B = b
	part.Rows = min(max(x.Rows-from, 0), b)
	rows := func(v []int32) []int32 {
		if v == nil {
			return nil
		}
		return v[from*x.T : to*x.T]
	}
	part.IDs, part.Labels, part.Targets, part.Segments = rows(x.IDs), rows(x.Labels), rows(x.Targets), rows(x.Segments)
	part.Positions = nil
	for p := range x.P {
		part.Positions = append(part.Positions, rows(x.Positions[p*x.B*x.T:])...)
	}
	if x.Prefix != nil {
		part.Prefix = x.Prefix[from:to]
	}
	return &part, nil
}

// sumHosts declares the reported values and, in a run of several processes, adds them, the loss and the gradients up over
// those first, all at once: the order of several sums could differ between processes.
func (s *Stepper) sumHosts(g *graph.Graph, report map[string]*graph.Value, loss *graph.Value, grads []*graph.Value) *graph.Value {
	names := slices.Sorted(maps.Keys(report))
	if s.nodes > 1 {
		var values []*graph.Value
		for _, name := range names {
			values = append(values, graph.Convert(report[name], dtype.F32))
		}
		if loss != nil {
			values = append(values, graph.Convert(loss, dtype.F32))
		}
		sums := graph.Apply(graph.SumHosts{}, append(values, grads...)...)
		for i, name := range names {
			report[name] = graph.Convert(sums[i], report[name].DType)
		}
		if loss != nil {
			loss = sums[len(names)]
		}
		copy(grads, sums[len(values):])
	}
	for _, name := range names {
		g.Output(name, report[name])
	}
	return loss
}
