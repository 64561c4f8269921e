package cpu

import "syscall"

// largePage is the size below which a mapping holds no large page.
const largePage = 2 << 20

// largePages asks for pages of 2 MiB: with those of 4 KiB, walks through gigabytes of weights and moments wait for address
// translation. It is for memory that is used whole, since the first touch of a byte takes a page. A kernel without them
// refuses, which changes nothing but speed.
func largePages(m []byte) {
	if len(m) >= largePage {
		_ = syscall.Madvise(m, syscall.MADV_HUGEPAGE)
	}
}
