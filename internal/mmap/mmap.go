// Package mmap maps files into memory for reading.
package mmap

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"unsafe"
)

// File is a mapped file. Data must not be written and holds until Close.
type File struct {
	Path string
	Data []byte
	free func() error
}

// Open maps a regular file. An empty file has nil Data.
func Open(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	if !st.Mode().IsRegular() { // before opening, which waits for a writer of a pipe
		return nil, fmt.Errorf("mmap: %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	size := st.Size()
	if int64(int(size)) != size {
		return nil, fmt.Errorf("mmap: %s: %d bytes do not fit the address space", path, size)
	}
	if size == 0 {
		return &File{Path: path}, nil
	}
	data, free, err := mapFile(f, int(size))
	if err != nil {
		return nil, fmt.Errorf("mmap: %s: %w", path, err)
	}
	note(data)
	return &File{Path: path, Data: data, free: free}, nil
}

// Close unmaps the file.
func (f *File) Close() error {
	if f.free == nil {
		return nil
	}
	free := f.free
	unnote(f.Data)
	f.free, f.Data = nil, nil
	return free()
}

// holds reports whether an address lies in the mapping.
func (f *File) holds(addr uintptr) bool {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(f.Data)))
	return addr >= from && addr-from < uintptr(len(f.Data))
}

// Guard runs read, which reads mapped data, and turns the fault of a file that was cut short meanwhile into an error.
func (f *File) Guard(read func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			if fault, ok := r.(interface{ Addr() uintptr }); ok && f.holds(fault.Addr()) {
				err = fmt.Errorf("%s: became shorter while it was read (fault at %#x)", f.Path, fault.Addr())
				return
			}
			panic(r)
		}
	}()
	return read()
}

var (
	mappedMu sync.Mutex
	mapped   = map[*byte]int{} // sizes of the live mappings, by their first bytes
)

func note(data []byte) {
	mappedMu.Lock()
	defer mappedMu.Unlock()
	mapped[unsafe.SliceData(data)] = len(data)
}

func unnote(data []byte) {
	mappedMu.Lock()
	defer mappedMu.Unlock()
	delete(mapped, unsafe.SliceData(data))
}

// Forget lets go of the memory that holds data if it is a part of a mapped file; it is read again when it is used again.
// Other memory is left alone.
func Forget(data []byte) {
	mappedMu.Lock()
	defer mappedMu.Unlock()
	at := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	for first, size := range mapped {
		if from := uintptr(unsafe.Pointer(first)); from <= at && at+uintptr(len(data)) <= from+uintptr(size) {
			// Whole pages only: others hold parts of neighbours that may be in use.
			page := uintptr(os.Getpagesize())
			skip := (page - at%page) % page
			if n := uintptr(len(data)); n >= skip+page {
				forget(data[skip : skip+(n-skip)/page*page])
			}
			return
		}
	}
}
