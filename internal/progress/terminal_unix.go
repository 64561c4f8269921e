//go:build unix

package progress

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalWidth returns the columns of the terminal behind f; ok is false when f is no terminal.
func terminalWidth(f *os.File) (columns int, ok bool) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}
