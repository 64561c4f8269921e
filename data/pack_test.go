package data

import (
	"math/rand/v2"
	"testing"
)

// checkPlan verifies that every token of every sequence is in exactly one row, in order, and no row is over capacity.
func checkPlan(t *testing.T, lengths []int, capacity int, rows [][]Piece, truncates bool) {
	t.Helper()
	taken := make([]int, len(lengths))
	for i, row := range rows {
		sum := 0
		for _, p := range row {
			if p.Tokens <= 0 || p.Start != taken[p.Sample] {
				t.Fatalf("row %d: piece %+v after %d tokens", i, p, taken[p.Sample])
			}
			taken[p.Sample] += p.Tokens
			sum += p.Tokens
		}
		if sum > capacity || sum == 0 {
			t.Fatalf("row %d: %d tokens, capacity %d", i, sum, capacity)
		}
	}
	for i, n := range lengths {
		if truncates {
			n = min(n, capacity)
		}
		if taken[i] != n {
			t.Fatalf("sequence %d: want %d tokens, got %d", i, n, taken[i])
		}
	}
}

func TestPackKeepsEveryToken(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		lengths := make([]int, r.IntN(60))
		capacity := 1 + r.IntN(40)
		total := 0
		for i := range lengths {
			lengths[i] = r.IntN(capacity + capacity/2 + 1)
			total += min(lengths[i], capacity)
		}
		rows, err := PackBFD(lengths, capacity)
		if err != nil {
			t.Fatal(err)
		}
		checkPlan(t, lengths, capacity, rows, true)
		// Best fit decreasing leaves at most one row half empty or emptier.
		loose := 0
		for _, row := range rows {
			sum := 0
			for _, p := range row {
				sum += p.Tokens
			}
			if 2*sum <= capacity {
				loose++
			}
		}
		if loose > 1 {
			t.Fatalf("%d rows at most half full: %v capacity %d", loose, lengths, capacity)
		}
		if rows, err = PackWrapped(lengths, capacity); err != nil {
			t.Fatal(err)
		}
		checkPlan(t, lengths, capacity, rows, false)
	}
}

func TestMinTreeFindsTheSmallest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		n := 1 + r.IntN(70)
		tree, marked := newMinTree(n), make([]bool, n)
		for range 3 * n {
			i, v := r.IntN(n), r.IntN(2) == 0
			tree.set(i, v)
			marked[i] = v
			from := r.IntN(n)
			want := -1
			for k := from; k < n; k++ {
				if marked[k] {
					want = k
					break
				}
			}
			if got := tree.first(from); got != want {
				t.Fatalf("n %d from %d: want %d, got %d (%v)", n, from, want, got, marked)
			}
		}
	}
}

func TestPackRefusesNoCapacity(t *testing.T) {
	if _, err := PackBFD([]int{1}, 0); err == nil {
		t.Error("PackBFD: want an error")
	}
	if _, err := PackWrapped([]int{1}, 0); err == nil {
		t.Error("PackWrapped: want an error")
	}
}

func TestPermutationIsOne(t *testing.T) {
	for _, n := range []int64{0, 1, 2, 3, 17, 1000, permutationTable + 12345} {
		p := newPermutation(n, 7, streamShuffle, 3, true)
		seen := make([]bool, n)
		for i := range n {
			k := p.At(i)
			if k < 0 || k >= n || seen[k] {
				t.Fatalf("n %d: element %d at %d twice or out of range", n, k, i)
			}
			seen[k] = true
		}
	}
	a, b := newPermutation(1000, 7, streamShuffle, 0, true), newPermutation(1000, 7, streamShuffle, 1, true)
	same := 0
	for i := range int64(1000) {
		if a.At(i) == b.At(i) {
			same++
		}
	}
	if same > 20 {
		t.Errorf("two epochs agree at %d of 1000 places", same)
	}
}
