package pjrt

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"danlu/dtype"
)

// ErrSpent says that a buffer was donated to a program, or closed, and holds nothing any more.
var ErrSpent = errors.New("the buffer was donated or closed")

// Buffer is a tensor in a device's memory. A buffer is used by one goroutine at a time.
type Buffer struct {
	api *apiTable
	ptr uintptr // 0: spent
}

// elementTypes are PJRT_Buffer_Type's codes.
var elementTypes = map[dtype.DType]int32{
	dtype.Bool: 1, dtype.I8: 2, dtype.I16: 3, dtype.I32: 4, dtype.I64: 5, dtype.U8: 6, dtype.U16: 7, dtype.U32: 8, dtype.U64: 9,
	dtype.F16: 10, dtype.F32: 11, dtype.F64: 12, dtype.BF16: 13, dtype.F8E5M2: 16, dtype.F8E4M3: 17,
}

// How long a plugin may read host memory that it is given.
const untilTransferCompletes = 1

// Put copies a tensor in row-major order to a device. The memory is pinned while it is read and free when Put returns.
func (c *Client) Put(d Device, data []byte, t dtype.DType, shape []int) (*Buffer, error) {
	kind, ok := elementTypes[t]
	if !ok {
		return nil, fmt.Errorf("pjrt: put: devices have no %v", t)
	}
	dims, n := make([]int64, len(shape)), 1
	for i, s := range shape {
		dims[i], n = int64(s), n*s
	}
	if len(data) != t.Bytes(n) {
		return nil, fmt.Errorf("pjrt: put: %d bytes for %v%v", len(data), t, shape)
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	if len(data) > 0 {
		pin.Pin(&data[0])
	}
	args := fromHostArgs{client: c.ptr, data: unsafe.Pointer(unsafe.SliceData(data)), kind: kind, dims: unsafe.Pointer(unsafe.SliceData(dims)), rank: uintptr(len(dims)),
		semantics: untilTransferCompletes, device: d.ptr}
	if err := call(c.api, fnClientBufferFromHostBuffer, &args); err != nil {
		return nil, fmt.Errorf("pjrt: put: %w", err)
	}
	b := &Buffer{api: c.api, ptr: args.buffer}
	if err := await(c.api, args.done); err != nil {
		return nil, errors.Join(fmt.Errorf("pjrt: put: %w", err), b.Close())
	}
	return b, nil
}

// Get waits for the buffer and copies it, in row-major order, to data, which must have its size.
func (b *Buffer) Get(data []byte) error {
	if b.ptr == 0 {
		return fmt.Errorf("pjrt: get: %w", ErrSpent)
	}
	size := toHostArgs{buffer: b.ptr}
	if err := call(b.api, fnBufferToHostBuffer, &size); err != nil {
		return fmt.Errorf("pjrt: get: %w", err)
	}
	if size.size != uintptr(len(data)) {
		return fmt.Errorf("pjrt: get: %d bytes for a buffer of %d", len(data), size.size)
	}
	if len(data) == 0 {
		return b.Wait()
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&data[0])
	args := toHostArgs{buffer: b.ptr, data: unsafe.Pointer(&data[0]), size: uintptr(len(data))}
	err := call(b.api, fnBufferToHostBuffer, &args)
	if err == nil {
		err = await(b.api, args.arrived)
	}
	if err != nil {
		return fmt.Errorf("pjrt: get: %w", err)
	}
	return nil
}

// Wait waits until the buffer is computed and returns the error of its computation.
func (b *Buffer) Wait() error {
	if b.ptr == 0 {
		return fmt.Errorf("pjrt: wait: %w", ErrSpent)
	}
	ready := bufferOfArgs{buffer: b.ptr}
	err := call(b.api, fnBufferReadyEvent, &ready)
	if err == nil {
		err = await(b.api, ready.result)
	}
	if err != nil {
		return fmt.Errorf("pjrt: wait: %w", err)
	}
	return nil
}

// Bytes is what the buffer takes on its device.
func (b *Buffer) Bytes() (int64, error) {
	if b.ptr == 0 {
		return 0, nil
	}
	args := bufferOfArgs{buffer: b.ptr}
	if err := call(b.api, fnBufferOnDeviceSizeInBytes, &args); err != nil {
		return 0, fmt.Errorf("pjrt: size: %w", err)
	}
	return int64(args.result), nil
}

// Close frees the buffer; closing again does nothing.
func (b *Buffer) Close() error {
	if b.ptr == 0 {
		return nil
	}
	err := call(b.api, fnBufferDestroy, &bufferArgs{buffer: b.ptr})
	b.ptr = 0
	if err != nil {
		return fmt.Errorf("pjrt: buffer: close: %w", err)
	}
	return nil
}
