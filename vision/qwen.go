package vision

import (
	"encoding/json"
	"fmt"
	"math"
)

// QwenProcessor is Qwen2-VL's and Qwen2.5-VL's image processor (preprocessor_config.json).
type QwenProcessor struct {
	MinPixels     int       `json:"min_pixels"`
	MaxPixels     int       `json:"max_pixels"`
	PatchSize     int       `json:"patch_size"`
	TemporalPatch int       `json:"temporal_patch_size"`
	MergeSize     int       `json:"merge_size"`
	Mean          []float64 `json:"image_mean"`
	Std           []float64 `json:"image_std"`
}

// ParseQwenProcessor reads preprocessor_config.json; path is for errors.
func ParseQwenProcessor(path string, data []byte) (*QwenProcessor, error) {
	p := &QwenProcessor{MinPixels: 56 * 56, MaxPixels: 28 * 28 * 1280, PatchSize: 14, TemporalPatch: 2, MergeSize: 2,
		Mean: clipMean, Std: clipStd}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("vision: %s: %w", path, err)
	}
	for _, f := range []struct {
		key string
		v   int
	}{{"patch_size", p.PatchSize}, {"temporal_patch_size", p.TemporalPatch}, {"merge_size", p.MergeSize}, {"min_pixels", p.MinPixels}, {"max_pixels", p.MaxPixels}} {
		if f.v < 1 || f.v > maxPixels {
			return nil, fmt.Errorf("vision: %s: %s: want 1 to %d, got %d", path, f.key, maxPixels, f.v)
		}
	}
	if len(p.Mean) != 3 || len(p.Std) != 3 {
		return nil, fmt.Errorf("vision: %s: image_mean and image_std: want three numbers each", path)
	}
	return p, nil
}

var (
	clipMean = []float64{0.48145466, 0.4578275, 0.40821073}
	clipStd  = []float64{0.26862954, 0.26130258, 0.27577711}
)

// Grid is the number of patches of one picture or video: times, rows, columns.
type Grid struct{ T, H, W int }

// Patches are flattened pixel patches [Grid.T*Grid.H*Grid.W, 3*temporal*patch*patch] in the order of merge blocks, as
// the vision tower takes them.
type Patches struct {
	Grid   Grid
	Values []float32
}

// SmartResize picks the size nearest to a picture's own with sides that are multiples of factor and an area within the
// limits.
func SmartResize(height, width, factor, minPixels, maxPixels int) (h, w int, err error) {
	if height < 1 || width < 1 {
		return 0, 0, fmt.Errorf("vision: size %d x %d", width, height)
	}
	if ratio := float64(max(height, width)) / float64(min(height, width)); ratio > 200 {
		return 0, 0, fmt.Errorf("vision: aspect ratio: want at most 200, got %.1f", ratio)
	}
	f := float64(factor)
	h, w = int(math.RoundToEven(float64(height)/f))*factor, int(math.RoundToEven(float64(width)/f))*factor
	switch area := float64(height) * float64(width); {
	case h*w > maxPixels:
		beta := math.Sqrt(area / float64(maxPixels))
		h = max(factor, int(math.Floor(float64(height)/beta/f))*factor)
		w = max(factor, int(math.Floor(float64(width)/beta/f))*factor)
	case h*w < minPixels:
		beta := math.Sqrt(float64(minPixels) / area)
		h = int(math.Ceil(float64(height)*beta/f)) * factor
		w = int(math.Ceil(float64(width)*beta/f)) * factor
	}
	return h, w, nil
}

// Grid is the grid of a video of so many frames, or of a picture, which is one frame.
func (p *QwenProcessor) Grid(width, height, frames int) (Grid, error) {
	h, w, err := SmartResize(height, width, p.PatchSize*p.MergeSize, p.MinPixels, p.MaxPixels)
	return Grid{T: (frames + p.TemporalPatch - 1) / p.TemporalPatch, H: h / p.PatchSize, W: w / p.PatchSize}, err
}

