package nn

import (
	"slices"
	"testing"

	"danlu/dtype"
)

func TestStorageRuns(t *testing.T) {
	s := Storage{"embed.weight": dtype.Q8_0}
	for i, d := range []dtype.DType{dtype.Q6_K, dtype.Q6_K, dtype.Q4_K, dtype.Q4_K, dtype.Q6_K} {
		s["model.layers."+string(rune('0'+i))+".down.weight"] = d
	}
	if got, want := s.runs("model.layers.%d.", 0, 5), []int{2, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("want runs that end at %v, got %v", want, got)
	}
	if got, want := s.runs("model.layers.%d.", 2, 4), []int{4}; !slices.Equal(got, want) {
		t.Errorf("want runs that end at %v, got %v", want, got)
	}
	if got, want := s.runs("other.%d.", 0, 3), []int{3}; !slices.Equal(got, want) {
		t.Errorf("layers that are not named: want %v, got %v", want, got)
	}
	if got, want := Storage(nil).runs("model.layers.%d.", 0, 5), []int{5}; !slices.Equal(got, want) {
		t.Errorf("no storage: want %v, got %v", want, got)
	}
}
