package install

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"danlu/engine/xla/pjrt"
)

var kind = pjrt.Kind{Name: "test", Variable: "DANLU_PJRT_TEST", Library: "test_plugin/*.so", Wheel: "test-plugin", Needs: []string{"test.runtime"}}

// pack makes a wheel of files.
func pack(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// platform is a wheel's platform tag for this machine.
func platform() string {
	tag := map[string]string{"linux": "manylinux_2_27_", "darwin": "macosx_11_0_", "windows": "win_"}[runtime.GOOS]
	machine := machines[runtime.GOARCH][0]
	if runtime.GOOS == "windows" {
		machine = "amd64"
	}
	return tag + machine
}

func wheels(t *testing.T) map[string][]byte {
	return map[string][]byte{
		"test_plugin-0.9.0-py3-none-" + platform() + ".whl":  pack(t, map[string]string{"test_plugin/old.so": "old"}),
		"test_plugin-0.11.2-py3-none-" + platform() + ".whl": pack(t, map[string]string{"test_plugin/new.so": "new"}),
		"test_plugin-0.12.0rc1-py3-none-any.whl":             pack(t, map[string]string{"test_plugin/preview.so": "preview"}),
		"test_plugin-0.13-py3-none-plan9_mips.whl":           pack(t, map[string]string{"test_plugin/foreign.so": "foreign"}),
		"test_runtime-1.0-py3-none-any.whl":                  pack(t, map[string]string{"runtime/lib.so": "runtime"}),
		"other-9.0-py3-none-any.whl":                         pack(t, map[string]string{"other": ""}),
	}
}

func TestFromFolder(t *testing.T) {
	t.Setenv("DANLU_HOME", t.TempDir())
	from := t.TempDir()
	for name, data := range wheels(t) {
		if err := os.WriteFile(filepath.Join(from, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second takes the place of the first
		place, err := Plugin(context.Background(), kind, Options{From: from})
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(place.Path) != "new.so" {
			t.Errorf("installed %s, want new.so", place.Path)
		}
		if _, err := os.Stat(filepath.Join(place.From, "runtime", "lib.so")); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(filepath.Join(from, "test_runtime-1.0-py3-none-any.whl")); err != nil {
		t.Fatal(err)
	}
	if _, err := Plugin(context.Background(), kind, Options{From: from}); err == nil || !strings.Contains(err.Error(), "test.runtime") {
		t.Errorf("a wheel that is missing: %v", err)
	}
	if place, err := kind.Find(); err != nil || filepath.Base(place.Path) != "new.so" {
		t.Errorf("a failed installation left %+v, %v", place, err)
	}
}

func TestEscape(t *testing.T) {
	t.Setenv("DANLU_HOME", t.TempDir())
	from := t.TempDir()
	for _, name := range []string{"test_plugin-1.0-py3-none-any.whl", "test_runtime-1.0-py3-none-any.whl"} {
		if err := os.WriteFile(filepath.Join(from, name), pack(t, map[string]string{"../../outside": "x"}), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Plugin(context.Background(), kind, Options{From: from}); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a wheel with a file outside of itself: %v", err)
	}
}

func TestFromIndex(t *testing.T) {
	files := wheels(t)
	wrong := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.Trim(r.URL.Path, "/")
		if data := files[strings.TrimPrefix(name, "files/")]; data != nil {
			w.Write(data)
			return
		}
		project := strings.TrimPrefix(name, "simple/")
		if project != "test-plugin" && project != "test-runtime" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", simpleJSON)
		var list []string
		for file, data := range files {
			sum := sha256.Sum256(data)
			if wrong {
				sum[0]++
			}
			if wh, _ := parseWheel(file); wh.name == project {
				list = append(list, fmt.Sprintf(`{"filename": %q, "url": "../../files/%s", "hashes": {"sha256": %q}, "yanked": false}`, file, file, hex.EncodeToString(sum[:])))
			}
		}
		fmt.Fprintf(w, `{"files": [%s]}`, strings.Join(list, ","))
	}))
	defer server.Close()
	t.Setenv("DANLU_HOME", t.TempDir())
	t.Setenv("PIP_INDEX_URL", server.URL+"/simple")
	var done, total int64
	place, err := Plugin(context.Background(), kind, Options{Progress: func(d, n int64) { done, total = d, n }})
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(place.Path) != "new.so" || done == 0 || done != total {
		t.Errorf("installed %s after %d of %d bytes", place.Path, done, total)
	}
	wrong = true
	if _, err := Plugin(context.Background(), kind, Options{}); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a wrong checksum: %v", err)
	}
	absent := kind
	absent.Wheel = "nothing"
	if _, err := Plugin(context.Background(), absent, Options{}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a package that is not there: %v", err)
	}
}
