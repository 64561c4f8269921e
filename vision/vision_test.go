package vision

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"danlu/dtype"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
)

// visionCase is the part of golden.json that tells the kinds of vision models apart.
type visionCase struct {
	ImageTokens int32 `json:"image_token_id"`
	VideoTokens int32 `json:"video_token_id"`
	Vision      *struct {
		TokensPerSecond float64 `json:"tokens_per_second"`
	} `json:"vision_config"`
}

func difference(t *testing.T, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if d != d {
			return d
		}
		worst = max(worst, d)
	}
	return worst
}

func TestGoldenPixels(t *testing.T) {
	images, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "models"), "*", "image.png"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range images {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			img, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			golden, err := safetensors.Open(filepath.Join(dir, "golden.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer golden.Close()
			want, err := golden.Tensor("pixel_values")
			if err != nil {
				t.Fatal(err)
			}
			var got []float32
			if data, err := os.ReadFile(filepath.Join(dir, "preprocessor_config.json")); err == nil {
				p, err := ParseQwenProcessor("preprocessor_config.json", data)
				if err != nil {
					t.Fatal(err)
				}
				patches, err := p.Image(img)
				if err != nil {
					t.Fatal(err)
				}
				got = patches.Values
				checkPositions(t, dir, golden, p, patches.Grid)
				checkVideo(t, dir, p)
			} else {
				data, err := os.ReadFile(filepath.Join(dir, "vit", "preprocessor_config.json"))
				if err != nil {
					t.Fatal(err)
				}
				p, err := ParseClipProcessor("preprocessor_config.json", data, true)
				if err != nil {
					t.Fatal(err)
				}
				got = p.Image(img)
			}
			// One float32 rounding of values up to 3 apart from the reference's order of operations.
			if d := difference(t, got, want.F32()); !(d <= 1e-6) {
				t.Errorf("pixel values differ by %g", d)
			}
		})
	}
	numtest.Count(t, "models (pixels)", len(images))
}

func readCase(t *testing.T, dir string) visionCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c visionCase
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func ints(t *testing.T, f *safetensors.File, name string) []int32 {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil || x.DType != dtype.I64 {
		t.Fatal(name, err)
	}
	out := make([]int32, x.Len())
	for i, v := range x.I64() {
		out[i] = int32(v)
	}
	return out
}

// checkPositions compares the three position rows of a text with one picture or video.
func checkPositions(t *testing.T, dir string, golden *safetensors.File, p *QwenProcessor, g Grid) {
	t.Helper()
	c := readCase(t, dir)
	m := MRoPE{ImageToken: c.ImageTokens, VideoToken: c.VideoTokens, Merge: p.MergeSize, TokensPerSecond: c.Vision.TokensPerSecond}
	media := Media{Grid: g}
	if s, err := golden.Tensor("second_per_grid_ts"); err == nil {
		media.SecondPerGrid = float64(s.F32()[0])
	}
	pos, err := m.Positions(ints(t, golden, "input_ids"), []Media{media})
	if err != nil {
		t.Fatal(err)
	}
	want := ints(t, golden, "position_ids")
	for r := range pos {
		for i, x := range pos[r] {
			if x != want[r*len(pos[r])+i] {
				t.Fatalf("row %d token %d: position %d, want %d", r, i, x, want[r*len(pos[r])+i])
			}
		}
	}
}

func checkVideo(t *testing.T, dir string, p *QwenProcessor) {
	t.Helper()
	path := filepath.Join(dir, "golden_video.safetensors")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return
	}
	golden, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	rgb, err := golden.Tensor("frames_rgb")
	if err != nil {
		t.Fatal(err)
	}
	n, h, w := rgb.Shape[0], rgb.Shape[1], rgb.Shape[2]
	var frames []*RGB
	for i := range n {
		frames = append(frames, &RGB{Width: w, Height: h, Pix: rgb.Data[i*3*w*h : (i+1)*3*w*h]})
	}
	patches, err := p.Video(frames)
	if err != nil {
		t.Fatal(err)
	}
	want, err := golden.Tensor("pixel_values_videos")
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(t, patches.Values, want.F32()); !(d <= 1e-6) {
		t.Errorf("video pixel values differ by %g", d)
	}
	checkPositions(t, dir, golden, p, patches.Grid)
}

func TestSmartResize(t *testing.T) {
	for _, c := range []struct{ h, w, min, max int }{{1, 1, 3136, 12845056}, {4000, 6000, 3136, 12845056}, {100, 19999, 3136, 1 << 20}, {70, 42, 3136, 12845056}} {
		h, w, err := SmartResize(c.h, c.w, 28, c.min, c.max)
		if err != nil {
			t.Fatal(err)
		}
		if h%28 != 0 || w%28 != 0 || h*w > c.max || h < 28 || w < 28 {
			t.Errorf("%v: %d x %d", c, h, w)
		}
	}
	if _, _, err := SmartResize(10, 2011, 28, 3136, 1<<20); err == nil {
		t.Error("an aspect ratio of 201 passes")
	}
}

func TestPositionsRefuse(t *testing.T) {
	m := MRoPE{ImageToken: 9, VideoToken: 8, Merge: 2, TokensPerSecond: 2}
	one := Media{Grid: Grid{1, 4, 4}}
	for _, c := range []struct {
		ids   []int32
		media []Media
	}{{[]int32{1, 9, 9}, []Media{one}}, {[]int32{1, 9, 9, 9, 9}, nil}, {[]int32{1, 2}, []Media{one}}, {[]int32{9, 9, 1, 9, 9}, []Media{one}}} {
		if _, err := m.Positions(c.ids, c.media); err == nil {
			t.Errorf("%v with %d pictures passes", c.ids, len(c.media))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if img, err := Decode(data); err == nil && len(img.Pix) != 3*img.Width*img.Height {
			t.Error("pixels do not fill the picture")
		}
		_, _ = DecodeGIF(data)
	})
}
