package numtest

import (
	"os"
	"path/filepath"
	"testing"
)

// Model returns the path of a published model file that scripts/fetch_models.sh fetches, in $DANLU_HOME/models or
// ~/.cache/danlu/models; the test is skipped, and says so, when it is not there.
func Model(t testing.TB, file string) string {
	t.Helper()
	dir := os.Getenv("DANLU_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Skipf("REAL MODEL NOT TESTED: %v", err)
		}
		dir = filepath.Join(home, ".cache", "danlu")
	}
	path := filepath.Join(dir, "models", file)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("REAL MODEL NOT TESTED: %s is not there; scripts/fetch_models.sh fetches it", path)
	}
	return path
}
