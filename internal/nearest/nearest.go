// Package nearest finds the name that a misspelt one may have meant.
package nearest

import "unicode/utf8"

// Of returns the name closest to a misspelt one, the first in order among equals, "" where none is close.
func Of(name string, known []string) string {
	if len(name) > 64 { // no name is that long
		return ""
	}
	best, least := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := Distance(name, k); d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	return best
}

// Distance is the Levenshtein distance of two texts in characters.
func Distance(a, b string) int {
	y := []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 0; a != ""; i++ {
		r, size := utf8.DecodeRuneInString(a)
		a = a[size:]
		diagonal := row[0]
		row[0] = i + 1
		for j := range y {
			cost := diagonal
			if r != y[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(y)]
}
