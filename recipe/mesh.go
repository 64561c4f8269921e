package recipe

import (
	"fmt"

	"danlu/engine"
	"danlu/engine/xla/hosts"
)

// joiner is an engine that can be one of several processes of a run.
type joiner interface {
	engine.Hosted
	Join(o hosts.Options) error
}

// join meets the other processes of the run and makes sure that all go on from the same step.
func (j *job) join() error {
	if j.Hosts == nil {
		return nil
	}
	e, ok := j.engine.(joiner)
	if !ok {
		return j.Errorf("engine", "%s runs in one process; several nodes need engine: xla", j.Model.Engine)
	}
	if err := e.Join(*j.Hosts); err != nil {
		return err
	}
	at, err := j.run.step()
	if err != nil {
		return err
	}
	return e.Agree(fmt.Sprintf("the step that %s goes on from", j.Method.Stage), fmt.Sprint(at))
}

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
