package generate

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"danlu/grammar"
	"danlu/internal/numtest"
)

type samplingCase struct {
	Logits      [][]float32 `json:"logits"`
	PreviousIDs [][]int32   `json:"previous_ids"`
	Cases       []struct {
		Processors []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"processors"`
		Probs [][]float64 `json:"probs"`
		Kept  []int       `json:"kept"`
	} `json:"cases"`
	InverseCDF struct {
		Uniforms []float64 `json:"uniforms"`
		Tokens   []int32   `json:"tokens"`
	} `json:"inverse_cdf"`
}

func TestGoldenSampling(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(numtest.Goldens(t, "training/sampling"), "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g samplingCase
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	for n, c := range g.Cases {
		s := Sampling{Temperature: 1}
		for _, p := range c.Processors {
			var x float64
			var pair [2]float64
			if json.Unmarshal(p.Value, &x) != nil && json.Unmarshal(p.Value, &pair) != nil {
				t.Fatalf("case %d: value %s", n, p.Value)
			}
			switch p.Name {
			case "temperature":
				s.Temperature = x
			case "top_k":
				s.TopK = int(x)
			case "top_p":
				s.TopP = x
			case "min_p":
				s.MinP = x
			case "typical":
				s.Typical = x
			case "epsilon":
				s.Epsilon = x
			case "eta":
				s.Eta = x
			case "repetition_penalty":
				s.RepetitionPenalty = x
			case "frequency_presence":
				s.FrequencyPenalty, s.PresencePenalty = pair[0], pair[1]
			case "no_repeat_ngram":
				s.NoRepeatNGram = int(x)
			default:
				t.Fatalf("case %d: processor %q", n, p.Name)
			}
		}
		for row := range g.Logits {
			logits := append([]float32(nil), g.Logits[row]...)
			got := make([]float64, len(logits))
			kept := NewSampler(s).Distribution(logits, g.PreviousIDs[row], nil)
			for _, k := range kept {
				got[k.ID] = k.P
			}
			if len(kept) != c.Kept[row] {
				t.Errorf("case %d %+v row %d: %d candidates, want %d", n, c.Processors, row, len(kept), c.Kept[row])
			}
			for i, want := range c.Probs[row] {
				if !(math.Abs(got[i]-want) <= 1e-6) {
					t.Errorf("case %d row %d token %d: probability %v, want %v", n, row, i, got[i], want)
				}
			}
		}
	}
	for row, u := range g.InverseCDF.Uniforms {
		c := NewSampler(Sampling{Temperature: 1}).Distribution(append([]float32(nil), g.Logits[row]...), nil, nil)
		if got := pick(c, u); got != g.InverseCDF.Tokens[row] {
			t.Errorf("row %d: uniform %v picks %d, want %d", row, u, got, g.InverseCDF.Tokens[row])
		}
	}
	numtest.Count(t, "training/sampling", len(g.Cases))
}

func TestSamplerIsDeterministic(t *testing.T) {
	logits := []float32{1, 2, 3, 2, 1, 0}
	draw := func(seed uint64) (ids []int32) {
		s := NewSampler(Sampling{Temperature: 1, TopK: 4, Seed: seed})
		for range 20 {
			id, err := s.Next(append([]float32(nil), logits...), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	a, b, c := draw(1), draw(1), draw(2)
	same := true
	for i := range a {
		if a[i] != b[i] {
			t.Fatal("the same seed draws other tokens")
		}
		same = same && a[i] == c[i]
	}
	if same {
		t.Error("another seed draws the same tokens")
	}
}

func TestSamplerEdges(t *testing.T) {
	nan := float32(math.NaN())
	if _, err := NewSampler(Sampling{}).Next([]float32{1, nan}, nil, nil); err == nil {
		t.Error("a logit that is not a number was taken")
	}
	if _, err := NewSampler(Sampling{}).Next([]float32{1, 2}, nil, grammar.NewMask(2)); err == nil {
		t.Error("a token was chosen where none is allowed")
	}
	id, err := NewSampler(Sampling{Temperature: 1}).Next([]float32{1, 2, 3}, nil, grammar.Mask{2})
	if err != nil || id != 1 {
		t.Errorf("token %d, %v; want the only allowed one", id, err)
	}
	if err := (&Sampling{TopP: math.NaN()}).Validate(); err == nil {
		t.Error("top_p of NaN is valid")
	}
}

func BenchmarkSampler(b *testing.B) {
	logits := make([]float32, 151936)
	for i := range logits {
		logits[i] = float32(math.Sin(float64(i)*12.9898) * 8)
	}
	buf := make([]float32, len(logits))
	s := NewSampler(Sampling{Temperature: 0.7, TopK: 20, TopP: 0.8, RepetitionPenalty: 1.05})
	seen := make([]int32, 512)
	for b.Loop() {
		copy(buf, logits)
		if _, err := s.Next(buf, seen, nil); err != nil {
			b.Fatal(err)
		}
	}
}
