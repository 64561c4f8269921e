package data

import (
	"fmt"
	"sort"
)

// Piece is part of a sample in a packed row: Tokens tokens from Start on.
type Piece struct {
	Sample int
	Start  int
	Tokens int
}

// PackBFD packs whole sequences into rows of at most capacity tokens by best fit decreasing: from the longest to the
// shortest (equal lengths in order), each goes into the fullest row that has room, of equally full rows the one that
// became so first, else into a new one. A longer sequence keeps its first capacity tokens; empty ones are left out.
func PackBFD(lengths []int, capacity int) ([][]Piece, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("data: cutoff_len: want at least 1, got %d", capacity)
	}
	order := make([]int, 0, len(lengths))
	for i, n := range lengths {
		if n > 0 {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool {
		return min(lengths[order[a]], capacity) > min(lengths[order[b]], capacity)
	})
	// queues[s] holds the rows with s tokens free, oldest first; tree finds the smallest s >= n with a row.
	queues := make([][]int32, capacity+1)
	heads := make([]int, capacity+1)
	tree := newMinTree(capacity + 1)
	var rows [][]Piece
	for _, i := range order {
		n := min(lengths[i], capacity)
		row, free := len(rows), capacity
		if s := tree.first(n); s >= 0 {
			row, free = int(queues[s][heads[s]]), s
			if heads[s]++; heads[s] == len(queues[s]) {
				queues[s], heads[s] = queues[s][:0], 0
				tree.set(s, false)
			}
		} else {
			rows = append(rows, nil)
		}
		rows[row] = append(rows[row], Piece{Sample: i, Tokens: n})
		if free -= n; free > 0 {
			queues[free] = append(queues[free], int32(row))
			tree.set(free, true)
		}
	}
	return rows, nil
}

// minTree finds the smallest marked number at or above a bound in O(log n).
type minTree struct {
	size int
	any  []bool
}

func newMinTree(n int) *minTree {
	size := 1
	for size < n {
		size *= 2
	}
	return &minTree{size: size, any: make([]bool, 2*size)}
}

func (t *minTree) set(i int, v bool) {
	i += t.size
	t.any[i] = v
	for i /= 2; i >= 1; i /= 2 {
		t.any[i] = t.any[2*i] || t.any[2*i+1]
	}
}

func (t *minTree) first(from int) int {
	i := from + t.size
	for !t.any[i] {
		for i&1 == 1 { // a right child: climb
			if i /= 2; i <= 1 {
				return -1
			}
		}
		if i++; i&(i-1) == 0 { // wrapped to the next level: nothing to the right
			return -1
		}
	}
	for i < t.size {
		if i *= 2; !t.any[i] {
			i++
		}
	}
	return i - t.size
}

// PackWrapped concatenates the sequences and cuts the stream into rows of capacity tokens; the last row may be shorter.
func PackWrapped(lengths []int, capacity int) ([][]Piece, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("data: cutoff_len: want at least 1, got %d", capacity)
	}
	var rows [][]Piece
	free := 0
	for i, n := range lengths {
		for start := 0; start < n; {
			if free == 0 {
				rows, free = append(rows, nil), capacity
			}
			take := min(free, n-start)
			rows[len(rows)-1] = append(rows[len(rows)-1], Piece{Sample: i, Start: start, Tokens: take})
			start += take
			free -= take
		}
	}
	return rows, nil
}
