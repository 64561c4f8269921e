package pjrt

import (
	"structs"
	"unsafe"
)

// The structs of arguments. What C owns or hands out is a uintptr; what Go lends for a call is an unsafe.Pointer, which
// keeps it alive. Their sizes are held against the header's in a test.

type errorDestroyArgs struct {
	_ structs.HostLayout
	argsHead
	err uintptr
}

type errorMessageArgs struct {
	_ structs.HostLayout
	argsHead
	err                  uintptr
	message, messageSize uintptr // out
}

type errorCodeArgs struct {
	_ structs.HostLayout
	argsHead
	err  uintptr
	code int32 // out
}

type pluginInitializeArgs struct {
	_ structs.HostLayout
	argsHead
}

type namedValue struct {
	_ structs.HostLayout
	argsHead
	name      unsafe.Pointer
	nameSize  uintptr
	kind      int32
	value     uint64 // of the union: bits of a number, or a pinned pointer
	valueSize uintptr
}

type eventArgs struct {
	_ structs.HostLayout
	argsHead
	event uintptr
}

type clientCreateArgs struct {
	_ structs.HostLayout
	argsHead
	options           unsafe.Pointer
	optionCount       uintptr
	get, getArg       uintptr
	put, putArg       uintptr
	client            uintptr // out
	tryGet, tryGetArg uintptr
}

type clientArgs struct {
	_ structs.HostLayout
	argsHead
	client uintptr
}

// clientListArgs are of functions that give text or a list.
type clientListArgs struct {
	_ structs.HostLayout
	argsHead
	client      uintptr
	list, count uintptr // out
}

type program struct {
	_ structs.HostLayout
	argsHead
	code       unsafe.Pointer
	codeSize   uintptr
	format     unsafe.Pointer
	formatSize uintptr
}

type compileArgs struct {
	_ structs.HostLayout
	argsHead
	client      uintptr
	program     unsafe.Pointer
	options     unsafe.Pointer
	optionsSize uintptr
	executable  uintptr // out
}

type fromHostArgs struct {
	_ structs.HostLayout
	argsHead
	client       uintptr
	data         unsafe.Pointer
	kind         int32
	dims         unsafe.Pointer
	rank         uintptr
	strides      unsafe.Pointer
	stridesCount uintptr
	semantics    int32
	device       uintptr
	memory       uintptr
	layout       uintptr
	done         uintptr // out
	buffer       uintptr // out
}

type describeArgs struct {
	_ structs.HostLayout
	argsHead
	device      uintptr
	description uintptr // out
}

type descriptionIDArgs struct {
	_ structs.HostLayout
	argsHead
	description uintptr
	id          int32 // out
}

type descriptionTextArgs struct {
	_ structs.HostLayout
	argsHead
	description uintptr
	text, size  uintptr // out
}

// optionalInt is a number and whether it is known.
type optionalInt struct {
	_     structs.HostLayout
	value int64
	known bool
}

type memoryStatsArgs struct {
	_ structs.HostLayout
	argsHead
	device uintptr
	inUse  int64       // out, as are all that follow
	peak   optionalInt // bytes in use
	rest   [2]optionalInt
	limit  optionalInt
	more   [6]optionalInt
}

type executableArgs struct {
	_ structs.HostLayout
	argsHead
	executable uintptr
}

// executableOfArgs are of functions that give a number or a handle.
type executableOfArgs struct {
	_ structs.HostLayout
	argsHead
	executable uintptr
	result     uintptr // out
}

type executableListArgs struct {
	_ structs.HostLayout
	argsHead
	executable  uintptr
	list, count uintptr // out
}

type memoryOfArgs struct {
	_ structs.HostLayout
	argsHead
	executable                                     uintptr
	code, arguments, outputs, aliased, temporary   int64 // out, as are all that follow
	hostCode, hostArguments, hostOutputs, hostRest int64
	hostTemporary, peak                            int64
}

type serializeArgs struct {
	_ structs.HostLayout
	argsHead
	executable   uintptr
	bytes, count uintptr // out
	owner, free  uintptr // out
}

type deserializeArgs struct {
	_ structs.HostLayout
	argsHead
	client      uintptr
	bytes       unsafe.Pointer
	count       uintptr
	executable  uintptr // out
	options     unsafe.Pointer
	optionCount uintptr
}

type executeOptions struct {
	_ structs.HostLayout
	argsHead
	send, receive           uintptr
	sendCount, receiveCount uintptr
	launch                  int32
	keep                    unsafe.Pointer // indices of arguments that are not to be donated
	keepCount               uintptr
	context                 uintptr
	location                uintptr
	tasks                   uintptr
	taskIDs, incarnations   uintptr
}

type executeArgs struct {
	_ structs.HostLayout
	argsHead
	executable uintptr
	options    unsafe.Pointer
	arguments  unsafe.Pointer // [devices][arguments]buffer
	devices    uintptr
	count      uintptr
	outputs    unsafe.Pointer // [devices][outputs]buffer, out
	events     unsafe.Pointer // [devices]event, out
	device     uintptr
}

type bufferArgs struct {
	_ structs.HostLayout
	argsHead
	buffer uintptr
}

// bufferOfArgs are of functions that give a number or a handle.
type bufferOfArgs struct {
	_ structs.HostLayout
	argsHead
	buffer uintptr
	result uintptr // out
}

type toHostArgs struct {
	_ structs.HostLayout
	argsHead
	buffer  uintptr
	layout  uintptr
	data    unsafe.Pointer
	size    uintptr // in and out
	arrived uintptr // out
}

// ffiExtension is the extension with which functions of ours become custom calls.
type ffiExtension struct {
	_                              structs.HostLayout
	size                           uintptr
	kind                           int32
	next                           uintptr
	typeRegister, userData, handle uintptr
}

// registerArgs has no extension, unlike the others.
type registerArgs struct {
	_            structs.HostLayout
	size         uintptr
	name         unsafe.Pointer
	nameSize     uintptr
	handler      uintptr
	platform     unsafe.Pointer
	platformSize uintptr
	traits       int32
}
