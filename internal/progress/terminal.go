package progress

import "os"

// Terminal reports whether f is a terminal.
func Terminal(f *os.File) bool {
	_, ok := terminalWidth(f)
	return ok
}
