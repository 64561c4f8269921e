package xla

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"danlu/engine/xla/pjrt"
	"danlu/internal/atomicfile"
	"danlu/internal/cpu"
)

// maxCompiled is how many bytes of compiled programs are kept on disk; those not used for longest go first.
const maxCompiled = 4 << 30

// compile compiles a program's text, or loads what was compiled of it before.
func (e *Engine) compile(text []byte) (*pjrt.Executable, error) {
	options := e.compileOptions()
	if e.opts.CacheDir == "" || e.group != nil { // a custom call is bound to its process
		return e.client.Compile(text, options)
	}
	name, err := e.fingerprint(text, options)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(e.opts.CacheDir, name+".xla")
	if data, err := os.ReadFile(path); err == nil {
		if x, err := e.client.Load(data); err == nil {
			now := time.Now()
			_ = os.Chtimes(path, now, now) // the file is as good with its old date
			return x, nil
		}
		os.Remove(path) // cut short, or of a plugin that was replaced in place
	}
	x, err := e.client.Compile(text, options)
	if err != nil {
		return nil, err
	}
	// A program that cannot be kept is compiled again another time.
	if data, err := x.Serialize(); err == nil {
		_ = keepCompiled(e.opts.CacheDir, path, data)
	}
	return x, nil
}

// fingerprint identifies a program and all that its compilation depends on.
func (e *Engine) fingerprint(text []byte, options pjrt.CompileOptions) (string, error) {
	library, err := os.Stat(e.plugin.Path) // not every plugin tells its version
	if err != nil {
		return "", fmt.Errorf("xla: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%d %v\n%v\n%v\n", e.platform, e.version, library.Size(), library.ModTime().UnixNano(), cpu.Detected(), options)
	for _, d := range e.devices {
		fmt.Fprintf(h, "%d %s\n", d.ID, d.Kind)
	}
	h.Write(text)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// keepCompiled writes a program and deletes old ones beyond the limit.
func keepCompiled(dir, path string, data []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(path, func(w io.Writer) error { _, err := w.Write(data); return err }); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var files []os.FileInfo
	total := int64(0)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && filepath.Ext(entry.Name()) == ".xla" {
			files, total = append(files, info), total+info.Size()
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= maxCompiled {
			break
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
		total -= f.Size()
	}
	return nil
}
