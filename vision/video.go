package vision

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Video is a video as the frames that are looked at, of one size and evenly spaced.
type Video struct {
	Frames []*RGB
	FPS    float64 // frames of a second
}

// VideoOptions says which frames of a video are looked at. Zero values stand for the defaults in brackets, which are
// LLaMA-Factory's.
type VideoOptions struct {
	FPS    float64 // frames of a second [2]
	Frames int     // at most [128]: longer videos are sampled more sparsely
}

func (o *VideoOptions) defaults() {
	if o.FPS <= 0 {
		o.FPS = 2
	}
	if o.Frames <= 0 {
		o.Frames = 128
	}
}

// LoadVideo reads a video: a folder of pictures, which are its frames at opts.FPS in the order of their names; a GIF; or
// any other file through ffmpeg where that is on the PATH.
func LoadVideo(ctx context.Context, path string, opts VideoOptions) (*Video, error) {
	opts.defaults()
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("vision: %w", err)
	}
	if err := checkSound(path); err != nil {
		return nil, err
	}
	f := &frames{most: opts.Frames, fps: opts.FPS}
	switch {
	case st.IsDir():
		err = f.folder(path)
	case strings.EqualFold(filepath.Ext(path), ".gif"):
		err = f.gif(path)
	default:
		err = f.ffmpeg(ctx, path)
	}
	if err == nil && len(f.kept) == 0 {
		err = errors.New("holds no frames")
	}
	if err != nil {
		return nil, fmt.Errorf("vision: %s: %w", path, err)
	}
	return f.video(), nil
}

// checkSound refuses sound files by name.
func checkSound(path string) error {
	if slices.Contains([]string{".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac"}, strings.ToLower(filepath.Ext(path))) {
		return fmt.Errorf("vision: %s: sound is not supported yet; pictures and videos are", path)
	}
	return nil
}

// frames gathers a video of unknown length in bounded memory: when it holds twice as many as wanted, it drops every second
// one and takes every second one of those that come.
type frames struct {
	most   int
	fps    float64
	kept   []*RGB
	stride int // of the kept ones among those that came
	came   int
}

func (f *frames) add(img *RGB) error {
	f.stride = max(1, f.stride)
	if f.came++; (f.came-1)%f.stride != 0 {
		return nil
	}
	if first := f.kept; len(first) > 0 && (first[0].Width != img.Width || first[0].Height != img.Height) {
		return fmt.Errorf("frame %d is %d x %d, the first one %d x %d", f.came, img.Width, img.Height, first[0].Width, first[0].Height)
	}
	if f.kept = append(f.kept, img); len(f.kept) < 2*f.most {
		return nil
	}
	for i := range f.most {
		f.kept[i] = f.kept[2*i]
	}
	clear(f.kept[f.most:])
	f.kept, f.stride = f.kept[:f.most], 2*f.stride
	return nil
}

// video picks evenly where there are more frames than wanted, the first and the last among them.
func (f *frames) video() *Video {
	n := len(f.kept)
	v := &Video{Frames: f.kept, FPS: f.fps / float64(f.stride)}
	if n <= f.most {
		return v
	}
	v.Frames, v.FPS = nil, v.FPS*float64(f.most)/float64(n)
	for i := range f.most {
		v.Frames = append(v.Frames, f.kept[i*(n-1)/max(1, f.most-1)])
	}
	return v
}

// folder takes the pictures of a folder.
func (f *frames) folder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		img, err := Load(filepath.Join(dir, e.Name()))
		if err == nil {
			err = f.add(img)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gif takes the frames that an animation shows at the sampled times.
func (f *frames) gif(path string) error {
	data, err := readBounded(path)
	if err != nil {
		return err
	}
	shown, delays, err := decodeGIF(data)
	if err != nil {
		return err
	}
	const usual = 10 // hundredths of a second that viewers take where a file names no delay
	end := 0.0
	for i, img := range shown {
		delay := delays[i]
		if delay <= 1 {
			delay = usual
		}
		end += float64(delay) / 100
		// A frame is taken for each sampled time at which it is shown.
		for float64(f.came)/f.fps < end {
			if err := f.add(img); err != nil {
				return err
			}
		}
	}
	return nil
}

// ffmpeg takes what that program decodes.
func (f *frames) ffmpeg(ctx context.Context, path string) error {
	name, err := exec.LookPath("ffmpeg")
	if err != nil {
		return errors.New("videos other than GIFs are read by ffmpeg, which is not on the PATH; install it, or give a folder of frames")
	}
	whole, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A list of streams must not make it read from elsewhere.
	cmd := exec.CommandContext(ctx, name, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i", "file:"+whole,
		"-vf", fmt.Sprintf("fps=%g", f.fps), "-f", "image2pipe", "-c:v", "ppm", "pipe:1")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = f.stream(bufio.NewReaderSize(out, 1<<20))
	if err != nil {
		cancel()
	}
	if failed := cmd.Wait(); failed != nil && err == nil {
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("ffmpeg: %w: %.200s", failed, line)
	}
	return err
}

// stream reads PPM pictures (P6, 8 bits) until there are no more.
func (f *frames) stream(r *bufio.Reader) error {
	for {
		if _, err := r.Peek(1); err == io.EOF {
			return nil
		}
		var w, h, most int
		if _, err := fmt.Fscanf(r, "P6\n%d %d\n%d\n", &w, &h, &most); err != nil {
			return fmt.Errorf("ffmpeg: frame %d: %w", f.came+1, err)
		}
		if w < 1 || h < 1 || w > maxPixels/h || most != 255 {
			return fmt.Errorf("ffmpeg: frame %d: %d x %d of %d levels", f.came+1, w, h, most+1)
		}
		img := NewRGB(w, h)
		if _, err := io.ReadFull(r, img.Pix); err != nil {
			return fmt.Errorf("ffmpeg: frame %d: %w", f.came+1, err)
		}
		if err := f.add(img); err != nil {
			return err
		}
	}
}
