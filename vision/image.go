// Package vision turns pictures and videos into the pixel patches that vision towers take, as the original processors
// do, and numbers the positions of their tokens.
package vision

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	_ "image/jpeg" // decoders register themselves
	_ "image/png"
	"os"

	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/tiff"
	_ "golang.org/x/image/webp"
)

// RGB is a picture of 8-bit red, green and blue, row by row.
type RGB struct {
	Width, Height int
	Pix           []uint8 // [Height][Width][3]
}

// Limits of what is decoded: pictures come from strangers.
const (
	maxImageBytes = 64 << 20
	maxPixels     = 1 << 26
	maxFrames     = 4096
)

// NewRGB returns a black picture.
func NewRGB(width, height int) *RGB {
	return &RGB{Width: width, Height: height, Pix: make([]uint8, 3*width*height)}
}

// Decode reads a PNG, JPEG, GIF (first frame), WebP, BMP or TIFF. Transparent pixels keep their colour, as PIL's
// conversion to RGB does.
func Decode(data []byte) (*RGB, error) {
	if err := checkSize(data); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("vision: image: %w", err)
	}
	return fromImage(img), nil
}

func checkSize(data []byte) error {
	if len(data) > maxImageBytes {
		return fmt.Errorf("vision: image: want at most %d bytes, got %d", maxImageBytes, len(data))
	}
	c, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("vision: image: %w", err)
	}
	if c.Width <= 0 || c.Height <= 0 || c.Width > maxPixels/c.Height {
		return fmt.Errorf("vision: image: want at most %d pixels, got %d x %d", maxPixels, c.Width, c.Height)
	}
	return nil
}

// fromImage drops alpha without multiplying by it.
func fromImage(img image.Image) *RGB {
	b := img.Bounds()
	out := NewRGB(b.Dx(), b.Dy())
	i := 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			out.Pix[i], out.Pix[i+1], out.Pix[i+2] = c.R, c.G, c.B
			i += 3
		}
	}
	return out
}

// Load reads a picture file.
func Load(path string) (*RGB, error) {
	if err := checkSound(path); err != nil {
		return nil, err
	}
	data, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("vision: %s: %w", path, err)
	}
	img, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	return img, nil
}

// Size reads a picture file's width and height.
func Size(path string) (width, height int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, fmt.Errorf("vision: %w", err)
	}
	defer f.Close()
	c, _, err := image.DecodeConfig(f)
	if err != nil {
		return 0, 0, fmt.Errorf("vision: %s: %w", path, err)
	}
	return c.Width, c.Height, nil
}

// readBounded reads a file that has to fit the limit of pictures.
func readBounded(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if st.Size() > maxImageBytes {
		return nil, fmt.Errorf("want at most %d bytes, got %d", maxImageBytes, st.Size())
	}
	return os.ReadFile(path)
}

// DecodeGIF reads the frames of an animation, each as it is shown.
func DecodeGIF(data []byte) ([]*RGB, error) {
	frames, _, err := decodeGIF(data)
	return frames, err
}

// decodeGIF also returns how long each frame is shown, in hundredths of a second.
func decodeGIF(data []byte) (frames []*RGB, delays []int, err error) {
	if err := checkSize(data); err != nil {
		return nil, nil, err
	}
	g, err := gif.DecodeAll(bytes.NewReader(data))
	if err != nil {
		return nil, nil, fmt.Errorf("vision: gif: %w", err)
	}
	if len(g.Image) == 0 || len(g.Image) > maxFrames || len(g.Image) > maxPixels/max(1, g.Config.Width*g.Config.Height) {
		return nil, nil, errors.New("vision: gif: too many frames for its size")
	}
	canvas := image.NewNRGBA(image.Rect(0, 0, g.Config.Width, g.Config.Height))
	for i, f := range g.Image {
		before := image.NewNRGBA(canvas.Bounds())
		copy(before.Pix, canvas.Pix)
		draw.Draw(canvas, f.Bounds(), f, f.Bounds().Min, draw.Over)
		frames = append(frames, fromImage(canvas))
		switch g.Disposal[i] {
		case gif.DisposalBackground:
			draw.Draw(canvas, f.Bounds(), image.Transparent, image.Point{}, draw.Src)
		case gif.DisposalPrevious:
			canvas = before
		}
	}
	return frames, g.Delay, nil
}
