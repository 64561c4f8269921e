package pjrt

import (
	"fmt"
	"runtime"
	"structs"
	"unsafe"

	"danlu/dtype"
)

// extensionFFI is the number of the extension for custom calls.
const extensionFFI = 5

// Tensor is an operand or a result of a custom call: memory of the running program.
type Tensor struct {
	DType dtype.DType
	Shape []int
	Data  []byte
}

// Handler computes a custom call: it reads in and fills out. It runs on the plugin's threads.
type Handler func(in, out []Tensor) error

// Register makes f callable from programs on processors as stablehlo.custom_call @name with api_version = 4. A name can
// be registered once in a process.
func (p *Plugin) Register(name string, f Handler) error {
	ext := p.extension(extensionFFI)
	if ext == nil {
		return fmt.Errorf("pjrt: %s: has no extension for custom calls", p.Path)
	}
	label, platform := []byte(name), []byte("Host")
	var pin runtime.Pinner
	defer pin.Unpin()
	args := registerArgs{name: unsafe.Pointer(&label[0]), nameSize: uintptr(len(label)), platform: unsafe.Pointer(&platform[0]), platformSize: uintptr(len(platform)),
		handler: callback(func(frame *callFrame) uintptr { return handle(frame, f) })}
	if raw := invokeWith((*ffiExtension)(ext).handle, &args); raw != 0 {
		return fmt.Errorf("pjrt: register %s: %w", name, newError(p.api, raw))
	}
	return nil
}

// extension finds a plugin's extension by its number.
func (p *Plugin) extension(kind int32) unsafe.Pointer {
	for at := p.api.extension; at != 0; {
		e := (*ffiExtension)(cMemory(at))
		if e.kind == kind {
			return unsafe.Pointer(e)
		}
		at = e.next
	}
	return nil
}

// callFrame is XLA_FFI_CallFrame (xla/ffi/api/c_api.h): what a handler is called with.
type callFrame struct {
	_          structs.HostLayout
	size       uintptr
	extension  uintptr
	api        uintptr
	context    uintptr
	stage      int32
	in, out    operands
	attributes [6]uintptr
	future     uintptr
}

type operands struct {
	_ structs.HostLayout
	argsHead
	count        int64
	types, lists uintptr
}

// ffiMetadata is the extension with which the runtime asks for a handler's version in the place of calling it.
type ffiMetadata struct {
	_        structs.HostLayout
	size     uintptr
	kind     int32
	next     uintptr
	metadata uintptr
}

type ffiVersion struct {
	_ structs.HostLayout
	argsHead
	major, minor int32
}

type ffiDescription struct {
	_       structs.HostLayout
	size    uintptr
	version ffiVersion
	traits  uint32
}

// ffiAPI is the beginning of XLA_FFI_Api.
type ffiAPI struct {
	_ structs.HostLayout
	argsHead
	version   ffiVersion
	internal  uintptr
	makeError uintptr
}

type ffiBuffer struct {
	_ structs.HostLayout
	argsHead
	kind int32
	data uintptr
	rank int64
	dims uintptr
}

type ffiErrorArgs struct {
	_ structs.HostLayout
	argsHead
	message unsafe.Pointer
	code    int32
}

// ffiTypes are XLA_FFI_DataType's codes.
var ffiTypes = map[int32]dtype.DType{1: dtype.Bool, 2: dtype.I8, 3: dtype.I16, 4: dtype.I32, 5: dtype.I64, 6: dtype.U8, 7: dtype.U16, 8: dtype.U32, 9: dtype.U64,
	10: dtype.F16, 11: dtype.F32, 12: dtype.F64, 16: dtype.BF16}

const ffiMetadataKind, ffiExecute = 1, 3

// handle answers one call of the runtime: a question for the handler's version, or a call with operands.
func handle(frame *callFrame, f Handler) uintptr {
	api := (*ffiAPI)(cMemory(frame.api))
	if ext := (*ffiMetadata)(cMemory(frame.extension)); ext != nil && ext.kind == ffiMetadataKind {
		d := (*ffiDescription)(cMemory(ext.metadata))
		d.version.major, d.version.minor = api.version.major, api.version.minor
		return 0
	}
	if frame.stage != ffiExecute {
		return 0
	}
	in, err := frame.in.tensors()
	var out []Tensor
	if err == nil {
		out, err = frame.out.tensors()
	}
	if err == nil {
		err = safely(f, in, out)
	}
	if err == nil {
		return 0
	}
	const internal = 13
	text := append([]byte(err.Error()), 0)
	return invokeWith(api.makeError, &ffiErrorArgs{message: unsafe.Pointer(&text[0]), code: internal})
}

// safely turns a panic of a handler into an error: it must not cross the runtime's frames.
func safely(f Handler, in, out []Tensor) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("custom call: %v", r)
		}
	}()
	return f(in, out)
}

func (o *operands) tensors() ([]Tensor, error) {
	list := make([]Tensor, o.count)
	for i, at := range unsafe.Slice((*uintptr)(cMemory(o.lists)), o.count) {
		b := (*ffiBuffer)(cMemory(at))
		t, ok := ffiTypes[b.kind]
		if !ok {
			return nil, fmt.Errorf("custom call: operand %d has the unknown element type %d", i, b.kind)
		}
		n := 1
		for _, d := range unsafe.Slice((*int64)(cMemory(b.dims)), b.rank) {
			list[i].Shape = append(list[i].Shape, int(d))
			n *= int(d)
		}
		list[i].DType = t
		list[i].Data = unsafe.Slice((*byte)(cMemory(b.data)), t.Bytes(n))
	}
	return list, nil
}
