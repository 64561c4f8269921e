package pjrt

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"structs"
	"sync"
	"unsafe"
)

// entry is the one symbol that every plugin exports.
const entry = "GetPjrtApi"

// The interface's version that the structs here have. A plugin's minor version may be older or newer.
const (
	major = 0
	minor = 83
)

// Plugin is a loaded plugin. Plugins are never unloaded.
type Plugin struct {
	Path string
	// Minor is the minor version of the plugin's interface; the major one is zero.
	Minor int
	api   *apiTable
}

// apiTable is PJRT_Api: its header, then functions.
type apiTable struct {
	_         structs.HostLayout
	size      uintptr
	extension uintptr
	version   struct {
		size         uintptr
		extension    uintptr
		major, minor int32
	}
	// functions has size-headBytes pointers; the array type is only large enough for what is called.
	functions [fnExecutableGetCompiledMemoryStats + 1]uintptr
}

const headBytes = unsafe.Offsetof(apiTable{}.functions)

// plugins holds what was loaded, by path.
var plugins struct {
	sync.Mutex
	byPath map[string]*Plugin
}

// Open loads a plugin and checks its version. Opening the same path again gives the same Plugin.
func Open(path string) (*Plugin, error) {
	plugins.Lock()
	defer plugins.Unlock()
	if p := plugins.byPath[path]; p != nil {
		return p, nil
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("pjrt: plugin: %w", err)
	}
	get, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("pjrt: %s: is not a PJRT plugin that this machine can load: %w", path, err)
	}
	p := &Plugin{Path: path, api: (*apiTable)(cMemory(invoke(get)))}
	if p.api == nil {
		return nil, fmt.Errorf("pjrt: %s: %s gives nothing", path, entry)
	}
	if err := check(p.api); err != nil {
		return nil, fmt.Errorf("pjrt: %s: %w", path, err)
	}
	p.Minor = int(p.api.version.minor)
	if err := call(p.api, fnPluginInitialize, &pluginInitializeArgs{}); err != nil {
		return nil, fmt.Errorf("pjrt: %s: %w", path, err)
	}
	if plugins.byPath == nil {
		plugins.byPath = map[string]*Plugin{}
	}
	plugins.byPath[path] = p
	return p, nil
}

// check refuses a table of another major version, or one without the functions that are called.
func check(api *apiTable) error {
	if api.version.major != major {
		return fmt.Errorf("the plugin's interface has version %d.%d, want %d.x; install one of another version", api.version.major, api.version.minor, major)
	}
	if api.size < unsafe.Sizeof(*api) {
		return fmt.Errorf("the plugin's interface has version %d.%d with %d functions, want at least %d; install a newer one",
			api.version.major, api.version.minor, (api.size-headBytes)/unsafe.Sizeof(uintptr(0)), len(api.functions))
	}
	return nil
}

// cMemory is memory that C owns.
func cMemory(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

// cString copies text that C owns.
func cString(address, size uintptr) string {
	if address == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(cMemory(address)), size))
}

// argsHead begins most structs of arguments.
type argsHead struct {
	_               structs.HostLayout
	size, extension uintptr
}

// call calls a function of the table with its struct of arguments and turns what it returns into an error. The struct and
// what it points to stay where they are and alive during the call.
func call[T any](api *apiTable, fn function, args *T) error {
	raw := invokeWith(api.functions[fn], args)
	if raw == 0 {
		return nil
	}
	return newError(api, raw)
}

func invokeWith[T any](fn uintptr, args *T) uintptr {
	var pin runtime.Pinner
	pin.Pin(args)
	defer pin.Unpin()
	*(*uintptr)(unsafe.Pointer(args)) = unsafe.Sizeof(*args)
	return invoke(fn, uintptr(unsafe.Pointer(args)))
}

// Error is an error of a plugin. Code is that of absl: 3 invalid argument, 8 out of memory, 12 not implemented, ...
type Error struct {
	Code    int
	Message string
}

// CodeResourceExhausted is the code of errors for want of memory.
const CodeResourceExhausted = 8

func (e *Error) Error() string { return e.Message }

// OutOfMemory reports whether err says that a device has too little memory.
func OutOfMemory(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == CodeResourceExhausted
}

func newError(api *apiTable, raw uintptr) error {
	message := errorMessageArgs{err: raw}
	invokeWith(api.functions[fnErrorMessage], &message)
	code := errorCodeArgs{err: raw}
	if failed := invokeWith(api.functions[fnErrorGetCode], &code); failed != 0 {
		code.code = 2 // unknown
	}
	text, _, _ := strings.Cut(cString(message.message, message.messageSize), "\n") // a trace of the plugin's sources follows
	e := &Error{Code: int(code.code), Message: text}
	invokeWith(api.functions[fnErrorDestroy], &errorDestroyArgs{err: raw})
	return e
}
