package xla

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"danlu/engine"
	"danlu/engine/xla/pjrt"
)

// Options of an engine.
type Options struct {
	// Plugin is the name of an installed plugin (cpu, cuda13) or the path of a library; "": the first that is found, those
	// for accelerators first.
	Plugin string
	// CacheDir holds compiled programs; "": they are compiled anew in each process.
	CacheDir string
}

// Engine compiles graphs for the devices of a plugin.
type Engine struct {
	opts     Options
	plugin   *pjrt.Plugin
	client   *pjrt.Client
	devices  []pjrt.Device
	platform string
	version  string
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
	values := map[string]any{}
	if strings.Contains(filepath.Base(path), "cpu") {
		values["cpu_device_count"] = 1
	}
	client, err := plugin.NewClient(pjrt.ClientOptions{Values: values})
	if err != nil {
		return nil, err
	}
	e := &Engine{opts: opts, plugin: plugin, client: client, devices: client.Devices}
	if e.platform, err = client.Platform(); err == nil {
		e.version, err = client.Version()
	}
	if err == nil && len(e.devices) == 0 {
		err = fmt.Errorf("xla: %s: has no device", path)
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return e, nil
}

// Name implements engine.Engine.
func (*Engine) Name() string { return "xla" }

// WholeSteps implements engine.Whole.
func (*Engine) WholeSteps() bool { return true }

// Close implements engine.Engine.
func (e *Engine) Close() error { return e.client.Close() }

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
