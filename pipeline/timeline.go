package pipeline

import (
	"fmt"
	"strings"
)

// colours of the kinds, by lane.
var colours = map[Kind][2]string{
	F: {"#f2a93b", "#f6cd8b"}, B: {"#4f81bd", "#a7c0de"}, Bi: {"#4f81bd", "#a7c0de"}, W: {"#57a773", "#abd3b9"}, FB: {"#8064a2", "#bfb1d0"},
}

// label is what stands in an operation's box.
func (op Op) label() string {
	switch op.Kind {
	case F:
		return fmt.Sprint(op.Forward.Micro)
	case FB:
		return fmt.Sprintf("%d/%d", op.Forward.Micro, op.Backward.Micro)
	}
	return fmt.Sprint(op.Backward.Micro)
}

func (op Op) lane() int {
	if op.Kind.forward() {
		return op.Forward.Lane
	}
	return op.Backward.Lane
}

// Timeline draws a simulated schedule as SVG: a row for each rank, a box for each operation with its micro-batch.
func (s *Schedule) Timeline(run *Run) string {
	const height, left, top, width = 24, 56, 28, 1100.0
	scale := width / max(run.Makespan, 1e-9)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="sans-serif" font-size="11">`, left+width+8, top+len(s.Ranks)*height+30)
	fmt.Fprintf(&b, `<text x="4" y="16" font-size="13">%s</text>`, s.Name)
	for r, ops := range s.Ranks {
		y := top + r*height
		fmt.Fprintf(&b, `<text x="4" y="%d">rank %d</text>`, y+15, r)
		for i, op := range ops {
			span := run.Spans[r][i]
			x, w := left+span[0]*scale, (span[1]-span[0])*scale
			fmt.Fprintf(&b, `<g><title>%s %s: %.4g to %.4g</title><rect x="%.2f" y="%d" width="%.2f" height="%d" fill="%s" stroke="#fff" stroke-width="0.5"/>`,
				op.Kind, op.label(), span[0], span[1], x, y, w, height-4, colours[op.Kind][op.lane()])
			if w > 12 {
				fmt.Fprintf(&b, `<text x="%.2f" y="%d" text-anchor="middle" fill="#222">%s</text>`, x+w/2, y+14, op.label())
			}
			b.WriteString("</g>")
		}
	}
	x := float64(left)
	for _, k := range []Kind{F, B, W, FB} {
		fmt.Fprintf(&b, `<rect x="%.0f" y="%d" width="12" height="12" fill="%s"/><text x="%.0f" y="%d">%s</text>`, x, top+len(s.Ranks)*height+8, colours[k][0], x+16, top+len(s.Ranks)*height+18, k)
		x += 60
	}
	b.WriteString("</svg>\n")
	return b.String()
}
