package plan

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"danlu/hardware"
	"danlu/internal/numtest"
)

func card(t *testing.T, name string) *hardware.GPU {
	t.Helper()
	known, err := hardware.KnownGPUs("")
	if err != nil {
		t.Fatal(err)
	}
	g, err := known.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// precisionOf reads the precision of a published setting.
func precisionOf(t *testing.T, setting string) Precision {
	t.Helper()
	for _, p := range []struct {
		word string
		p    Precision
	}{{"16-bit", BF16}, {"FP16", FP16}, {"8-bit", INT8}, {"INT8", INT8}, {"4-bit", INT4}, {"INT4", INT4}} {
		if strings.Contains(setting, p.word) {
			return p.p
		}
	}
	t.Fatalf("%s: no precision", setting)
	return ""
}

var (
	batchOf = regexp.MustCompile(`batch (\d+)`)
	setUp   = regexp.MustCompile(`^(\d+) x ([^,]+),`)
)

// TestGoldenMemoryFacts compares with published figures of inference: measured ones with what is allocated for texts of
// 2,048 tokens, within 15 %; minima and smallest set-ups, which name cards, must hold what is planned.
func TestGoldenMemoryFacts(t *testing.T) {
	const text = 2048
	cases := 0
	for _, r := range facts(t, "memory_facts.csv") {
		setting, value := r["setting"], 0.0
		if strings.HasPrefix(r["what"], "inference") {
			value = number(t, r["value"])
		}
		q := Request{Model: r["model"], Task: Inference, Context: text, GPU: card(t, "H200")}
		switch r["what"] {
		case "inference memory, published":
			q.Precision = precisionOf(t, setting)
			q.Batch, _ = strconv.Atoi(batchOf.FindStringSubmatch(setting)[1])
			p, err := New(q)
			if err != nil {
				t.Fatal(err)
			}
			got := float64(p.Whole.Used()) / 1e9
			t.Logf("%-8s %-22s %5.1f GB, published %3.0f, %+.1f%%", q.Model, setting, got, value, 100*(got/value-1))
			if !(math.Abs(got/value-1) <= 0.15) {
				t.Errorf("%s, %s: %.1f GB, published %v", q.Model, setting, got, value)
			}
		case "inference memory, minimum published":
			q.Precision = precisionOf(t, setting)
			if strings.Contains(setting, "long context") {
				s, err := Open(q.Model)
				if err != nil {
					t.Fatal(err)
				}
				q.Context = s.Context
			}
			p, err := New(q)
			if err != nil {
				t.Fatal(err)
			}
			got := float64(p.Whole.Used()) / 1e9
			t.Logf("%-14s %-22s %5.1f GB, minimum %3.0f", q.Model, setting, got, value)
			if !(got <= 1.05*value) {
				t.Errorf("%s, %s: %.1f GB, published minimum %v", q.Model, setting, got, value)
			}
		case "inference, smallest published set-up":
			m := setUp.FindStringSubmatch(setting)
			q.Precision, q.GPU = precisionOf(t, setting), card(t, strings.Replace(m[2], "A100", "A100-40GB", 1))
			q.GPUs, _ = strconv.Atoi(m[1])
			p, err := New(q)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%-14s %-22s %5.1f GiB on each of %v", q.Model, setting, float64(p.Memory.Total)/(1<<30), p.Layout)
			if !p.Fits {
				t.Errorf("%s, %s: does not fit: %v", q.Model, setting, p.Memory)
			}
		default:
			continue
		}
		cases++
	}
	numtest.Count(t, "planner_facts memory_facts", cases)
}
