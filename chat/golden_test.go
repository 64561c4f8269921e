package chat

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"danlu/chat/jinja"
	"danlu/internal/numtest"
)

func TestGoldenTemplates(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "templates"), "*", "template.jinja"))
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, path := range folders {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			tmpl, err := NewTemplate(string(source), nil)
			if err != nil {
				t.Fatal(err)
			}
			tmpl.Now = func() time.Time { return time.Date(2024, 7, 26, 9, 8, 7, 0, time.UTC) }
			cases += checkCases(t, tmpl, filepath.Join(filepath.Dir(path), "cases.jsonl"))
		})
	}
	numtest.Count(t, "templates", cases)
}

func checkCases(t *testing.T, tmpl *Template, path string) (cases int) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<26)
	for lines.Scan() {
		var want struct {
			Name     string
			Rendered *string
			Error    string
			Raised   bool
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		c, err := ParseConversation(lines.Bytes())
		if err != nil {
			t.Errorf("%s: %v", want.Name, err)
			continue
		}
		cases++
		got, err := tmpl.Render(c)
		var raised *jinja.RaisedError
		switch {
		case want.Rendered != nil:
			if err != nil || got != *want.Rendered {
				t.Errorf("%s: want %q\ngot %q, %v", want.Name, *want.Rendered, got, err)
			}
		case err == nil:
			t.Errorf("%s: want %s, got %q", want.Name, want.Error, got)
		case errors.As(err, &raised) != want.Raised:
			t.Errorf("%s: want %s (raised: %v), got %v", want.Name, want.Error, want.Raised, err)
		case want.Raised:
			if message := strings.TrimPrefix(want.Error, "TemplateError: "); raised.Message != message {
				t.Errorf("%s: want the message %q, got %q", want.Name, message, raised.Message)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}
