package vision

import "math"

// Resize scales a picture with the bicubic filter of Pillow (libImaging/Resample.c): antialiased when it shrinks,
// columns first, then rows, each pass rounded to 8 bits. Where columns grow and rows shrink, Pillow since 12 takes the
// rows first.
func Resize(img *RGB, width, height int) *RGB {
	if width > img.Width && height < img.Height {
		return resizeColumns(resizeRows(img, height, pillowBits), width, pillowBits)
	}
	return resizeRows(resizeColumns(img, width, pillowBits), height, pillowBits)
}

// ResizeFrame scales a video frame as torchvision does, which the original video processor uses
// (aten/src/ATen/native/cpu/UpSampleKernel.cpp): the same filter, always columns first, with weights that fit 16 bits.
func ResizeFrame(img *RGB, width, height int) *RGB {
	return resizeRows(resizeColumns(img, width, torchBits), height, torchBits)
}

// taps are the input pixels and fixed-point weights of one output pixel.
type taps struct {
	first   int
	weights []int32
}

// pillowBits is Pillow's number of fraction bits of fixed-point weights, whatever the largest weight.
func pillowBits(float64) int { return 32 - 8 - 2 }

// torchBits is the most fraction bits, up to 22, with which the largest weight is below 2^15.
func torchBits(largest float64) int {
	bits := 0
	for bits < 22 && int(0.5+largest*float64(int(1)<<(bits+1))) < 1<<15 {
		bits++
	}
	return bits
}

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

// filter are the taps of every output pixel and the fraction bits of their weights.
func filter(in, out int, bitsOf func(largest float64) int) (list []taps, bits int) {
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support, shrink := 2*stretch, 1/stretch // a product with the reciprocal, as in the originals
	list = make([]taps, out)
	weights := make([][]float64, out)
	largest := 0.0
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
		for i := range w {
			w[i] /= sum
			largest = max(largest, w[i])
		}
		list[o].first, weights[o] = first, w
	}
	bits = bitsOf(largest)
	for o, w := range weights {
		list[o].weights = make([]int32, len(w))
		for i := range w {
			list[o].weights[i] = int32(math.Copysign(0.5, w[i]) + w[i]*float64(int(1)<<bits))
		}
	}
	return list, bits
}

// clip8 rounds a fixed-point sum to a byte.
func clip8(sum int32, bits int) uint8 {
	return uint8(min(max(sum>>bits, 0), 255))
}

func resizeColumns(img *RGB, width int, bitsOf func(float64) int) *RGB {
	if width == img.Width {
		return img
	}
	out := NewRGB(width, img.Height)
	list, bits := filter(img.Width, width, bitsOf)
	for y := range img.Height {
		row := img.Pix[3*y*img.Width : 3*(y+1)*img.Width]
		for x, t := range list {
			for c := range 3 {
				sum := int32(1) << (bits - 1)
				for i, w := range t.weights {
					sum += w * int32(row[3*(t.first+i)+c])
				}
				out.Pix[3*(y*width+x)+c] = clip8(sum, bits)
			}
		}
	}
	return out
}

func resizeRows(img *RGB, height int, bitsOf func(float64) int) *RGB {
	if height == img.Height {
		return img
	}
	out := NewRGB(img.Width, height)
	stride := 3 * img.Width
	list, bits := filter(img.Height, height, bitsOf)
	for y, t := range list {
		for x := range stride {
			sum := int32(1) << (bits - 1)
			for i, w := range t.weights {
				sum += w * int32(img.Pix[(t.first+i)*stride+x])
			}
			out.Pix[y*stride+x] = clip8(sum, bits)
		}
	}
	return out
}
