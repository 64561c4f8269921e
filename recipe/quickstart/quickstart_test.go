package quickstart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/data/corpus"
	"danlu/engine/cpu"
)

// TestFinishedRun marks the model that a quickstart left behind. It needs one: run the quickstart and name its folder in
// DANLU_QUICKSTART, as .ci/run does.
func TestFinishedRun(t *testing.T) {
	dir := os.Getenv("DANLU_QUICKSTART")
	if dir == "" {
		t.Skip("SKIPPED: set DANLU_QUICKSTART to the folder of a finished quickstart (danlu quickstart) to mark what it learned")
	}
	eng, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	p, err := Open(filepath.Join(dir, "chat"), eng)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s, err := p.Score(t.Context(), 200)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s)
	if s.Stories*100 < 90*s.Of {
		t.Errorf("%d of %d stories follow the grammar, want at least 90%%", s.Stories, s.Of)
	}
	if s.Copied*100 > 5*s.Of {
		t.Errorf("%d of %d stories are copies of the training text, want at most 5%%", s.Copied, s.Of)
	}
	if s.Sums*100 < 80*s.Of {
		t.Errorf("%d of %d additions are right, want at least 80%%", s.Sums, s.Of)
	}
}

func TestRoundsHaveTextsOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for round := 1; round <= 2; round++ {
		texts := filepath.Join(dir, folder("data", round))
		if err := write(texts, round); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(texts, "text.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		n := strings.Count(string(raw), "\n")
		if n != documents {
			t.Errorf("round %d: %d documents, want %d", round, n, documents)
		}
		line, _, _ := strings.Cut(string(raw), "\n")
		var first struct{ Text string }
		if err := json.Unmarshal([]byte(line), &first); err != nil {
			t.Fatal(err)
		}
		if seen[first.Text] {
			t.Errorf("round %d begins as an earlier one", round)
		}
		seen[first.Text] = true
	}
}

func TestTextsThatAreThereStay(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "text.jsonl")
	if err := os.WriteFile(path, []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(dir, 1); err != nil {
		t.Fatal(err)
	}
	if raw, _ := os.ReadFile(path); string(raw) != "mine\n" {
		t.Error("a file that was there was overwritten")
	}
}

func TestStoryRequestsAreHeldOut(t *testing.T) {
	for i := range uint64(50) {
		for _, lang := range []corpus.Lang{corpus.English, corpus.Chinese} {
			turn := corpus.StoryRequest(lang, corpus.HeldOut, i)
			if _, got, err := corpus.ParseStory(turn.Reply); err != nil || got != lang {
				t.Fatalf("request %d: reply %q: %v", i, turn.Reply, err)
			}
		}
	}
}
