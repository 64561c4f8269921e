//go:build !linux

package cpu

// largePages does nothing: the system chooses the size of pages.
func largePages([]byte) {}
