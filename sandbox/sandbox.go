// Package sandbox runs Python that nobody has read: in a child process with namespaces of its own, without network,
// without the machine's files, environment or processes, under limits on time, memory, output and files. Where the
// system cannot give that isolation nothing is run.
//
// The child is this program again (inside_linux.go): it builds the isolation from within and then becomes Python. That
// is done by an init function, so importing this package is all that a program has to do.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits of a run. Zero values stand for the defaults in brackets.
type Limits struct {
	Time    time.Duration // from start to end [10 s]
	Memory  int64         // bytes of address space [1 GiB]
	Output  int64         // bytes of stdout, and of stderr [64 KiB]
	File    int64         // bytes of a file [8 MiB]
	Storage int64         // bytes of all files together [32 MiB]
}

// Result is what a run came to.
type Result struct {
	Stdout, Stderr string
	Exit           int    // status of the program; -1 when it was ended from outside or by a signal
	Over           string // the limit that ended it: "time" or "output"; "" for none
}

// ErrNoIsolation says that this system cannot isolate a child well enough.
var ErrNoIsolation = errors.New("sandbox: this system gives no isolation")

func (l Limits) complete() Limits {
	if l.Time <= 0 {
		l.Time = 10 * time.Second
	}
	if l.Memory <= 0 {
		l.Memory = 1 << 30
	}
	if l.Output <= 0 {
		l.Output = 64 << 10
	}
	if l.File <= 0 {
		l.File = 8 << 20
	}
	if l.Storage <= 0 {
		l.Storage = 32 << 20
	}
	return l
}

// Run runs Python code with stdin as its input. The error is about the sandbox; what the code does is in the result.
// It is safe for concurrent use.
func Run(ctx context.Context, code, stdin string, limits Limits) (Result, error) {
	return run(ctx, code, stdin, limits.complete())
}

// Check runs a program that looks for what it must not find, and says why isolation is not to be had.
func Check(ctx context.Context) error {
	r, err := Run(ctx, probe, "", Limits{Time: 30 * time.Second})
	switch {
	case err != nil:
		return err
	case r.Exit != 0:
		return fmt.Errorf("sandbox: the isolation has a hole: %s%s", r.Stdout, r.Stderr)
	}
	return nil
}

// probe fails where it can reach an address, see the machine's files or processes, write outside its folder, or start
// another process.
const probe = `
import os, socket, sys
def can(f):
    try:
        f()
        return True
    except Exception:
        return False
def connect():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("192.0.2.1", 9))
found = [name for name, f in {
    "network": connect,
    "processes": lambda: os.listdir("/proc/1"),
    "devices": lambda: os.listdir("/sys/kernel"),
    "passwords": lambda: open("/etc/passwd").read(),
    "writing outside": lambda: open("/usr/danlu-probe", "w"),
    "new process": lambda: os.fork() == 0 and os._exit(0),
    "mount": lambda: os.chroot("/"),
}.items() if can(f)]
left = [k for k in os.environ if k not in ("PATH", "HOME", "LANG", "TMPDIR", "LC_CTYPE")]
open("here", "w").write("x")
if found or left or os.getpid() != 1:
    sys.exit(f"reachable {found}, environment {left}, process {os.getpid()}")
`
