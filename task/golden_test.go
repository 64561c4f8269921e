package task

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/internal/numtest"
)

type rewardCases struct {
	Cases []struct {
		ID        int                `json:"id"`
		About     string             `json:"about"`
		Text      string             `json:"text"`
		Gold      string             `json:"gold"`
		Extracted *string            `json:"extracted"`
		Expected  map[string]float64 `json:"expected"`
	} `json:"cases"`
	PassAtK []struct {
		N       int     `json:"n"`
		Correct int     `json:"correct"`
		K       int     `json:"k"`
		Want    float64 `json:"pass_at_k"`
	} `json:"pass_at_k"`
	Rejection struct {
		Rewards   [][]float64 `json:"prompt_rewards"`
		Threshold float64     `json:"threshold"`
		Best      []int       `json:"best_of_n_index"`
		Kept      [][]int     `json:"kept_by_threshold"`
	} `json:"rejection_sampling"`
	Votes []struct {
		Answers []string `json:"answers"`
		Winner  []int    `json:"winner_class"`
		Votes   int      `json:"votes"`
	} `json:"majority_vote"`
}

func TestGoldenRewardFunctions(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "training/reward_functions"), "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var g rewardCases
		if err := json.Unmarshal(raw, &g); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		count += len(g.Cases) + len(g.PassAtK) + len(g.Rejection.Rewards) + len(g.Votes)
		checkReplies(t, g)
		for _, c := range g.PassAtK {
			if got := PassAtK(c.N, c.Correct, c.K); !(math.Abs(got-c.Want) <= 1e-12) {
				t.Errorf("pass@%d of %d with %d right: want %v, got %v", c.K, c.N, c.Correct, c.Want, got)
			}
		}
		for i, r := range g.Rejection.Rewards {
			if got := Best(r); got != g.Rejection.Best[i] {
				t.Errorf("best of %v: want %d, got %d", r, g.Rejection.Best[i], got)
			}
			if got := AtLeast(r, g.Rejection.Threshold); !slices.Equal(got, g.Rejection.Kept[i]) {
				t.Errorf("kept of %v: want %v, got %v", r, g.Rejection.Kept[i], got)
			}
		}
		for _, v := range g.Votes {
			if got := Majority(v.Answers); !slices.Equal(got, v.Winner) || len(got) != v.Votes {
				t.Errorf("vote of %q: want %v, got %v", v.Answers, v.Winner, got)
			}
		}
	}
	numtest.Count(t, "training/reward_functions", count)
}

func checkReplies(t *testing.T, g rewardCases) {
	for _, c := range g.Cases {
		got, ok := Extract(c.Text)
		if ok != (c.Extracted != nil) || ok && got != *c.Extracted {
			t.Errorf("case %d (%s): extracted %q, %v", c.ID, c.About, got, ok)
		}
		for name, want := range c.Expected {
			f, err := RewardNamed(name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := f(Reply{Text: c.Text, Gold: c.Gold})
			if err != nil || !(got == want) {
				t.Errorf("case %d (%s): %s: want %v, got %v (%v)", c.ID, c.About, name, want, got, err)
			}
		}
	}
}
