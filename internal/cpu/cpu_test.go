package cpu

import (
	"os"
	"testing"
)

func TestParseLevel(t *testing.T) {
	for l := Portable; l < numLevels; l++ {
		got, err := ParseLevel(l.String())
		if err != nil || got != l {
			t.Errorf("ParseLevel(%q) = %v, %v", l.String(), got, err)
		}
	}
	if _, err := ParseLevel("sse9"); err == nil {
		t.Error("ParseLevel(sse9): want an error")
	}
}

func TestSetLevel(t *testing.T) {
	before := Active()
	for _, l := range Levels() {
		undo := SetLevel(l)
		if Active() != l {
			t.Errorf("after SetLevel(%v): Active is %v", l, Active())
		}
		undo()
	}
	if Active() != before {
		t.Errorf("after undo: want %v, got %v", before, Active())
	}
}

func TestEnvCaps(t *testing.T) {
	limit, err := ParseLevel(os.Getenv(EnvVar))
	if os.Getenv(EnvVar) != "" && err == nil && Active() > limit {
		t.Errorf("DANLU_CPU=%v, Active %v", limit, Active())
	}
	if Active() > Detected() {
		t.Errorf("Active %v above Detected %v", Active(), Detected())
	}
}

func TestCacheSizes(t *testing.T) {
	c := CacheSizes()
	if c.L1 < 4<<10 || c.L2 < c.L1 || c.L3 < c.L1 {
		t.Errorf("implausible cache sizes: %+v", c)
	}
}
