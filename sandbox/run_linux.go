//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// task is what the child is told, as JSON on descriptor 3. It tells on descriptor 4 that it is ready, or what it could
// not set up.
type task struct {
	Root   string   // an empty folder
	Python string   // path of the interpreter
	Trees  []string // folders and files that it needs, read-only
	Code   string
	Limits Limits
}

// childName is the name by which this program knows that it is the child.
const childName = "danlu-sandbox"

func run(ctx context.Context, code, stdin string, limits Limits) (Result, error) {
	py, err := python()
	if err != nil {
		return Result{}, err
	}
	root, err := os.MkdirTemp("", "danlu-sandbox-")
	if err != nil {
		return Result{}, fmt.Errorf("sandbox: %w", err)
	}
	defer os.Remove(root) // what is in it exists in the child's namespace alone
	told, err := json.Marshal(task{Root: root, Python: py.path, Trees: py.trees, Code: code, Limits: limits})
	if err != nil {
		return Result{}, fmt.Errorf("sandbox: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, limits.Time)
	defer cancel()
	c := &child{stdout: capture{most: limits.Output, over: cancel}, stderr: capture{most: limits.Output, over: cancel}}
	state, setup, err := c.start(ctx, told, stdin)
	r := Result{Stdout: c.stdout.kept.String(), Stderr: c.stderr.kept.String(), Exit: -1}
	switch {
	case err != nil:
		return Result{}, fmt.Errorf("%w: %v", ErrNoIsolation, err)
	case setup != ready && ctx.Err() == nil:
		return Result{}, fmt.Errorf("%w: %s%s", ErrNoIsolation, setup, r.Stderr)
	case c.stdout.full || c.stderr.full:
		r.Over = "output"
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.Over = "time"
	case ctx.Err() != nil:
		return r, ctx.Err()
	default:
		r.Exit = state.ExitCode()
	}
	return r, nil
}

// child is a run in the making.
type child struct{ stdout, stderr capture }

// start runs the child to its end; setup is what it told.
func (c *child) start(ctx context.Context, told []byte, stdin string) (_ *os.ProcessState, setup string, err error) {
	tellR, tellW, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer tellW.Close()
	hearR, hearW, err := os.Pipe()
	if err != nil {
		tellR.Close()
		return nil, "", err
	}
	defer hearR.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{childName}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &c.stdout, &c.stderr
	cmd.ExtraFiles = []*os.File{tellR, hearW}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Setsid:      true,
		Pdeathsig:   syscall.SIGKILL,
	}
	// The child dies with the thread that started it, so that thread stays until the child has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	tellR.Close()
	hearW.Close()
	if err != nil {
		return nil, "", err
	}
	go func() {
		tellW.Write(told) // where it fails the child has ended, which Wait tells
		tellW.Close()
	}()
	heard, err := io.ReadAll(io.LimitReader(hearR, 4096))
	if err != nil {
		heard = []byte(err.Error())
	}
	err = cmd.Wait()
	var ended *exec.ExitError
	if errors.As(err, &ended) || ctx.Err() != nil {
		err = nil
	}
	return cmd.ProcessState, string(heard), err
}

// capture keeps the first bytes that are written and calls over when there are more.
type capture struct {
	kept bytes.Buffer
	most int64
	full bool
	over func()
}

// Write implements io.Writer.
func (c *capture) Write(p []byte) (int, error) {
	left := c.most - int64(c.kept.Len())
	if int64(len(p)) <= left {
		return c.kept.Write(p)
	}
	c.full = true
	c.kept.Write(p[:left])
	c.over()
	return len(p), nil
}

// interpreter is the Python of this system and the files that it needs.
type interpreter struct {
	path  string
	trees []string
}

// python asks the system's interpreter where it lives: what is in the path may be a script that starts another.
var python = sync.OnceValues(func() (*interpreter, error) {
	out, err := exec.Command("python3", "-I", "-c", "import json, os, sys; print(json.dumps([os.path.realpath(sys.executable), sys.prefix, sys.base_prefix]))").Output()
	if err != nil {
		return nil, fmt.Errorf("sandbox: python3: %w", err)
	}
	var where []string
	if err := json.Unmarshal(out, &where); err != nil || len(where) != 3 {
		return nil, fmt.Errorf("sandbox: python3: cannot read its answer %q", out)
	}
	py := &interpreter{path: where[0], trees: []string{"/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"}}
	for _, dir := range append([]string{filepath.Dir(py.path)}, where[1:]...) {
		if dir == "/" {
			return nil, errors.New("sandbox: python3: its files are the whole system")
		}
		if !py.has(dir) {
			py.trees = append(py.trees, dir)
		}
	}
	return py, nil
})

// has reports whether a path lies in one of the trees.
func (p *interpreter) has(path string) bool {
	for _, t := range p.trees {
		if path == t || strings.HasPrefix(path, t+"/") {
			return true
		}
	}
	return false
}
