package pjrt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Kind is a plugin that danlu knows how to find and install.
type Kind struct {
	Name     string   // as it is installed: "cpu", "cuda13"
	Variable string   // the environment variable that names the library in the place of all folders
	Library  string   // the library's place in its wheel, and so below an installed plugin's folder; may hold a *
	Wheel    string   // the package that carries it
	Needs    []string // packages with libraries that it loads
}

// Kinds are the known plugins.
var Kinds = []Kind{
	{Name: "cpu", Variable: "DANLU_PJRT_CPU", Library: "lammps_jax_pjrt_cpu/*.so", Wheel: "lammps-jax-pjrt-cpu"},
	{Name: "cuda13", Variable: "DANLU_PJRT_CUDA", Library: "jax_plugins/xla_cuda13/*.so", Wheel: "jax-cuda13-pjrt",
		Needs: []string{"nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-nccl-cu13", "nvidia-cusolver", "nvidia-cusparse", "nvidia-nvshmem-cu13", "nvidia-cufft",
			"nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-cuda-nvcc", "nvidia-nvjitlink", "nvidia-cuda-cupti", "nvidia-cuda-runtime"}},
}

// KindOf is the known plugin of a name.
func KindOf(name string) (Kind, error) {
	var names []string
	for _, k := range Kinds {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, fmt.Errorf("pjrt: plugin %q: want one of %v", name, names)
}

// Home is a folder of danlu's own, such as plugins: in $DANLU_HOME, else in ~/.cache/danlu.
func Home(name string) (string, error) {
	dir := os.Getenv("DANLU_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("pjrt: %w; set DANLU_HOME", err)
		}
		dir = filepath.Join(home, ".cache", "danlu")
	}
	return filepath.Join(dir, name), nil
}

// Place is where a plugin was found.
type Place struct {
	Path string
	From string // "$DANLU_PJRT_CPU", or the folder that was searched
}

// folders are searched for a plugin, the first first: what danlu installed, then Python's packages.
func (k Kind) folders() ([]string, error) {
	home, err := Home("plugins")
	if err != nil {
		return nil, err
	}
	folders := []string{filepath.Join(home, k.Name)}
	var roots []string
	if env := os.Getenv("VIRTUAL_ENV"); env != "" {
		roots = append(roots, env)
	}
	if user, err := os.UserHomeDir(); err == nil {
		roots = append(roots, filepath.Join(user, ".local"))
	}
	for _, root := range append(roots, "/usr/local", "/usr") {
		for _, pattern := range []string{"lib/python3*/site-packages", "lib/python3*/dist-packages", "Lib/site-packages"} {
			found, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil {
				return nil, fmt.Errorf("pjrt: %w", err)
			}
			slices.Sort(found)
			slices.Reverse(found)
			folders = append(folders, found...)
		}
	}
	return folders, nil
}

// Find finds the plugin's library: the one that its environment variable names, else the first in the folders.
func (k Kind) Find() (Place, error) {
	if path := os.Getenv(k.Variable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return Place{}, fmt.Errorf("pjrt: %s: %w", k.Variable, err)
		}
		return Place{path, "$" + k.Variable}, nil
	}
	folders, err := k.folders()
	if err != nil {
		return Place{}, err
	}
	for _, dir := range folders {
		found, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(k.Library)))
		if err != nil {
			return Place{}, fmt.Errorf("pjrt: %w", err)
		}
		if len(found) > 0 {
			return Place{found[0], dir}, nil
		}
	}
	return Place{}, fmt.Errorf("pjrt: plugin %s: is not installed; danlu engine install %s gets it, or set %s to a library", k.Name, k.Name, k.Variable)
}

// Any finds the first plugin that is installed, those for accelerators first.
func Any() (Kind, Place, error) {
	for _, k := range slices.Backward(Kinds) {
		if p, err := k.Find(); err == nil {
			return k, p, nil
		}
	}
	return Kind{}, Place{}, errors.New("pjrt: no plugin is installed; danlu engine install cpu (or cuda13) gets one")
}
