package hub

import (
	"os"

	"golang.org/x/sys/windows"
)

// lock takes a file for this program until it is closed: one byte far beyond its end, so that reading and writing go on.
func lock(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
}
