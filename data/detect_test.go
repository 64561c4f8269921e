package data

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDetectLooksBeyondTheFirstRecord: a column that the first records leave out is used where it appears.
func TestDetectLooksBeyondTheFirstRecord(t *testing.T) {
	for _, after := range []int{1, 3, 300} {
		var b strings.Builder
		for i := range after {
			fmt.Fprintf(&b, "{\"instruction\":\"say %d\",\"output\":\"%d\"}\n", i, i)
		}
		b.WriteString("{\"instruction\":\"translate\",\"input\":\"furnace\",\"output\":\"炉\"}\n")
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := Detect(path)
		if err != nil {
			t.Fatal(err)
		}
		files, err := Open(a.Paths, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var last *Example
		for range after + 1 {
			row, err := files.Next()
			if err != nil {
				t.Fatal(err)
			}
			if last, err = a.Convert(&row, ""); err != nil {
				t.Fatal(err)
			}
		}
		files.Close()
		if text := last.PlainText(); !strings.Contains(text, "furnace") {
			t.Errorf("input in record %d: the example is %q", after+1, text)
		}
	}
}
