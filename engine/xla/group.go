package xla

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"danlu/engine/xla/hosts"
	"danlu/engine/xla/pjrt"
	"danlu/graph"
)

// sumTarget names the custom call that adds up arrays over the processes of a run.
const sumTarget = "danlu_sum_hosts"

// group is the run that this process is part of; custom calls find it here.
var group atomic.Pointer[hosts.Group]

// registered says whether a plugin knows the custom call; it cannot be told twice.
var registered sync.Map

// Join makes the engine's process one of several, each of which computes the gradients of a part of a batch.
func (e *Engine) Join(o hosts.Options) error {
	if e.platform != "cpu" {
		return fmt.Errorf("xla: several nodes: are for processors so far; the plugin is for %s", e.platform)
	}
	if e.mesh.devices() > 1 {
		return fmt.Errorf("xla: several nodes: each is one device, and mesh asks for %s", e.mesh)
	}
	if _, done := registered.LoadOrStore(e.plugin.Path, true); !done {
		if err := e.plugin.Register(sumTarget, sumOverHosts); err != nil {
			return err
		}
	}
	g, err := hosts.Join(o)
	if err != nil {
		return err
	}
	if !group.CompareAndSwap(nil, g) {
		return errors.Join(errors.New("xla: this process is part of a run already"), g.Close())
	}
	e.group = g
	return nil
}

// Host implements engine.Hosted.
func (e *Engine) Host() (rank, nodes int) {
	if e.group == nil {
		return 0, 1
	}
	return e.group.Rank, e.group.Nodes
}

// Agree implements engine.Hosted.
func (e *Engine) Agree(name, value string) error {
	if e.group == nil {
		return nil
	}
	return e.group.Agree(name, value)
}

// leave ends the membership.
func (e *Engine) leave() error {
	if e.group == nil {
		return nil
	}
	group.Store(nil)
	err := e.group.Close()
	e.group = nil
	return err
}

// sumOverHosts is the custom call: all operands go as one block.
func sumOverHosts(in, out []pjrt.Tensor) error {
	g := group.Load()
	if g == nil {
		return errors.New("xla: this process is part of no run")
	}
	var block []byte
	for _, t := range in {
		block = append(block, t.Data...)
	}
	if err := g.Sum(block); err != nil {
		return err
	}
	for _, t := range out {
		block = block[copy(t.Data, block):]
	}
	return nil
}

// sumHosts writes the custom call.
func (w writer) sumHosts(in []*value) []*value {
	types := make([]graph.Type, len(in))
	for i, v := range in {
		types[i] = v.typ
	}
	return w.apply("stablehlo.custom_call", fmt.Sprintf("call_target_name = %q, api_version = 4 : i32, has_side_effect = true, backend_config = {}", sumTarget), types, nil, in...)
}
