package recipe

import "danlu/engine"

// partition spreads the engine over the recipe's mesh of devices.
func (j *job) partition() error {
	if len(j.Model.Mesh) == 0 {
		return nil
	}
	p, ok := j.engine.(engine.Partitioner)
	if !ok {
		return j.Errorf("mesh", "engine: %s has one device; set engine: xla", j.Model.Engine)
	}
	sizes := map[string]int{}
	for axis, v := range j.Model.Mesh {
		n, ok := v.(int)
		if !ok {
			return j.Errorf("mesh", "%s: want a whole number of devices, got %v", axis, v)
		}
		sizes[axis] = n
	}
	if err := p.Partition(sizes); err != nil {
		return j.Errorf("mesh", "%v", err)
	}
	return nil
}
