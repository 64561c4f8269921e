package danlu

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// order is the import order: a package imports only packages on earlier lines, or earlier on its own line where a line
// names several. Packages not listed belong to the nearest listed parent.
var order = strings.Fields(`
	internal/numtest internal/atomicfile internal/cpu internal/mmap internal/parallel internal/progress internal/locale internal/nearest internal/pyre
	dtype tensor quant kernel graph optim pipeline
	engine engine/ref engine/enginetest engine/cpu engine/xla/pjrt engine/xla
	nn
	format/safetensors format/gguf format/pickle hub
	tokenizer vision chat grammar weights family adapter hardware plan
	data generate sandbox task eval train bench recipe serve
	cmd/danlu
`)

// rank is the place of a package folder in order, -1 when it belongs to none.
func rank(dir string) int {
	for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
		for i, p := range order {
			if p == dir {
				return i
			}
		}
	}
	return -1
}

// ignored reports whether a build constraint keeps a file out of every build.
func ignored(f *ast.File) bool {
	for _, c := range f.Comments {
		if c.Pos() < f.Package && c.List[0].Text == "//go:build ignore" {
			return true
		}
	}
	return false
}

func TestImportOrder(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		file = filepath.ToSlash(file)
		if !strings.HasSuffix(file, ".go") || path.Dir(file) == "." {
			return nil
		}
		here := rank(path.Dir(file))
		if here < 0 {
			t.Errorf("%s: its package is not in the import order", file)
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		files++
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			dir, ok := strings.CutPrefix(name, "danlu/")
			if !ok {
				continue
			}
			there := rank(dir)
			// Tests of an engine call the compliance suite, golden tests may look at later packages of the same slice, and a
			// file outside the build (go run of a generator) belongs to no package.
			if strings.HasSuffix(file, "_test.go") || ignored(parsed) {
				continue
			}
			if there < 0 || there > here {
				t.Errorf("%s imports %s, which comes later", file, dir)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were looked at", files)
	}
}
