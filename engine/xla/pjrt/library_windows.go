//go:build !noxla && windows

package pjrt

import "golang.org/x/sys/windows"

// open loads a shared library and finds its GetPjrtApi.
func open(path string) (getAPI uintptr, err error) {
	lib, err := windows.LoadLibrary(path)
	if err != nil {
		return 0, err
	}
	return windows.GetProcAddress(lib, entry)
}