// Image makes the patches of a still picture, which is repeated in time.
func (p *QwenProcessor) Image(img *RGB) (*Patches, error) { return p.frames([]*RGB{img}, Resize) }

// Video makes the patches of frames of one size; the last frame is repeated to fill a temporal patch.
func (p *QwenProcessor) Video(frames []*RGB) (*Patches, error) { return p.frames(frames, ResizeFrame) }

func (p *QwenProcessor) frames(frames []*RGB, resize func(*RGB, int, int) *RGB) (*Patches, error) {
	if len(frames) == 0 {
		return nil, fmt.Errorf("vision: a video without frames")
	}
	first := frames[0]
	h, w, err := SmartResize(first.Height, first.Width, p.PatchSize*p.MergeSize, p.MinPixels, p.MaxPixels)
	if err != nil {
		return nil, err
	}
	sized := make([]*RGB, len(frames))
	for i, f := range frames {
		if f.Width != first.Width || f.Height != first.Height {
			return nil, fmt.Errorf("vision: frame %d is %d x %d, the first one %d x %d", i, f.Width, f.Height, first.Width, first.Height)
		}
		sized[i] = resize(f, w, h)
	}
	for len(sized)%p.TemporalPatch != 0 {
		sized = append(sized, sized[len(sized)-1])
	}
	return p.patchify(sized), nil
}

// patchify cuts frames into patches ordered (time, block row, block column, row in block, column in block), each
// flattened (channel, time, row, column).
func (p *QwenProcessor) patchify(frames []*RGB) *Patches {
	ps, tp, m := p.PatchSize, p.TemporalPatch, p.MergeSize
	g := Grid{T: len(frames) / tp, H: frames[0].Height / ps, W: frames[0].Width / ps}
	out := make([]float32, 0, g.T*g.H*g.W*3*tp*ps*ps)
	width := frames[0].Width
	var level [3][256]float32
	for c := range 3 {
		for v := range 256 {
			level[c][v] = normalised(uint8(v), p.Mean[c], p.Std[c])
		}
	}
	for t := range g.T {
		for by := range g.H / m {
			for bx := range g.W / m {
				for my := range m {
					for mx := range m {
						y0, x0 := (by*m+my)*ps, (bx*m+mx)*ps
						for c := range 3 {
							for dt := range tp {
								f := frames[t*tp+dt]
								for y := y0; y < y0+ps; y++ {
									for x := x0; x < x0+ps; x++ {
										out = append(out, level[c][f.Pix[3*(y*width+x)+c]])
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return &Patches{Grid: g, Values: out}
}

// normalised is (v/255 - mean) / std with the processors' float32 steps.
func normalised(v uint8, mean, std float64) float32 {
	return float32((float64(float32(float64(v)*(1.0/255))) - mean) / std)
}

// Windows are the attention windows of Qwen2.5-VL's vision tower over merged tokens: order [merged tokens] lists them
// window by window, and ends are the running lengths of the windows in merged tokens. windowTokens is a window's side.
func (g Grid) Windows(merge, windowTokens int) (order []int32, ends []int) {
	h, w := g.H/merge, g.W/merge
	for t := range g.T {
		for y0 := 0; y0 < h; y0 += windowTokens {
			for x0 := 0; x0 < w; x0 += windowTokens {
				for y := y0; y < min(y0+windowTokens, h); y++ {
					for x := x0; x < min(x0+windowTokens, w); x++ {
						order = append(order, int32((t*h+y)*w+x))
					}
				}
				ends = append(ends, len(order))
			}
		}
	}
	return order, ends
}

// PatchPositions are the row and column of each patch, in the order of merge blocks: [2][T*H*W].
func (g Grid) PatchPositions(merge int) [2][]int32 {
	var pos [2][]int32
	for range g.T {
		for by := range g.H / merge {
			for bx := range g.W / merge {
				for my := range merge {
					for mx := range merge {
						pos[0] = append(pos[0], int32(by*merge+my))
						pos[1] = append(pos[1], int32(bx*merge+mx))
					}
				}
			}
		}
	}
	return pos
}
