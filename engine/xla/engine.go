package xla

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"danlu/engine"
	"danlu/engine/xla/hosts"
	"danlu/engine/xla/pjrt"
)

// Options of an engine.
type Options struct {
	// Plugin is the name of an installed plugin (cpu, cuda13) or the path of a library; "": the first that is found, those
	// for accelerators first.
	Plugin string
	// CacheDir holds compiled programs; "": they are compiled anew in each process.
	CacheDir string
	// Mesh are the sizes of the axes dp, fsdp, ep and tp over which programs are partitioned; none: one device.
	Mesh map[string]int
}

// Engine compiles graphs for the devices of a plugin.
type Engine struct {
	opts     Options
	plugin   *pjrt.Plugin
	client   *pjrt.Client
	mesh     mesh
	devices  []pjrt.Device // of the mesh
	platform string
	version  string
	group    *hosts.Group // nil: a run of one process
}

// New loads a plugin and starts its client.
func New(opts Options) (engine.Engine, error) {
	path, err := library(opts.Plugin)
	if err != nil {
		return nil, err
	}
	plugin, err := pjrt.Open(path)
	if err != nil {
		return nil, err
	}
	e := &Engine{opts: opts, plugin: plugin}
	if err := e.start(opts.Mesh); err != nil {
		return nil, err
	}
	return e, nil
}

// start starts the client with the devices of a mesh.
func (e *Engine) start(sizes map[string]int) (err error) {
	if e.mesh, err = newMesh(sizes); err != nil {
		return fmt.Errorf("xla: mesh: %w", err)
	}
	n := e.mesh.devices()
	values := map[string]any{}
	if strings.Contains(filepath.Base(e.plugin.Path), "cpu") {
		values["cpu_device_count"] = n
	}
	if e.client, err = e.plugin.NewClient(pjrt.ClientOptions{Values: values}); err != nil {
		return err
	}
	if e.platform, err = e.client.Platform(); err == nil {
		e.version, err = e.client.Version()
	}
	if have := len(e.client.Devices); err == nil && have < n {
		err = fmt.Errorf("xla: a mesh of %d devices: %s has %d", n, e.platform, have)
	}
	if err != nil {
		return errors.Join(err, e.client.Close())
	}
	e.devices = e.client.Devices[:n]
	return nil
}

// Partition implements engine.Partitioner.
func (e *Engine) Partition(sizes map[string]int) error {
	if _, err := newMesh(sizes); err != nil {
		return err
	}
	if err := e.client.Close(); err != nil {
		return err
	}
	return e.start(sizes)
}

// Name implements engine.Engine.
func (*Engine) Name() string { return "xla" }

// WholeSteps implements engine.Whole.
func (*Engine) WholeSteps() bool { return true }

// Close implements engine.Engine.
func (e *Engine) Close() error { return errors.Join(e.leave(), e.client.Close()) }

// NewStore implements engine.Engine.
func (e *Engine) NewStore() engine.Store {
	return &store{engine: e, byKey: map[string]*state{}, parts: map[string]part{}}
}

// library is the path of a plugin's library.
func library(plugin string) (string, error) {
	if strings.ContainsRune(plugin, filepath.Separator) {
		return plugin, nil
	}
	if plugin == "" {
		_, place, err := pjrt.Any()
		return place.Path, err
	}
	kind, err := pjrt.KindOf(plugin)
	if err != nil {
		return "", err
	}
	place, err := kind.Find()
	return place.Path, err
}
