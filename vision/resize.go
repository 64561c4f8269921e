package vision

import "math"

// Resize scales a picture with the bicubic filter of Pillow (libImaging/Resample.c): antialiased when it shrinks,
// columns first, then rows, each pass rounded to 8 bits. Where columns grow and rows shrink, Pillow since 12 takes the
// rows first.
func Resize(img *RGB, width, height int) *RGB {
	if width > img.Width && height < img.Height {
		img = resizeRows(img, height)
	}
	if width != img.Width {
		img = resizeColumns(img, width)
	}
	if height != img.Height {
		img = resizeRows(img, height)
	}
	return img
}

// taps are the input pixels and fixed-point weights of one output pixel.
type taps struct {
	first   int
	weights []int32
}

// fraction is the number of fraction bits of the weights.
const fraction = 32 - 8 - 2

// bicubic is Keys' kernel with a = -0.5.
func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

func filter(in, out int) []taps {
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support, shrink := 2*stretch, 1/stretch // Pillow multiplies by the reciprocal
	list := make([]taps, out)
	for o := range list {
		center := (float64(o) + 0.5) * scale
		first := max(int(center-support+0.5), 0)
		last := min(int(center+support+0.5), in)
		w := make([]float64, last-first)
		sum := 0.0
		for i := range w {
			w[i] = bicubic((float64(i+first) - center + 0.5) * shrink)
			sum += w[i]
		}
		list[o] = taps{first: first, weights: make([]int32, len(w))}
		for i := range w {
			list[o].weights[i] = int32(math.Copysign(0.5, w[i]/sum) + w[i]/sum*(1<<fraction))
		}
	}
	return list
}

// clip8 rounds a fixed-point sum to a byte.
func clip8(sum int32) uint8 {
	return uint8(min(max(sum>>fraction, 0), 255))
}

func resizeColumns(img *RGB, width int) *RGB {
	out := NewRGB(width, img.Height)
	list := filter(img.Width, width)
	for y := range img.Height {
		row := img.Pix[3*y*img.Width : 3*(y+1)*img.Width]
		for x, t := range list {
			for c := range 3 {
				sum := int32(1 << (fraction - 1))
				for i, w := range t.weights {
					sum += w * int32(row[3*(t.first+i)+c])
				}
				out.Pix[3*(y*width+x)+c] = clip8(sum)
			}
		}
	}
	return out
}

func resizeRows(img *RGB, height int) *RGB {
	out := NewRGB(img.Width, height)
	stride := 3 * img.Width
	for y, t := range filter(img.Height, height) {
		for x := range stride {
			sum := int32(1 << (fraction - 1))
			for i, w := range t.weights {
				sum += w * int32(img.Pix[(t.first+i)*stride+x])
			}
			out.Pix[y*stride+x] = clip8(sum)
		}
	}
	return out
}
