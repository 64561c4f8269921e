//go:build amd64 || arm64

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Folders inside.
const (
	workFolder = "/work"
	bindFlags  = unix.MS_BIND | unix.MS_REC
)

func init() {
	if len(os.Args) == 1 && os.Args[0] == childName && os.Getpid() == 1 {
		// What follows holds for the thread that does it, which is the one that becomes Python.
		runtime.LockOSThread()
		report := os.NewFile(4, "report")
		fmt.Fprint(report, inside(report))
		os.Exit(125)
	}
}

// ready is what is reported when nothing is left to do but to become Python.
const ready = "ready"

// inside isolates this process, which is alone in new namespaces, and becomes Python. It returns only on an error.
func inside(report io.Writer) error {
	// What else this program has inherited must not reach Python either.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	told, err := io.ReadAll(os.NewFile(3, "task"))
	if err != nil {
		return err
	}
	var t task
	if err := json.Unmarshal(told, &t); err != nil {
		return err
	}
	if err := t.files(); err != nil {
		return err
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := t.limit(); err != nil {
		return err
	}
	if err := filterCalls(); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return t.become(report)
}

// become limits the memory and runs Python. Between the two nothing is allocated: the runtime of this program would
// already break the limit.
func (t *task) become(report io.Writer) error {
	path, err := syscall.BytePtrFromString(t.Python)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings([]string{t.Python, "-I", "-B", workFolder + "/main.py"})
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings([]string{"PATH=/usr/bin:/bin", "HOME=" + workFolder, "TMPDIR=" + workFolder, "LANG=C.UTF-8"})
	if err != nil {
		return err
	}
	memory := syscall.Rlimit{Cur: uint64(t.Limits.Memory), Max: uint64(t.Limits.Memory)}
	debug.SetGCPercent(-1)
	if _, err := io.WriteString(report, ready); err != nil {
		return err
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_AS, uintptr(unsafe.Pointer(&memory)), 0, 0, 0); errno != 0 {
		return errno
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	return errno
}

// files makes a root of the needed trees, read-only, and of a folder to work in.
func (t *task) files() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", t.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	for _, tree := range append(t.Trees, "/dev/null", "/dev/zero", "/dev/urandom") {
		if err := t.bind(tree); err != nil {
			return fmt.Errorf("%s: %w", tree, err)
		}
	}
	work := t.Root + workFolder
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", work, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("size=%d,nr_inodes=4096,mode=700", t.Limits.Storage)); err != nil {
		return fmt.Errorf("%s: %w", workFolder, err)
	}
	if err := os.WriteFile(work+"/main.py", []byte(t.Code), 0o400); err != nil {
		return err
	}
	if err := os.Symlink("work", t.Root+"/tmp"); err != nil {
		return err
	}
	if err := enter(t.Root); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return os.Chdir(workFolder)
}

// bind shows a file or a folder inside the root, read-only; a link is made again as a link.
func (t *task) bind(tree string) error {
	info, err := os.Lstat(tree)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	at := t.Root + tree
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(tree)
		if err != nil {
			return err
		}
		return os.Symlink(to, at)
	case info.IsDir():
		err = os.MkdirAll(at, 0o755)
	default:
		err = os.WriteFile(at, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(tree, at, "", bindFlags, ""); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
	if info.Mode()&os.ModeDevice == 0 {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("read-only: %w", err)
	}
	return nil
}

// enter makes a folder the root, lets go of the old one, and makes the new one read-only.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root comes to lie over the new one
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// dropPrivileges takes away what this process may do in its own namespaces, for good.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // older kernels have fewer
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// limit sets the limits that the kernel keeps, but for memory. Processor time has a second more than the clock, which ends the run.
func (t *task) limit() error {
	seconds := uint64(t.Limits.Time.Seconds()) + 2
	for _, x := range []struct {
		name  string
		which int
		most  uint64
	}{{"files", syscall.RLIMIT_NOFILE, 64}, {"core", syscall.RLIMIT_CORE, 0}, {"processor time", syscall.RLIMIT_CPU, seconds},
		{"file size", syscall.RLIMIT_FSIZE, uint64(t.Limits.File)}} {
		if err := syscall.Setrlimit(x.which, &syscall.Rlimit{Cur: x.most, Max: x.most}); err != nil {
			return fmt.Errorf("limit on %s: %w", x.name, err)
		}
	}
	return nil
}
