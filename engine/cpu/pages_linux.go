package cpu

import "golang.org/x/sys/unix"

// largeBuffer is the size from which large pages pay.
const largeBuffer = 4 << 20

// preferLargePages asks for large pages: a model's weights are read from front to back for every token, and small pages
// cost a fault each to fill and a walk each to find. It is for memory that is used whole, since touching a byte takes a
// page.
func preferLargePages(m []byte) {
	if len(m) >= largeBuffer {
		_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // advice: systems without large pages refuse it
	}
}
