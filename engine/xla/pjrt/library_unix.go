//go:build !noxla && !windows

package pjrt

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// logLevel is the variable by which plugins' logs go by; 3 leaves out all that is returned as an error too.
const logLevel = "TF_CPP_MIN_LOG_LEVEL"

// open loads a shared library and finds its GetPjrtApi.
func open(path string) (getAPI uintptr, err error) {
	if err := quiet(); err != nil {
		return 0, err
	}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return 0, err
	}
	return purego.Dlsym(lib, entry)
}

// quiet sets the log level in C's environment, which os.Setenv does not reach without cgo, unless the user has set it.
func quiet() error {
	if os.Getenv(logLevel) != "" {
		return nil
	}
	setenv, err := purego.Dlsym(purego.RTLD_DEFAULT, "setenv")
	if err != nil {
		return fmt.Errorf("libc: %w", err)
	}
	name, value := []byte(logLevel+"\x00"), []byte("3\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&name[0])
	pin.Pin(&value[0])
	invoke(setenv, uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&value[0])), 1)
	return nil
}
