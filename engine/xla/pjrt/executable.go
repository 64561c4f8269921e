package pjrt

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// Executable is a compiled program, loaded on the devices it was compiled for.
type Executable struct {
	client  *Client
	ptr     uintptr
	outputs int
	devices int
}

// Compile compiles a program in MLIR text with the dialects StableHLO, CHLO and Shardy.
func (c *Client) Compile(mlir []byte, o CompileOptions) (*Executable, error) {
	options, err := o.encode()
	if err != nil {
		return nil, err
	}
	format := []byte("mlir")
	p := &program{code: unsafe.Pointer(unsafe.SliceData(mlir)), codeSize: uintptr(len(mlir)), format: unsafe.Pointer(unsafe.SliceData(format)), formatSize: uintptr(len(format))}
	p.size = unsafe.Sizeof(*p)
	args := compileArgs{client: c.ptr, program: unsafe.Pointer(p), options: unsafe.Pointer(unsafe.SliceData(options)), optionsSize: uintptr(len(options))}
	if err := call(c.api, fnClientCompile, &args); err != nil {
		return nil, fmt.Errorf("pjrt: compile: %w", err)
	}
	return c.loaded(args.executable)
}

// Load takes what [Executable.Serialize] gave, of the same plugin on the same kind of machine.
func (c *Client) Load(serialized []byte) (*Executable, error) {
	if len(serialized) == 0 {
		return nil, errors.New("pjrt: load: is empty")
	}
	args := deserializeArgs{client: c.ptr, bytes: unsafe.Pointer(unsafe.SliceData(serialized)), count: uintptr(len(serialized))}
	if err := call(c.api, fnExecutableDeserializeAndLoad, &args); err != nil {
		return nil, fmt.Errorf("pjrt: load: %w", err)
	}
	return c.loaded(args.executable)
}

func (c *Client) loaded(ptr uintptr) (*Executable, error) {
	e := &Executable{client: c, ptr: ptr}
	err := e.inner(func(inner uintptr) error {
		count := executableOfArgs{executable: inner}
		err := call(c.api, fnExecutableNumOutputs, &count)
		e.outputs = int(count.result)
		return err
	})
	devices := executableListArgs{executable: ptr}
	if err == nil {
		err = call(c.api, fnLoadedExecutableAddressableDevices, &devices)
		e.devices = int(devices.count)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pjrt: executable: %w", err), e.Close())
	}
	return e, nil
}

// inner lends the executable apart from its devices, of which much is told.
func (e *Executable) inner(f func(inner uintptr) error) error {
	args := executableOfArgs{executable: e.ptr}
	if err := call(e.client.api, fnLoadedExecutableGetExecutable, &args); err != nil {
		return err
	}
	return errors.Join(f(args.result), call(e.client.api, fnExecutableDestroy, &executableArgs{executable: args.result}))
}

