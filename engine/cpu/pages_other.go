//go:build !linux

package cpu

// preferLargePages is advice that these systems do not take.
func preferLargePages([]byte) {}
