package install

import (
	"runtime"
	"strconv"
	"strings"
)

// wheel is a wheel's name taken apart: NAME-VERSION-PYTHON-ABI-PLATFORM.whl.
type wheel struct {
	file, name, version, platform string
}

func parseWheel(file string) (wheel, bool) {
	parts := strings.Split(strings.TrimSuffix(file, ".whl"), "-")
	if !strings.HasSuffix(file, ".whl") || len(parts) < 5 {
		return wheel{}, false
	}
	return wheel{file, normal(parts[0]), parts[1], parts[len(parts)-1]}, true
}

// normal is a package's name as names are compared.
func normal(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(name), "_", "-"), ".", "-")
}

// machines are the words for processors in the names of platforms.
var machines = map[string][]string{"amd64": {"x86_64", "amd64"}, "arm64": {"aarch64", "arm64"}}

// fits reports whether a wheel's platform is that of a system.
func (w wheel) fits(goos, goarch string) bool {
	system := map[string]string{"linux": "linux", "darwin": "macosx", "windows": "win"}[goos]
	for _, tag := range strings.Split(w.platform, ".") {
		if tag == "any" {
			return true
		}
		if strings.HasPrefix(tag, "musllinux") || !strings.Contains(tag, system) {
			continue
		}
		for _, m := range machines[goarch] {
			if strings.HasSuffix(tag, m) {
				return true
			}
		}
	}
	return false
}

// newest is the newest wheel of a package for this machine; versions with letters are previews and do not count.
func newest(files []string, name string) (best wheel, found bool) {
	for _, f := range files {
		w, ok := parseWheel(f)
		if !ok || w.name != normal(name) || !w.fits(runtime.GOOS, runtime.GOARCH) {
			continue
		}
		if v := version(w.version); v != nil && (!found || older(version(best.version), v)) {
			best, found = w, true
		}
	}
	return best, found
}

// version is the numbers of a version, nil for a preview.
func version(s string) []int {
	s, _, _ = strings.Cut(s, "+")
	var v []int
	for _, p := range strings.Split(s, ".") {
		n, err := strconv.Atoi(strings.TrimPrefix(p, "post"))
		if err != nil {
			return nil
		}
		v = append(v, n)
	}
	return v
}

func older(a, b []int) bool {
	for i := range max(len(a), len(b)) {
		var x, y int
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return x < y
		}
	}
	return false
}