// Serialize gives the executable in a form for [Client.Load].
func (e *Executable) Serialize() (data []byte, err error) {
	err = e.inner(func(inner uintptr) error {
		args := serializeArgs{executable: inner}
		if err := call(e.client.api, fnExecutableSerialize, &args); err != nil {
			return err
		}
		data = slices.Clone(unsafe.Slice((*byte)(cMemory(args.bytes)), args.count))
		invoke(args.free, args.owner)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pjrt: serialize: %w", err)
	}
	return data, nil
}

// ProgramMemory is what a program takes on each device, in bytes.
type ProgramMemory struct{ Code, Arguments, Outputs, Aliased, Temporary, Peak int64 }

// Memory asks what the program takes on each device.
func (e *Executable) Memory() (m ProgramMemory, err error) {
	err = e.inner(func(inner uintptr) error {
		args := memoryOfArgs{executable: inner}
		err := call(e.client.api, fnExecutableGetCompiledMemoryStats, &args)
		m = ProgramMemory{args.code, args.arguments, args.outputs, args.aliased, args.temporary, args.peak}
		return err
	})
	if err != nil {
		return m, fmt.Errorf("pjrt: memory of an executable: %w", err)
	}
	return m, nil
}

// Devices is the number of devices of this process on which the program runs.
func (e *Executable) Devices() int { return e.devices }

// Run starts the program with one list of arguments for each device and returns its results, which are ready when they
// are: reading one waits for it. Arguments at the places in donate lend their memory to results, as the program asks for
// (tf.aliasing_output), and are spent after: using one again is an error. On an error nothing is spent.
func (e *Executable) Run(arguments [][]*Buffer, donate []int) ([][]*Buffer, error) {
	if len(arguments) != e.devices {
		return nil, fmt.Errorf("pjrt: run: arguments for %d devices, want %d", len(arguments), e.devices)
	}
	count := len(arguments[0])
	lent := make([]bool, count)
	for _, i := range donate {
		lent[i] = true
	}
	seen := map[*Buffer]bool{} // whether it is lent
	in := make([][]uintptr, e.devices)
	for d, list := range arguments {
		if len(list) != count {
			return nil, fmt.Errorf("pjrt: run: %d arguments for device %d, %d for device 0", len(list), d, count)
		}
		for i, b := range list {
			if b == nil || b.ptr == 0 {
				return nil, fmt.Errorf("pjrt: run: argument %d: %w", i, ErrSpent)
			}
			if before, again := seen[b]; again && (lent[i] || before) {
				return nil, fmt.Errorf("pjrt: run: argument %d is given twice and cannot be donated", i)
			}
			seen[b] = lent[i]
			in[d] = append(in[d], b.ptr)
		}
	}
	out, events, err := e.execute(in, kept(lent))
	if err != nil {
		return nil, fmt.Errorf("pjrt: run: %w", err)
	}
	for _, list := range arguments {
		for i, b := range list {
			if lent[i] {
				err = errors.Join(err, b.Close())
			}
		}
	}
	results := make([][]*Buffer, e.devices)
	for d := range out {
		for _, ptr := range out[d] {
			results[d] = append(results[d], &Buffer{api: e.client.api, ptr: ptr})
		}
	}
	return results, errors.Join(err, e.free(events))
}

// kept are the indices that are not lent.
func kept(lent []bool) []int64 {
	var keep []int64
	for i, l := range lent {
		if !l {
			keep = append(keep, int64(i))
		}
	}
	return keep
}

// execute lays the lists of pointers out as C wants them.
func (e *Executable) execute(in [][]uintptr, keep []int64) (out [][]uintptr, events []uintptr, err error) {
	rows := func(lists [][]uintptr) []unsafe.Pointer {
		p := make([]unsafe.Pointer, len(lists))
		for i, l := range lists {
			p[i] = unsafe.Pointer(unsafe.SliceData(l))
		}
		return p
	}
	out = make([][]uintptr, e.devices)
	for d := range out {
		out[d] = make([]uintptr, e.outputs)
	}
	events = make([]uintptr, e.devices)
	options := &executeOptions{keep: unsafe.Pointer(unsafe.SliceData(keep)), keepCount: uintptr(len(keep))}
	options.size = unsafe.Sizeof(*options)
	args := executeArgs{executable: e.ptr, options: unsafe.Pointer(options), arguments: unsafe.Pointer(unsafe.SliceData(rows(in))), devices: uintptr(e.devices),
		count: uintptr(len(in[0])), outputs: unsafe.Pointer(unsafe.SliceData(rows(out))), events: unsafe.Pointer(unsafe.SliceData(events))}
	err = call(e.client.api, fnLoadedExecutableExecute, &args)
	return out, events, err
}

// free lets go of events that nobody waits for; what failed shows when a result is read.
func (e *Executable) free(events []uintptr) error {
	var err error
	for _, ev := range events {
		if ev != 0 {
			err = errors.Join(err, call(e.client.api, fnEventDestroy, &eventArgs{event: ev}))
		}
	}
	return err
}

// Close unloads the program.
func (e *Executable) Close() error {
	if e.ptr == 0 {
		return nil
	}
	err := call(e.client.api, fnLoadedExecutableDestroy, &executableArgs{executable: e.ptr})
	e.ptr = 0
	if err != nil {
		return fmt.Errorf("pjrt: executable: close: %w", err)
	}
	return nil
}
