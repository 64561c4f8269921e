package xla

import (
	"context"
	"errors"
	"fmt"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/xla/pjrt"
	"danlu/graph"
	"danlu/tensor"
)

// Facts are what a plugin that works tells of itself.
type Facts struct {
	Minor    int          `json:"pjrt_minor"` // of its interface's version 0.x
	Platform string       `json:"platform"`
	Version  string       `json:"version"`
	Devices  []DeviceFact `json:"devices"`
}

// DeviceFact is a device; MemoryBytes is 0 where the plugin does not tell.
type DeviceFact struct {
	ID          int    `json:"id"`
	Kind        string `json:"kind"`
	MemoryBytes int64  `json:"memory_bytes"`
}

// Probe loads the plugin at path and runs a small program on its first device.
func Probe(path string) (*Facts, error) {
	plugin, err := pjrt.Open(path)
	if err != nil {
		return nil, err
	}
	e, err := New(Options{Plugin: path})
	if err != nil {
		return nil, err
	}
	x := e.(*Engine)
	facts := &Facts{Minor: plugin.Minor, Platform: x.platform, Version: x.version}
	for _, d := range x.devices {
		fact := DeviceFact{ID: d.ID, Kind: d.Kind}
		if m, err := d.Memory(); err == nil && m.Limit > 0 {
			fact.MemoryBytes = m.Limit
		}
		facts.Devices = append(facts.Devices, fact)
	}
	return facts, errors.Join(x.trial(), e.Close())
}

// trial computes 1 + 2 on the device.
func (e *Engine) trial() error {
	g, err := graph.Build(func(g *graph.Graph) {
		x := g.Input("x", graph.Of(dtype.F32, 1))
		g.Output("y", graph.AddScalar(x, 2))
	})
	if err != nil {
		return err
	}
	store := e.NewStore()
	defer store.Close()
	p, err := e.Compile(g, store, engine.Options{})
	if err != nil {
		return err
	}
	defer p.Close()
	out, err := p.Run(context.Background(), engine.Tensors{"x": tensor.FromF32([]float32{1}, 1)})
	if err != nil {
		return err
	}
	if y := out["y"].F32()[0]; y != 3 {
		return fmt.Errorf("xla: the device says that 1 + 2 is %v", y)
	}
	return nil
}
