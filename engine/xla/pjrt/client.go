package pjrt

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"unsafe"
)

// Client is a runtime for the devices of a plugin. It is safe for concurrent use, as are its executables.
type Client struct {
	plugin  *Plugin
	api     *apiTable
	ptr     uintptr
	Devices []Device // those of this process
}

// Device is a processor, GPU or TPU core of this process.
type Device struct {
	ID   int
	Kind string // "cpu", "NVIDIA H100 80GB HBM3", ...
	api  *apiTable
	ptr  uintptr
}

// The kinds of named values.
const (
	kindString = iota
	kindInt
	kindInts
	kindFloat
	kindBool
)

// ClientOptions are what a plugin's client is created with.
type ClientOptions struct {
	// Values are the plugin's own options: string, bool, int, []int64 or float32 each. Unknown ones are errors.
	Values map[string]any
	// Store, if set, is the key-value store through which the clients of several hosts find each other.
	Store KeyValue
}

// NewClient creates a client.
func (p *Plugin) NewClient(o ClientOptions) (*Client, error) {
	var values []namedValue
	var pin runtime.Pinner
	defer pin.Unpin()
	for _, name := range slices.Sorted(maps.Keys(o.Values)) {
		v, err := newNamedValue(&pin, name, o.Values[name])
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	args := clientCreateArgs{options: unsafe.Pointer(unsafe.SliceData(values)), optionCount: uintptr(len(values))}
	if o.Store != nil {
		f := keyValueCallbacks()
		args.get, args.put, args.tryGet = f.get, f.put, f.tryGet
		handle := stores.add(o.Store)
		args.getArg, args.putArg, args.tryGetArg = handle, handle, handle
	}
	if err := call(p.api, fnClientCreate, &args); err != nil {
		return nil, fmt.Errorf("pjrt: client: %w", err)
	}
	c := &Client{plugin: p, api: p.api, ptr: args.client}
	if err := c.findDevices(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func newNamedValue(pin *runtime.Pinner, name string, value any) (namedValue, error) {
	text := []byte(name)
	v := namedValue{name: unsafe.Pointer(unsafe.SliceData(text)), nameSize: uintptr(len(text)), valueSize: 1}
	v.size = unsafe.Sizeof(v)
	switch x := value.(type) {
	case string:
		v.kind, v.value, v.valueSize = kindString, pinned(pin, []byte(x)), uintptr(len(x))
	case int:
		v.kind, v.value = kindInt, uint64(x)
	case []int64:
		v.kind, v.value, v.valueSize = kindInts, pinned(pin, x), uintptr(len(x))
	case float32:
		v.kind, v.value = kindFloat, uint64(math.Float32bits(x))
	case bool:
		v.kind = kindBool
		if x {
			v.value = 1
		}
	default:
		return v, fmt.Errorf("pjrt: client: option %s: cannot be a %T", name, value)
	}
	return v, nil
}

func pinned[T any](pin *runtime.Pinner, x []T) uint64 {
	if len(x) == 0 {
		return 0
	}
	pin.Pin(&x[0])
	return uint64(uintptr(unsafe.Pointer(&x[0])))
}

func (c *Client) findDevices() error {
	list := clientListArgs{client: c.ptr}
	if err := call(c.api, fnClientAddressableDevices, &list); err != nil {
		return fmt.Errorf("pjrt: devices: %w", err)
	}
	for _, ptr := range unsafe.Slice((*uintptr)(cMemory(list.list)), list.count) {
		d := Device{api: c.api, ptr: ptr}
		desc := describeArgs{device: ptr}
		if err := call(c.api, fnDeviceGetDescription, &desc); err != nil {
			return fmt.Errorf("pjrt: device: %w", err)
		}
		id := descriptionIDArgs{description: desc.description}
		if err := call(c.api, fnDeviceDescriptionId, &id); err != nil {
			return fmt.Errorf("pjrt: device: %w", err)
		}
		kind := descriptionTextArgs{description: desc.description}
		if err := call(c.api, fnDeviceDescriptionKind, &kind); err != nil {
			return fmt.Errorf("pjrt: device: %w", err)
		}
		d.ID, d.Kind = int(id.id), cString(kind.text, kind.size)
		c.Devices = append(c.Devices, d)
	}
	return nil
}

func (c *Client) text(fn function) (string, error) {
	args := clientListArgs{client: c.ptr}
	if err := call(c.api, fn, &args); err != nil {
		return "", fmt.Errorf("pjrt: client: %w", err)
	}
	return cString(args.list, args.count), nil
}

// Platform is "cpu", "cuda", "tpu", ...
func (c *Client) Platform() (string, error) { return c.text(fnClientPlatformName) }

// Version says which runtime it is, in the plugin's words.
func (c *Client) Version() (string, error) { return c.text(fnClientPlatformVersion) }

// Close ends the client. Its buffers and executables must be closed before.
func (c *Client) Close() error {
	if c.ptr == 0 {
		return nil
	}
	err := call(c.api, fnClientDestroy, &clientArgs{client: c.ptr})
	c.ptr = 0
	if err != nil {
		return fmt.Errorf("pjrt: client: close: %w", err)
	}
	return nil
}

// MemoryStats is a device's memory in bytes; what a plugin does not tell is -1.
type MemoryStats struct{ InUse, Peak, Limit int64 }

// Memory asks for a device's memory. Plugins for processors do not tell.
func (d Device) Memory() (MemoryStats, error) {
	args := memoryStatsArgs{device: d.ptr}
	if err := call(d.api, fnDeviceMemoryStats, &args); err != nil {
		return MemoryStats{}, fmt.Errorf("pjrt: device %d: memory: %w", d.ID, err)
	}
	of := func(x optionalInt) int64 {
		if !x.known {
			return -1
		}
		return x.value
	}
	return MemoryStats{InUse: args.inUse, Peak: of(args.peak), Limit: of(args.limit)}, nil
}

// await waits for an event, frees it and returns its error.
func await(api *apiTable, event uintptr) error {
	if event == 0 {
		return nil
	}
	err := call(api, fnEventAwait, &eventArgs{event: event})
	return errors.Join(err, call(api, fnEventDestroy, &eventArgs{event: event}))
}
