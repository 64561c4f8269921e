package vision

import "fmt"

// MRoPE numbers tokens in three rows (time, height, width) as Qwen2.5-VL does (arXiv:2502.13923, section 2.1.2).
type MRoPE struct {
	ImageToken, VideoToken int32
	Merge                  int
	TokensPerSecond        float64
}

// Media is a picture or a video in a text, in the order of its tokens.
type Media struct {
	Grid          Grid
	SecondPerGrid float64 // of a video; 0 for a picture
}

// Positions returns [3][len(ids)]. Text counts up in all rows; the tokens of a picture or video take its time, row and
// column behind the text before it; the text after resumes at the largest position + 1.
func (m MRoPE) Positions(ids []int32, media []Media) ([3][]int32, error) {
	var pos [3][]int32
	next := int32(0)
	used := 0
	for i := 0; i < len(ids); {
		if ids[i] != m.ImageToken && ids[i] != m.VideoToken {
			for r := range pos {
				pos[r] = append(pos[r], next)
			}
			next++
			i++
			continue
		}
		if used == len(media) {
			return pos, fmt.Errorf("vision: the text has more pictures than the %d given", len(media))
		}
		g := media[used].Grid
		h, w := g.H/m.Merge, g.W/m.Merge
		n := g.T * h * w
		if i+n > len(ids) {
			return pos, fmt.Errorf("vision: picture %d needs %d tokens, the text has %d left", used+1, n, len(ids)-i)
		}
		most := next
		for t := range g.T {
			at := int32(float64(t) * media[used].SecondPerGrid * m.TokensPerSecond)
			for y := range h {
				for x := range w {
					if ids[i] != m.ImageToken && ids[i] != m.VideoToken {
						return pos, fmt.Errorf("vision: picture %d needs %d tokens in a row", used+1, n)
					}
					p := [3]int32{next + at, next + int32(y), next + int32(x)}
					for r := range pos {
						pos[r] = append(pos[r], p[r])
						most = max(most, p[r])
					}
					i++
				}
			}
		}
		next = most + 1
		used++
	}
	if used != len(media) {
		return pos, fmt.Errorf("vision: %d pictures are given, the text has %d", len(media), used)
	}
	return pos, nil
}
