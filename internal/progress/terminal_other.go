//go:build !unix && !windows

package progress

import "os"

// terminalWidth knows no terminals here: progress is written as plain lines.
func terminalWidth(*os.File) (columns int, ok bool) { return 0, false }
