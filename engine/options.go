package engine

import (
	"fmt"
	"slices"

	"danlu/graph"
)

// Wanted lists the outputs of g that are asked for and the updates that are made.
func (o Options) Wanted(g *graph.Graph) ([]graph.Output, []graph.Update, error) {
	outputs, updates := g.Outputs, g.Updates
	if o.Outputs != nil {
		outputs = nil
		for _, name := range o.Outputs {
			i := slices.IndexFunc(g.Outputs, func(o graph.Output) bool { return o.Name == name })
			if i < 0 {
				return nil, nil, fmt.Errorf("output %s: the graph has none of that name", name)
			}
			outputs = append(outputs, g.Outputs[i])
		}
	}
	if o.NoUpdates {
		updates = nil
	}
	return outputs, updates, nil
}

// Results are the values of a run that somebody reads: outputs, and states with what they are to hold.
func Results(outputs []graph.Output, updates []graph.Update) []*graph.Value {
	var values []*graph.Value
	for _, o := range outputs {
		values = append(values, o.Value)
	}
	for _, u := range updates {
		values = append(values, u.Value, u.State)
	}
	return values
}
