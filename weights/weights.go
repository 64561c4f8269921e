// Package weights moves parameters between checkpoint files and an engine's store.
package weights

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/internal/mmap"
	"danlu/tensor"
)

// Source is a checkpoint open for reading. Tensors may alias mapped files and hold until Close.
type Source interface {
	Path() string
	Names() []string
	// Describe returns a tensor's type and shape without reading its values.
	Describe(name string) (dtype.DType, []int, error)
	Tensor(name string) (*tensor.Tensor, error)
	Close() error
}

// Configured is implemented by sources that bring the model's config.json in a form of their own.
type Configured interface {
	Config() ([]byte, error)
}

// LoadOptions says what may be missing from or left over in a checkpoint.
type LoadOptions struct {
	// Ignored are name suffixes of tensors that nobody needs.
	Ignored []string
	// Optional reports whether a parameter may be missing; it keeps its initial value.
	Optional func(name string) bool
	// Rename maps a parameter's name to the checkpoint's; nil: the same.
	Rename func(name string) string
	// Progress, if set, is called with the bytes read so far and in all.
	Progress func(done, total int64)
	// Context, if set, ends Load between two tensors.
	Context context.Context
}

// maxListed is how many names an error lists.
const maxListed = 5

// Check makes sure, before anything is allocated, that Load will find what it needs: each parameter and buffer among
// specs is in src in its shape, and every tensor of src is one of them or ignored.
func Check(specs []*graph.StateSpec, src Source, opts LoadOptions) error {
	_, err := match(specs, src, opts)
	return err
}

// matched is a part of a state and the tensor that fills it.
type matched struct {
	name, file string
	dtype      dtype.DType // as the store keeps it
	bytes      int64       // in the file
}

func match(specs []*graph.StateSpec, src Source, opts LoadOptions) ([]matched, error) {
	have := map[string]bool{}
	for _, n := range src.Names() {
		have[n] = true
	}
	var parts []matched
	var missing []string
	for _, spec := range specs {
		if spec.Role != graph.Param && spec.Role != graph.Buffer {
			continue
		}
		for i := range spec.Parts() {
			p := matched{name: spec.PartName(i), dtype: spec.Type.DType}
			p.file = p.name
			if opts.Rename != nil {
				p.file = opts.Rename(p.name)
			}
			switch {
			case have[p.file]:
				d, shape, err := src.Describe(p.file)
				if err != nil {
					return nil, err
				}
				if want := spec.PartType().Shape; !slices.Equal(shape, want) {
					return nil, fmt.Errorf("weights: %s: tensor %q: want shape %v, got %v", src.Path(), p.file, want, shape)
				}
				if !d.IsFloat() {
					return nil, fmt.Errorf("weights: %s: tensor %q: want real numbers, got %v", src.Path(), p.file, d)
				}
				p.bytes = int64(d.Bytes(tensor.Len(shape)))
				parts = append(parts, p)
				delete(have, p.file)
			case opts.Optional == nil || !opts.Optional(p.name):
				missing = append(missing, p.file)
			}
			if len(missing) > maxListed {
				// A config may ask for any number of layers: what is missing is not counted to the end.
				return nil, fmt.Errorf("weights: %s: tensors are missing: %s", src.Path(), some(missing))
			}
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("weights: %s: %d tensors are missing: %s", src.Path(), len(missing), some(missing))
	}
	var extra []string
	for n := range have {
		if !slices.ContainsFunc(opts.Ignored, func(s string) bool { return strings.HasSuffix(n, s) }) {
			extra = append(extra, n)
		}
	}
	if len(extra) > 0 {
		sort.Strings(extra)
		return nil, fmt.Errorf("weights: %s: %d tensors belong to no part of the model: %s", src.Path(), len(extra), some(extra))
	}
	return parts, nil
}

// Load fills the parameters and buffers among specs from src, which must pass Check.
func Load(store engine.Store, specs []*graph.StateSpec, src Source, opts LoadOptions) error {
	parts, err := match(specs, src, opts)
	if err != nil {
		return err
	}
	var total, done int64
	for _, p := range parts {
		total += p.bytes
	}
	var mu sync.Mutex
	load := func(p matched) error {
		if opts.Context != nil && opts.Context.Err() != nil {
			return context.Cause(opts.Context)
		}
		err := guarded(src, func() error {
			t, err := src.Tensor(p.file)
			if err != nil {
				return err
			}
			defer mmap.Forget(t.Data)
			if t, err = stored(p.dtype, t); err != nil {
				return err
			}
			return store.Set(p.name, t)
		})
		if err != nil {
			return fmt.Errorf("weights: %s: tensor %q: %w", src.Path(), p.file, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if done += p.bytes; opts.Progress != nil {
			opts.Progress(done, total)
		}
		return nil
	}
	// Tensors are converted side by side, one to a core, so that few are held twice at a time.
	errs := make([]error, len(parts))
	var next atomic.Int64
	var failed atomic.Bool
	var group sync.WaitGroup
	for range min(runtime.NumCPU(), len(parts)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(parts) && !failed.Load(); i = int(next.Add(1)) - 1 {
				if errs[i] = load(parts[i]); errs[i] != nil {
					failed.Store(true)
				}
			}
		})
	}
	group.Wait()
	return cmp.Or(errs...)
}

// Guarded is implemented by sources that can turn the fault of a file cut short under the program into an error.
type Guarded interface {
	Guard(read func() error) error
}

func guarded(src Source, read func() error) error {
	if g, ok := src.(Guarded); ok {
		return g.Guard(read)
	}
	return read()
}

func some(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:maxListed], ", ") + ", ..."
}
