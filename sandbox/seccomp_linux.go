//go:build amd64 || arm64

package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied are system calls that a program which computes has no need of: they start processes, reach the network or
// other processes, or are ways into the kernel that namespaces do not close. They fail with EPERM.
var denied = append([]uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
	unix.SYS_EXECVEAT,
}, deniedHere...)

// filterCalls installs a filter of system calls on this thread: denied ones fail, clone makes threads only, clone3 is
// said not to exist so that the C library goes back to clone, and a socket is one between the program's own threads.
func filterCalls() error {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		above  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		bits   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		give   = unix.BPF_RET | unix.BPF_K
		allow  = unix.SECCOMP_RET_ALLOW
		refuse = unix.SECCOMP_RET_ERRNO
	)
	// Offsets in struct seccomp_data: nr 0, arch 4, the lower half of the first argument 16.
	f := []unix.SockFilter{
		{Code: load, K: 4}, {Code: equal, K: arch, Jt: 1}, {Code: give, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: 0}, {Code: above, K: 1 << 30, Jf: 1}, {Code: give, K: unix.SECCOMP_RET_KILL_PROCESS}, // x32
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1}, {Code: give, K: refuse | uint32(unix.ENOSYS)},
		{Code: equal, K: unix.SYS_CLONE, Jf: 4}, {Code: load, K: 16}, {Code: bits, K: unix.CLONE_THREAD, Jt: 1}, {Code: give, K: refuse | uint32(unix.EPERM)}, {Code: give, K: allow},
		{Code: equal, K: unix.SYS_SOCKET, Jf: 4}, {Code: load, K: 16}, {Code: equal, K: unix.AF_UNIX, Jt: 1}, {Code: give, K: refuse | uint32(unix.EPERM)}, {Code: give, K: allow},
	}
	for _, nr := range denied {
		f = append(f, unix.SockFilter{Code: equal, K: nr, Jf: 1}, unix.SockFilter{Code: give, K: refuse | uint32(unix.EPERM)})
	}
	f = append(f, unix.SockFilter{Code: give, K: allow})
	program := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
