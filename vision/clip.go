package vision

import (
	"encoding/json"
	"fmt"
)

// ClipProcessor is CLIP's image processor as LLaVA-style models use it: pad to a square, scale, crop, normalise.
type ClipProcessor struct {
	Side      int
	Mean, Std []float64
	Pad       bool // pad to a square of the mean colour first (image_aspect_ratio: pad)
}

// ParseClipProcessor reads preprocessor_config.json; path is for errors.
func ParseClipProcessor(path string, data []byte, pad bool) (*ClipProcessor, error) {
	var c struct {
		Size json.RawMessage `json:"size"`
		Crop json.RawMessage `json:"crop_size"`
		Mean []float64       `json:"image_mean"`
		Std  []float64       `json:"image_std"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("vision: %s: %w", path, err)
	}
	p := &ClipProcessor{Mean: c.Mean, Std: c.Std, Pad: pad}
	if p.Mean == nil {
		p.Mean = clipMean
	}
	if p.Std == nil {
		p.Std = clipStd
	}
	if len(p.Mean) != 3 || len(p.Std) != 3 {
		return nil, fmt.Errorf("vision: %s: image_mean and image_std: want three numbers each", path)
	}
	size, err := side(c.Size)
	if err != nil {
		return nil, fmt.Errorf("vision: %s: size: %w", path, err)
	}
	p.Side = size
	if c.Crop != nil {
		if p.Side, err = side(c.Crop); err != nil {
			return nil, fmt.Errorf("vision: %s: crop_size: %w", path, err)
		}
		if p.Side != size {
			return nil, fmt.Errorf("vision: %s: crop_size: want the size %d, got %d", path, size, p.Side)
		}
	}
	return p, nil
}

// side reads a size given as a number or by its sides.
func side(raw json.RawMessage) (int, error) {
	var n int
	if json.Unmarshal(raw, &n) != nil {
		var sides struct {
			Shortest int `json:"shortest_edge"`
			Height   int `json:"height"`
			Width    int `json:"width"`
		}
		if err := json.Unmarshal(raw, &sides); err != nil {
			return 0, err
		}
		n = max(sides.Shortest, sides.Height)
		if sides.Height != sides.Width {
			return 0, fmt.Errorf("want a square, got %d x %d", sides.Width, sides.Height)
		}
	}
	if n < 1 || n > 1<<13 {
		return 0, fmt.Errorf("want 1 to %d, got %d", 1<<13, n)
	}
	return n, nil
}

// Image returns the pixel values [3, Side, Side].
func (p *ClipProcessor) Image(img *RGB) []float32 {
	if p.Pad && img.Width != img.Height {
		img = p.square(img)
	}
	w, h := p.Side, p.Side
	if img.Width < img.Height { // the shorter edge becomes Side
		h = p.Side * img.Height / img.Width
	} else if img.Height < img.Width {
		w = p.Side * img.Width / img.Height
	}
	img = Resize(img, w, h)
	x0, y0 := (w-p.Side)/2, (h-p.Side)/2
	out := make([]float32, 0, 3*p.Side*p.Side)
	for c := range 3 {
		for y := range p.Side {
			for x := range p.Side {
				out = append(out, normalised(img.Pix[3*((y0+y)*w+x0+x)+c], p.Mean[c], p.Std[c]))
			}
		}
	}
	return out
}

// square centres a picture on a square of the mean colour.
func (p *ClipProcessor) square(img *RGB) *RGB {
	n := max(img.Width, img.Height)
	out := NewRGB(n, n)
	for i := range out.Pix {
		out.Pix[i] = uint8(p.Mean[i%3] * 255)
	}
	x0, y0 := (n-img.Width)/2, (n-img.Height)/2
	for y := range img.Height {
		copy(out.Pix[3*((y0+y)*n+x0):], img.Pix[3*y*img.Width:3*(y+1)*img.Width])
	}
	return out
}
