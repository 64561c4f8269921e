package vision

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// shade is a small picture of one grey.
func shade(level int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, 4, 3))
	for i := range img.Pix {
		img.Pix[i] = uint8(level)
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	return img
}

// shades are the greys of a video's frames.
func shades(v *Video) (list []int) {
	for _, f := range v.Frames {
		list = append(list, int(f.Pix[0]))
	}
	return list
}

func counting(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

func load(t *testing.T, path string, opts VideoOptions) *Video {
	t.Helper()
	v, err := LoadVideo(context.Background(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantShades(t *testing.T, what string, v *Video, fps float64, want []int) {
	t.Helper()
	if got := shades(v); fmt.Sprint(got) != fmt.Sprint(want) || v.FPS != fps {
		t.Errorf("%s: frames %v at %g a second, want %v at %g", what, got, v.FPS, want, fps)
	}
}

func writeFrames(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		var b bytes.Buffer
		if err := png.Encode(&b, shade(i)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.png", i)), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVideoFolder(t *testing.T) {
	dir := writeFrames(t, 16)
	wantShades(t, "16 frames", load(t, dir, VideoOptions{}), 2, counting(16))
	wantShades(t, "16 frames at most 12", load(t, dir, VideoOptions{Frames: 12}), 1.5, []int{0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 15})
	wantShades(t, "16 frames at most 5", load(t, dir, VideoOptions{Frames: 5}), 0.625, []int{0, 2, 6, 10, 14})
	if _, err := LoadVideo(context.Background(), t.TempDir(), VideoOptions{}); err == nil {
		t.Error("a folder without frames passes")
	}
}

// A frame of a GIF lasts as long as it says; at two frames a second that decides how often it is seen.
func TestVideoGIF(t *testing.T) {
	g := &gif.GIF{}
	palette := color.Palette{color.Gray{0}, color.Gray{1}, color.Gray{2}, color.Gray{3}}
	for i, delay := range []int{100, 50, 10, 40} { // hundredths of a second
		p := image.NewPaletted(image.Rect(0, 0, 4, 3), palette)
		for k := range p.Pix {
			p.Pix[k] = uint8(i)
		}
		g.Image, g.Delay = append(g.Image, p), append(g.Delay, delay)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.gif")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	wantShades(t, "gif", load(t, path, VideoOptions{}), 2, []int{0, 0, 1, 2})
}

// Other files go through the ffmpeg that is on the PATH.
func TestVideoFFmpeg(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for ffmpeg is a shell script")
	}
	dir := t.TempDir()
	var ppm bytes.Buffer
	for i := range 7 {
		fmt.Fprintf(&ppm, "P6\n4 3\n255\n%s", strings.Repeat(string(rune(i+1)), 36))
	}
	script := "#!/bin/sh\nfor a; do last=$a; done\ncat " + filepath.Join(dir, "frames") + "\ncase \"$*\" in *broken*) echo no stream >&2; exit 1;; esac\n"
	for name, data := range map[string]string{"frames": ppm.String(), "ffmpeg": script, "a.mp4": "x", "broken.mp4": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", "")
	if _, err := LoadVideo(context.Background(), filepath.Join(dir, "a.mp4"), VideoOptions{}); err == nil || !strings.Contains(err.Error(), "ffmpeg") {
		t.Errorf("without ffmpeg: %v", err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	wantShades(t, "ffmpeg", load(t, filepath.Join(dir, "a.mp4"), VideoOptions{}), 2, []int{1, 2, 3, 4, 5, 6, 7})
	if _, err := LoadVideo(context.Background(), filepath.Join(dir, "broken.mp4"), VideoOptions{}); err == nil || !strings.Contains(err.Error(), "no stream") {
		t.Errorf("a file that ffmpeg refuses: %v", err)
	}
	if _, err := LoadVideo(context.Background(), filepath.Join(dir, "ffmpeg", "x.wav"), VideoOptions{}); err == nil {
		t.Error("a missing file passes")
	}
}

func TestSoundIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.wav")
	if err := os.WriteFile(path, []byte("RIFF"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{second(Load(path)), second(LoadVideo(context.Background(), path, VideoOptions{}))} {
		if err == nil || !strings.Contains(err.Error(), "sound is not supported yet") {
			t.Errorf("got %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
