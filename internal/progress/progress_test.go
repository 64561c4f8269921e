package progress

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func testBar(opt Options, live, colour bool, width int) (*Bar, *bytes.Buffer, *clock) {
	out, c := &bytes.Buffer{}, &clock{time.Unix(1000, 0)}
	return newBar(out, opt, live, colour, func() int { return width }, c.now), out, c
}

func TestPlainLinesComeEveryTenSeconds(t *testing.T) {
	b, out, c := testBar(Options{Label: "train", Total: 100}, false, true, 80)
	for i := range 26 {
		c.t = c.t.Add(time.Second)
		b.Update(int64(i+1), Field{"loss", "2.50"})
	}
	b.Done()
	b.Done()
	b.Update(99)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("want 4 lines, got %d:\n%s", len(lines), out)
	}
	if want := "train 11/100 11%  loss 2.50  elapsed 11s  ETA 1m29s"; lines[1] != want {
		t.Errorf("want %q, got %q", want, lines[1])
	}
	if !strings.HasPrefix(lines[3], "train 26/100") || strings.ContainsAny(out.String(), "\r\x1b") {
		t.Errorf("got %q", out)
	}
}

func TestLiveBarFitsTheTerminal(t *testing.T) {
	for _, width := range []int{1, 2, 10, 20, 40, 80, 200} {
		for _, label := range []string{"train", "训练模型", ""} {
			b, out, c := testBar(Options{Label: label, Total: 10, Chinese: true}, true, false, width)
			for i := range 10 {
				c.t = c.t.Add(time.Second)
				b.Update(int64(i+1), Field{"损失", "2.50"}, Field{"tok/s", "1234"})
				line := out.String()[strings.LastIndex(out.String(), "\r")+1:]
				line = strings.TrimPrefix(line, "\x1b[K")
				if w := Width(line); w > max(width-1, 1) {
					t.Fatalf("width %d: %d cells: %q", width, w, line)
				}
			}
			b.Done()
			if !strings.HasSuffix(out.String(), "\n") {
				t.Errorf("the bar does not end its line: %q", out)
			}
		}
	}
}

func TestColourOnlyWhereWanted(t *testing.T) {
	for _, colour := range []bool{true, false} {
		b, out, c := testBar(Options{Total: 10}, true, colour, 80)
		c.t = c.t.Add(time.Second)
		b.Update(5)
		if got := strings.Contains(out.String(), "\x1b[36m"); got != colour {
			t.Errorf("colour %v: got %q", colour, out)
		}
	}
}

func TestQuietWritesOnlyPrintedLines(t *testing.T) {
	b, out, c := testBar(Options{Total: 10, Quiet: true}, true, true, 80)
	c.t = c.t.Add(time.Minute)
	b.Update(5)
	b.Print("a sample")
	b.Done()
	if out.String() != "a sample\n" {
		t.Errorf("got %q", out)
	}
}

func TestPrintKeepsTheBarBelow(t *testing.T) {
	b, out, c := testBar(Options{Total: 10}, true, false, 80)
	c.t = c.t.Add(time.Second)
	b.Update(5)
	b.Print("hello")
	s := out.String()
	at := strings.Index(s, "\r\x1b[Khello\n")
	if at < 0 || !strings.Contains(s[at+len("\r\x1b[Khello\n"):], "5/10") {
		t.Errorf("got %q", s)
	}
}

func TestETAFollowsTheLastMinuteAndIgnoresWhatWasDoneBefore(t *testing.T) {
	b, _, c := testBar(Options{Total: 1000, Start: 500}, false, false, 80)
	if _, ok := b.ETA(); ok {
		t.Error("an ETA before the first step")
	}
	for i := range 100 {
		c.t = c.t.Add(time.Second)
		b.Update(int64(501 + i))
	}
	if eta, ok := b.ETA(); !ok || eta != 400*time.Second {
		t.Errorf("want 6m40s, got %v %v", eta, ok)
	}
	for i := range 100 { // now ten times slower
		c.t = c.t.Add(10 * time.Second)
		b.Update(int64(601 + i))
	}
	if eta, _ := b.ETA(); eta != 3000*time.Second {
		t.Errorf("want 50m, got %v", eta)
	}
	if r := b.Rate(); r != 0.1 {
		t.Errorf("rate: want 0.1, got %v", r)
	}
}

func TestWidthCountsCells(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "中文": 4, "a中b": 4, "é": 1, "e\u0301": 1, "🙂": 2, "ｱ": 1, "Ａ": 2, "한글": 4} {
		if got := Width(s); got != want {
			t.Errorf("%q: want %d, got %d", s, want, got)
		}
	}
	if got := Truncate("中文字符", 5); got != "中文…" {
		t.Errorf("got %q", got)
	}
}

func FuzzTruncate(f *testing.F) {
	f.Add("中文abc", 3)
	f.Add("e\u0301\xff", 1)
	f.Fuzz(func(t *testing.T, s string, cells int) {
		got := Truncate(s, cells)
		if cells >= 0 && Width(got) > cells {
			t.Errorf("%q to %d: %q has %d cells", s, cells, got, Width(got))
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("%q to %d: %q splits a character", s, cells, got)
		}
	})
}

func TestUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 59 * time.Second: "59s", 185 * time.Second: "3m05s", 7620 * time.Second: "2h07m", 76 * time.Hour: "3d04h"} {
		if got := Duration(d); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 1 << 30: "1.0 GiB", 1<<20 - 1: "1.0 MiB", 1 << 62: "4096.0 PiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := New(f, Options{Label: "x", Total: 2})
	b.Update(1)
	b.Done()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "x 1/2 50%") || strings.ContainsAny(string(raw), "\r\x1b") {
		t.Errorf("got %q", raw)
	}
}
