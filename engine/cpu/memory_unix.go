//go:build unix

package cpu

import (
	"fmt"
	"syscall"
)

// allocate returns zeroed memory outside of the garbage collector's way; pages take room when first touched.
func allocate(bytes int) ([]byte, error) {
	if bytes == 0 {
		return nil, nil
	}
	m, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("cpu: memory: want %d bytes: %w", bytes, err)
	}
	return m, nil
}

func release(m []byte) error {
	if m == nil {
		return nil
	}
	return syscall.Munmap(m)
}
