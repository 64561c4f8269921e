package serve

import (
	"slices"
	"testing"
)

func TestShares(t *testing.T) {
	for _, c := range []struct {
		left []int // of prompts in the order in which they came
		room int
		want []int
	}{
		{[]int{500}, 128, []int{128}},
		{[]int{100, 100}, 512, []int{100, 100}},
		{[]int{1000, 50, 30}, 128, []int{48, 50, 30}},
		{[]int{1000, 200, 30}, 128, []int{32, 66, 30}},
		{[]int{1000, 1000, 90, 60}, 128, []int{32, 0, 36, 60}},
		{[]int{10, 1000, 90}, 128, []int{10, 28, 90}},
		{[]int{7, 7, 7}, 1, []int{1, 0, 0}},
		{nil, 128, nil},
	} {
		var reading []*job
		for _, n := range c.left {
			reading = append(reading, &job{seen: make([]int32, n)})
		}
		var got []int
		list := shares(reading, c.room)
		for _, j := range reading {
			at := slices.IndexFunc(list, func(s share) bool { return s.job == j })
			got = append(got, list[at].tokens)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v in %d: want %v, got %v", c.left, c.room, c.want, got)
		}
	}
}
