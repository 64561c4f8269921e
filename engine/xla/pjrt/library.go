//go:build !noxla

package pjrt

import "github.com/ebitengine/purego"

// invoke calls a C function.
func invoke(fn uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}

// callback makes a Go function callable from C. Callbacks are never freed, and there is room for about 2000.
func callback(f any) uintptr { return purego.NewCallback(f) }
