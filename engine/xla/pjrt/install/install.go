// Package install fetches the wheels that carry plugins: through pip, or from a package index that PIP_INDEX_URL names,
// or from a folder of wheels where there is no network.
package install

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"danlu/engine/xla/pjrt"
)

// Options of an installation.
type Options struct {
	From     string // a folder of wheels; "": fetch them
	Stderr   io.Writer
	Progress func(done, total int64) // of what is downloaded from an index; nil: not told
}

// Plugin installs a plugin into its place under pjrt.Home and returns where its library is. What was installed before is
// replaced once the new one is complete.
func Plugin(ctx context.Context, kind pjrt.Kind, o Options) (pjrt.Place, error) {
	home, err := pjrt.Home("plugins")
	if err != nil {
		return pjrt.Place{}, err
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return pjrt.Place{}, fmt.Errorf("install: %w", err)
	}
	tmp, err := os.MkdirTemp(home, "."+kind.Name+".*")
	if err != nil {
		return pjrt.Place{}, fmt.Errorf("install: %w", err)
	}
	defer os.RemoveAll(tmp)
	wheels, err := fetch(ctx, kind, o, filepath.Join(tmp, "wheels"))
	if err != nil {
		return pjrt.Place{}, err
	}
	tree := filepath.Join(tmp, "tree")
	for _, w := range wheels {
		if err := unpack(w, tree); err != nil {
			return pjrt.Place{}, fmt.Errorf("install: %s: %w", filepath.Base(w), err)
		}
	}
	found, err := filepath.Glob(filepath.Join(tree, filepath.FromSlash(kind.Library)))
	if err != nil || len(found) == 0 {
		return pjrt.Place{}, fmt.Errorf("install: %s: %s holds no %s", kind.Name, kind.Wheel, kind.Library)
	}
	place := filepath.Join(home, kind.Name)
	if err := os.RemoveAll(place); err != nil {
		return pjrt.Place{}, fmt.Errorf("install: %w", err)
	}
	if err := os.Rename(tree, place); err != nil {
		return pjrt.Place{}, fmt.Errorf("install: %w", err)
	}
	return kind.Find()
}

// fetch brings a plugin's wheels into dir, or finds them in a folder.
func fetch(ctx context.Context, kind pjrt.Kind, o Options, dir string) ([]string, error) {
	packages := append([]string{kind.Wheel}, kind.Needs...)
	if o.From != "" {
		return wheelsIn(o.From, packages)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	if index := os.Getenv("PIP_INDEX_URL"); index != "" {
		return fromIndex(ctx, index, packages, dir, o.Progress)
	}
	if err := runPip(ctx, packages, dir, o.Stderr); err != nil {
		return nil, err
	}
	return wheelsIn(dir, packages)
}

// pips are the ways in which pip is called.
var pips = [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}, {"py", "-m", "pip"}}

// runPip lets pip download wheels, which checks them against the index.
func runPip(ctx context.Context, packages []string, dir string, stderr io.Writer) error {
	for _, call := range pips {
		if _, err := exec.LookPath(call[0]); err != nil {
			continue
		}
		if exec.CommandContext(ctx, call[0], append(call[1:], "--version")...).Run() != nil {
			continue
		}
		args := append(slices.Clone(call[1:]), "download", "--no-deps", "--only-binary", ":all:", "--dest", dir)
		cmd := exec.CommandContext(ctx, call[0], append(args, packages...)...)
		cmd.Stdout, cmd.Stderr = stderr, stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("install: %s download: %w", strings.Join(call, " "), err)
		}
		return nil
	}
	return errors.New("install: neither pip nor PIP_INDEX_URL (a package index) is at hand; --from takes a folder of wheels")
}

// wheelsIn finds the newest wheel of each package in a folder.
func wheelsIn(dir string, packages []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	var paths, missing []string
	for _, p := range packages {
		if w, ok := newest(names, p); ok {
			paths = append(paths, filepath.Join(dir, w.file))
		} else {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("install: %s: has no wheel for this machine of %s", dir, strings.Join(missing, ", "))
	}
	return paths, nil
}

// unpack writes a wheel's files below dir.
func unpack(path, dir string) error {
	z, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("holds a file outside of itself: %q", f.Name)
		}
		if f.FileInfo().IsDir() {
			continue
		}
		if err := extract(f, filepath.Join(dir, filepath.FromSlash(f.Name))); err != nil {
			return err
		}
	}
	return nil
}

func extract(f *zip.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
