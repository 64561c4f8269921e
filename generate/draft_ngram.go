package generate

import "context"

// NGrams guesses that a text goes on as it did the last time its last tokens occurred: prompt lookup.
type NGrams struct {
	Before []int32 // text that is looked through besides, such as a prediction of the answer
}

// Lengths of the ends of a text that are looked for.
const (
	longestGram  = 5
	shortestGram = 2
)

// Draft implements Drafter.
func (g *NGrams) Draft(_ context.Context, text []int32, n int) ([]int32, error) {
	best, length := []int32(nil), shortestGram-1
	for _, source := range [][]int32{text, g.Before} {
		for end := len(source) - 1; end >= shortestGram && length < longestGram; end-- {
			// source[:end] ends as text does?
			k := 0
			for k < longestGram && k < end && k < len(text) && source[end-1-k] == text[len(text)-1-k] {
				k++
			}
			if k > length {
				best, length = source[end:min(end+n, len(source))], k
			}
		}
	}
	return best, nil
}

// Close implements Drafter.
func (*NGrams) Close() {}
