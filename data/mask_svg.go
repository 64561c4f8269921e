package data

import (
	"fmt"
	"html"
	"strings"
)

// Allowed reports whether in a row of the batch place q attends to place k: both in one segment, and k not behind q
// unless it lies in the row's prefix.
func (x *Batch) Allowed(row, q, k int) bool {
	base := row * x.T
	if x.Segments[base+q] != x.Segments[base+k] || x.Segments[base+q] == NoSegment {
		return false
	}
	return k <= q || x.Prefix != nil && k < int(x.Prefix[row])
}

// MaskSVG draws a row as it is trained: its tokens with their position rows beside the attention matrix (queries down,
// keys across), scored places marked. Rows are cut to limit tokens (0: 64). names gives the text of each token.
func (x *Batch) MaskSVG(row, limit int, name func(id int32) string) (string, error) {
	if row < 0 || row >= x.B {
		return "", fmt.Errorf("data: preview: row: want 0..%d, got %d", x.B-1, row)
	}
	if limit <= 0 {
		limit = 64
	}
	n := min(x.T, limit)
	for n > 1 && x.Segments[row*x.T+n-1] == NoSegment {
		n--
	}
	const cell, label = 12, 150
	left := label + 30*x.P
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="monospace" font-size="9">`+"\n", left+n*cell+10, (n+2)*cell)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	for p := range x.P {
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#666">p%d</text>`+"\n", label+30*p, cell-3, p+1)
	}
	for q := range n {
		at := row*x.T + q
		y := (q+1)*cell + cell
		colour := "#444"
		if x.Targets[at] != Ignore {
			colour = "#0a7d2c" // the prediction made here is scored
		}
		text := []rune(strings.Map(visible, strings.ReplaceAll(name(x.IDs[at]), "\n", "⏎")))
		if len(text) > 18 {
			text = append(text[:17], '…')
		}
		fmt.Fprintf(&b, `<text x="4" y="%d" fill="%s">%s</text>`+"\n", y-3, colour, html.EscapeString(string(text)))
		for p := range x.P {
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#666">%d</text>`+"\n", label+30*p, y-3, x.Positions[(p*x.B+row)*x.T+q])
		}
		for k := 0; k < n; k++ {
			// One rectangle for each stretch of visible keys.
			if !x.Allowed(row, q, k) {
				continue
			}
			end := k
			for end+1 < n && x.Allowed(row, q, end+1) {
				end++
			}
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", left+k*cell, y-cell+1, (end-k+1)*cell-1, cell-2, segmentColours[int(x.Segments[at])%len(segmentColours)])
			k = end
		}
	}
	b.WriteString("</svg>\n")
	return b.String(), nil
}

var segmentColours = []string{"#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2"}
