package generate

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
	"danlu/vision"
)

// sightedCase is a folder of reference data with a picture.
type sightedCase struct {
	model  family.Model
	viewer family.Viewer
	runner *Runner
	eyes   *Eyes
	prompt []int32 // with one token for the picture
	laid   []int32 // as the reference data write it
	want   []int32 // the greedy continuation
}

// once reduces runs of picture tokens to one.
func once(v family.Viewer, ids []int32) (out []int32) {
	for i, id := range ids {
		if i == 0 || id != ids[i-1] || !family.IsPicture(v, id) {
			out = append(out, id)
		}
	}
	return out
}

func sighted(t *testing.T, dir string, opts Options) *sightedCase {
	t.Helper()
	m, src, _ := goldenModel(t, dir)
	c := &sightedCase{model: m, viewer: m.(family.Viewer), runner: runnerOf(t, m, src, opts)}
	var golden struct {
		Greedy struct {
			Prompt []int32 `json:"prompt_ids"`
			New    []int32 `json:"new_ids"`
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err == nil {
		err = json.Unmarshal(data, &golden)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.laid, c.prompt, c.want = golden.Greedy.Prompt, once(c.viewer, golden.Greedy.Prompt), golden.Greedy.New
	if c.eyes, err = c.runner.Eyes(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.eyes.Close() })
	return c
}

// look looks at a picture, or at the same upside down.
func (c *sightedCase) look(t *testing.T, path string, turned bool) *Seen {
	t.Helper()
	img, err := vision.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if turned {
		down := vision.NewRGB(img.Width, img.Height)
		for i := range down.Pix {
			down.Pix[i] = img.Pix[len(img.Pix)-1-i]
		}
		img = down
	}
	s, err := c.eyes.Picture(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lay lays pictures out in a prompt.
func (c *sightedCase) lay(t *testing.T, prompt []int32, pictures ...*Seen) Request {
	t.Helper()
	ids, p, err := c.eyes.Lay(prompt, pictures, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Prompt: ids, Pictures: p, MaxNew: len(c.want)}
}

// answer generates on an empty sequence.
func (c *sightedCase) answer(t *testing.T, req Request) []int32 {
	t.Helper()
	seq, err := c.runner.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.runner.Close(seq)
	res, err := c.runner.Generate(context.Background(), seq, req)
	if err != nil {
		t.Fatal(err)
	}
	return idsOf(res)
}

func idsOf(res Result) (ids []int32) {
	for _, x := range res.Tokens {
		ids = append(ids, x.ID)
	}
	return ids
}

// From a picture file to the greedy continuation, and several pictures in batches and continued sequences.
func TestGoldenPictures(t *testing.T) {
	images, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "models"), "*", "image.png"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range images {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			c := sighted(t, filepath.Dir(path), Options{Context: 160, Sequences: 2, PageLen: 8, Store: dtype.F32, Chunk: 7})
			one, other := c.look(t, path, false), c.look(t, path, true)
			req := c.lay(t, c.prompt, one)
			if n := len(once(c.viewer, c.laid)); n != len(c.laid) && !slices.Equal(req.Prompt, c.laid) {
				t.Errorf("the prompt is laid out as %v, want %v", req.Prompt, c.laid)
			}
			if got := c.answer(t, req); !slices.Equal(got, c.want) {
				t.Errorf("greedy %v, want %v", got, c.want)
			}
			c.severalPictures(t, one, other)
			c.continued(t, one, other)
			c.video(t, filepath.Dir(path))
		})
	}
	numtest.Count(t, "models (pictures)", len(images))
}

// severalPictures holds a batch of texts with one picture, another, and both to what each gets alone.
func (c *sightedCase) severalPictures(t *testing.T, one, other *Seen) {
	t.Helper()
	twice := append(slices.Clone(c.prompt), c.prompt...)
	requests := []Request{c.lay(t, c.prompt, one), c.lay(t, c.prompt, other), c.lay(t, twice, one, other), c.lay(t, twice, other, one), {Prompt: []int32{4, 5, 6}, MaxNew: 6}}
	answers, err := c.runner.Batch(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, req := range requests {
		if want := c.answer(t, req); !slices.Equal(answers[i].IDs, want) {
			t.Errorf("request %d: in a batch %v, alone %v", i, answers[i].IDs, want)
		}
	}
	if slices.Equal(answers[0].IDs, answers[1].IDs) || slices.Equal(answers[2].IDs, answers[3].IDs) {
		t.Error("another picture changes nothing")
	}
}

// continued goes on with a text in the cache, of which another picture leaves only what stands before it.
func (c *sightedCase) continued(t *testing.T, one, other *Seen) {
	t.Helper()
	seq, err := c.runner.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.runner.Close(seq)
	twice := append(slices.Clone(c.prompt), c.prompt...)
	first := slices.IndexFunc(c.prompt, func(id int32) bool { return family.IsPicture(c.viewer, id) })
	laid := len(c.lay(t, c.prompt, one).Prompt)
	for i, x := range []struct {
		req  Request
		kept int
	}{{c.lay(t, c.prompt, one), 0}, {c.lay(t, twice, one, one), laid}, {c.lay(t, twice, one, other), laid + first}, {c.lay(t, twice, other, other), first}} {
		rest := c.runner.Resume(seq, x.req.Prompt, x.req.Pictures)
		if kept := len(x.req.Prompt) - len(rest); kept != x.kept {
			t.Errorf("text %d: %d tokens were kept, want %d", i, kept, x.kept)
		}
		res, err := c.runner.Generate(context.Background(), seq, Request{Prompt: rest, Pictures: x.req.Pictures, MaxNew: x.req.MaxNew})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := idsOf(res), c.answer(t, x.req); !slices.Equal(got, want) {
			t.Errorf("text %d: continued %v, afresh %v", i, got, want)
		}
		c.runner.Truncate(seq, len(x.req.Prompt))
	}
}

// video holds the logits of a text with a video against the reference data, where there are any.
func (c *sightedCase) video(t *testing.T, dir string) {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, "golden_video.safetensors"))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rgb, err := f.Tensor("frames_rgb")
	if err != nil {
		t.Fatal(err)
	}
	pixels, shape := rgb.Data, rgb.Shape
	v := &vision.Video{}
	for frame := range slices.Chunk(pixels, len(pixels)/shape[0]) {
		v.Frames = append(v.Frames, &vision.RGB{Width: shape[2], Height: shape[1], Pix: frame})
	}
	seconds, err := f.Tensor("second_per_grid_ts")
	if err != nil {
		t.Fatal(err)
	}
	v.FPS = float64(c.eyes.processor.FramesPerGrid()) / float64(seconds.F32()[0])
	seen, err := c.eyes.Video(context.Background(), v)
	if err != nil {
		t.Fatal(err)
	}
	want, err := f.Tensor("logits")
	if err != nil {
		t.Fatal(err)
	}
	input, err := f.Tensor("input_ids")
	if err != nil {
		t.Fatal(err)
	}
	var text []int32
	for _, id := range input.I64() {
		text = append(text, int32(id))
	}
	ids, pictures, err := c.eyes.Lay(once(c.viewer, text), nil, []*Seen{seen})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ids, text) {
		t.Errorf("the video is laid out as %v, want %v", ids, text)
	}
	seq, err := c.runner.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.runner.Close(seq)
	seq.Pictures = pictures
	vocab, worst, largest := want.Shape[2], 0.0, 0.0
	for at := 0; at < len(ids); {
		w := c.runner.Next(seq, ids, c.runner.Chunk())
		w.Logits = len(w.IDs)
		rows, err := c.runner.Run(context.Background(), []Work{w})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for i, x := range row {
				y := float64(want.F32()[at*vocab+i])
				worst, largest = max(worst, math.Abs(float64(x)-y)), max(largest, math.Abs(y))
			}
			at++
		}
	}
	if !(worst <= 2e-4*largest) {
		t.Errorf("logits of the video differ by %g of %g", worst, largest)
	}
}
