// Package hardware tells what a machine has.
package hardware

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

// FreeMemory is how many bytes this process can still take: what the system has available, less where a control group
// allows less. ok is false where the system does not say.
func FreeMemory() (bytes int64, ok bool) {
	if v, err := mem.VirtualMemory(); err == nil {
		bytes, ok = int64(v.Available), true
	}
	if left, limited := groupLeft("/sys/fs/cgroup"); limited && (!ok || left < bytes) {
		bytes, ok = left, true
	}
	return bytes, ok
}

// groupLeft is what the memory limit of a control group, in version 2 or 1, leaves. Memory of the page cache that was
// not used lately does not count as taken: the system gives it back.
func groupLeft(root string) (bytes int64, limited bool) {
	for _, v := range []struct{ limit, used, stat, cache string }{
		{"memory.max", "memory.current", "memory.stat", "inactive_file"},
		{"memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"},
	} {
		limit, ok := readNumber(filepath.Join(root, v.limit))
		used, known := readNumber(filepath.Join(root, v.used))
		if !ok || !known || limit >= 1<<60 { // version 1 writes "no limit" as a huge number
			continue
		}
		return max(0, limit-used+statField(filepath.Join(root, v.stat), v.cache)), true
	}
	return 0, false
}

func readNumber(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// statField is a number of a file of "name number" lines, 0 when it is not there.
func statField(path, name string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(value, 10, 64); key == name && err == nil {
			return n
		}
	}
	return 0
}

// FreeDisk is how many bytes can still be written under dir, which need not exist yet.
func FreeDisk(dir string) (bytes int64, ok bool) {
	for {
		if u, err := disk.Usage(dir); err == nil {
			return int64(u.Free), true
		}
		parent := filepath.Dir(filepath.Clean(dir))
		if parent == dir {
			return 0, false
		}
		dir = parent
	}
}

// Resident is what this process takes of the memory now, in bytes; 0 where the system does not say.
func Resident() int64 {
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return 0
	}
	m, err := p.MemoryInfo()
	if err != nil {
		return 0
	}
	return int64(m.RSS)
}
