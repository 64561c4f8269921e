// Package numtest holds what numeric tests share: where reference data lies and how numbers are compared.
package numtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// GoldensDir returns the reference-data folder: $DANLU_GOLDENS, else testdata/goldens at the module root.
func GoldensDir() string {
	if dir := os.Getenv("DANLU_GOLDENS"); dir != "" {
		return dir
	}
	// Tests run in their package's folder, somewhere below the module root.
	root, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(root, "go.mod")); missing == nil || filepath.Dir(root) == root {
			break
		}
		root = filepath.Dir(root)
	}
	return filepath.Join(root, "testdata", "goldens")
}

// Goldens returns the folder sub of the reference data. The test fails when the folder is missing or empty,
// so that a wrong DANLU_GOLDENS can never pass for success.
func Goldens(t testing.TB, sub string) string {
	t.Helper()
	dir := filepath.Join(GoldensDir(), filepath.FromSlash(sub))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("reference data %s: %v; set DANLU_GOLDENS to the reference-data folder", sub, err)
	}
	if len(entries) == 0 {
		t.Fatalf("reference data %s: %s is empty", sub, dir)
	}
	return dir
}

// Count reports how many cases of the named reference data a golden test ran, and fails the test at zero.
func Count(t testing.TB, name string, cases int) {
	t.Helper()
	if cases == 0 {
		t.Fatalf("goldens %s: no case was run", name)
	}
	fmt.Printf("goldens %s: %d cases\n", name, cases)
}
