package pjrt

import (
	"errors"
	"runtime"
	"structs"
	"sync"
	"time"
	"unsafe"
)

// KeyValue is a store that the clients of several hosts share, through which they find each other.
type KeyValue interface {
	// Get waits until the key has a value.
	Get(key string, timeout time.Duration) ([]byte, error)
	// TryGet returns ErrNoKey at once when the key has no value.
	TryGet(key string) ([]byte, error)
	Put(key string, value []byte) error
}

// ErrNoKey says that a key has no value (yet).
var ErrNoKey = errors.New("the key has no value")

// The structs with which a plugin calls back.

type getCallbackArgs struct {
	_ structs.HostLayout
	argsHead
	key, keySize     uintptr
	milliseconds     int32
	makeError        uintptr // a pointer to the function
	store            uintptr
	value, valueSize uintptr // out
	free             uintptr // out
}

type tryGetCallbackArgs struct {
	_ structs.HostLayout
	argsHead
	key, keySize     uintptr
	makeError        uintptr
	store            uintptr
	value, valueSize uintptr // out
	free             uintptr // out
}

type putCallbackArgs struct {
	_ structs.HostLayout
	argsHead
	key, keySize     uintptr
	value, valueSize uintptr
	makeError        uintptr
	store            uintptr
}

// registry holds what C refers to by number.
type registry[T any] struct {
	sync.Mutex
	byHandle map[uintptr]T
	last     uintptr
}

func (r *registry[T]) add(x T) uintptr {
	r.Lock()
	defer r.Unlock()
	if r.byHandle == nil {
		r.byHandle = map[uintptr]T{}
	}
	r.last++
	r.byHandle[r.last] = x
	return r.last
}

func (r *registry[T]) get(handle uintptr) T {
	r.Lock()
	defer r.Unlock()
	return r.byHandle[handle]
}

var stores registry[KeyValue]

// lentValues are values that a plugin reads until it frees them, by address.
var lentValues sync.Map

// lend pins a value until the plugin frees it.
func lend(value []byte) uintptr {
	if len(value) == 0 {
		value = make([]byte, 1)
	}
	pin := new(runtime.Pinner)
	pin.Pin(&value[0])
	address := uintptr(unsafe.Pointer(&value[0]))
	lentValues.Store(address, pin)
	return address
}

func unlend(address uintptr) uintptr {
	if pin, ok := lentValues.LoadAndDelete(address); ok {
		pin.(*runtime.Pinner).Unpin()
	}
	return 0
}

// keyValueFunctions are the callbacks as C sees them.
type keyValueFunctions struct{ get, put, tryGet uintptr }

// keyValueCallbacks makes the callbacks, once for the whole process.
var keyValueCallbacks = sync.OnceValue(func() keyValueFunctions {
	free := callback(unlend)
	answer := func(value []byte, err error, makeError uintptr, out *[3]uintptr) uintptr {
		if err != nil {
			return callbackError(makeError, err)
		}
		*out = [3]uintptr{lend(value), uintptr(len(value)), free}
		return 0
	}
	return keyValueFunctions{
		get: callback(func(a *getCallbackArgs) uintptr {
			value, err := stores.get(a.store).Get(cString(a.key, a.keySize), time.Duration(a.milliseconds)*time.Millisecond)
			return answer(value, err, a.makeError, (*[3]uintptr)(unsafe.Pointer(&a.value)))
		}),
		put: callback(func(a *putCallbackArgs) uintptr {
			if err := stores.get(a.store).Put(cString(a.key, a.keySize), []byte(cString(a.value, a.valueSize))); err != nil {
				return callbackError(a.makeError, err)
			}
			return 0
		}),
		tryGet: callback(func(a *tryGetCallbackArgs) uintptr {
			value, err := stores.get(a.store).TryGet(cString(a.key, a.keySize))
			return answer(value, err, a.makeError, (*[3]uintptr)(unsafe.Pointer(&a.value)))
		}),
	}
})

// callbackError makes a PJRT_Error of a Go error.
func callbackError(makeError uintptr, err error) uintptr {
	const unavailable, notFound = 14, 5
	code := uintptr(unavailable)
	if errors.Is(err, ErrNoKey) {
		code = notFound
	}
	text := []byte(err.Error())
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&text[0])
	return invoke(*(*uintptr)(cMemory(makeError)), code, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
}
