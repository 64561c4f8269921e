package data

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"

	"danlu/chat"
	"danlu/family"
	"danlu/vision"
)

// Bounds are the fewest and the most pixels of a picture.
type Bounds struct{ Min, Max int }

// Pictures lay the pictures and videos of conversations out in their ids, and read them for batches, as LLaMA-Factory
// does: each is scaled into the bounds before the model's own processor sees it.
type Pictures struct {
	Viewer        family.Viewer
	Processor     family.Processor
	Picture       Bounds // image_min_pixels, image_max_pixels
	Frame         Bounds // video_min_pixels, video_max_pixels
	VideoSampling vision.VideoOptions
}

// fit is the size of a picture inside the bounds.
func (b Bounds) fit(width, height int) (w, h int) {
	scale := func(to int) {
		f := math.Sqrt(float64(to) / float64(width*height))
		width, height = max(1, int(float64(width)*f)), max(1, int(float64(height)*f))
	}
	if b.Max > 0 && width*height > b.Max {
		scale(b.Max)
	}
	if width*height < b.Min {
		scale(b.Min)
	}
	return width, height
}

// marked are turns with marks in the places of an example's pictures and videos. Text without any keeps the words.
func marked(ex *Example, turns []Turn) []Turn {
	out := make([]Turn, len(turns))
	for i, t := range turns {
		t.Content = chat.Unmarked(t.Content)
		if len(ex.Images) > 0 {
			t.Content = strings.ReplaceAll(t.Content, chat.PictureWord, chat.PictureMark)
		}
		if len(ex.Videos) > 0 {
			t.Content = strings.ReplaceAll(t.Content, chat.VideoWord, chat.VideoMark)
		}
		out[i] = t
	}
	return out
}

// media are the grids of files.
func (p *Pictures) media(images, videos []string) (m filed, err error) {
	for _, path := range images {
		w, h, err := vision.Size(path)
		if err != nil {
			return m, err
		}
		w, h = p.Picture.fit(w, h)
		g, err := p.Processor.Grid(w, h, 0)
		if err != nil {
			return m, fmt.Errorf("%s: %w", path, err)
		}
		m.pictures = append(m.pictures, vision.Media{Grid: g})
	}
	for _, path := range videos {
		v, err := vision.LoadVideo(context.Background(), path, p.VideoSampling)
		if err != nil {
			return m, err
		}
		w, h := p.Frame.fit(v.Frames[0].Width, v.Frames[0].Height)
		g, err := p.Processor.Grid(w, h, len(v.Frames))
		if err != nil {
			return m, fmt.Errorf("%s: %w", path, err)
		}
		m.videos = append(m.videos, p.film(g, v))
	}
	return m, nil
}

func (p *Pictures) film(g vision.Grid, v *vision.Video) vision.Media {
	return vision.Media{Grid: g, SecondPerGrid: float64(p.Processor.FramesPerGrid()) / v.FPS}
}

// filed are pictures and videos in the order of an example's lists, to be taken in the order of a text.
type filed struct{ pictures, videos []vision.Media }

// take takes the next one for a token; ok is false for tokens that stand for none, and where there is none left.
func (m *filed) take(v family.Viewer, id int32) (x vision.Media, ok bool) {
	from := &m.pictures
	if picture, _ := v.Placeholders(); id != picture {
		from = &m.videos
	}
	if !family.IsPicture(v, id) || len(*from) == 0 {
		return x, false
	}
	x, *from = (*from)[0], (*from)[1:]
	return x, true
}

// expand gives each picture in the pairs of an example its tokens.
func (p *Pictures) expand(ex *Example, pairs []Pair) ([]Pair, error) {
	left, err := p.media(ex.Images, ex.Videos)
	if err != nil {
		return nil, err
	}
	for i := range pairs {
		for _, ids := range []*[]int32{&pairs[i].Source, &pairs[i].Target} {
			var here []vision.Media
			for _, id := range *ids {
				if x, ok := left.take(p.Viewer, id); ok {
					here = append(here, x)
				}
			}
			if *ids, err = family.Expand(p.Viewer, *ids, here); err != nil {
				return nil, err
			}
		}
	}
	if n := len(left.pictures) + len(left.videos); n > 0 {
		return nil, fmt.Errorf("the template writes %d pictures fewer than the example has", n)
	}
	return pairs, nil
}

// count is the number of tokens of pictures in a text.
func (p *Pictures) count(ids []int32) (n int) {
	for _, id := range ids {
		if family.IsPicture(p.Viewer, id) {
			n++
		}
	}
	return n
}

// whole refuses a sequence of which cutoff_len cut a picture.
func (p *Pictures) whole(pairs []Pair, seq Sequence) error {
	n := 0
	for _, x := range pairs {
		n += p.count(x.Source) + p.count(x.Target)
	}
	if got := p.count(seq.IDs); got != n {
		return fmt.Errorf("cutoff_len cuts a picture: %d of its %d tokens are left", got, n)
	}
	return nil
}

// looked are pictures as a tower takes them.
type looked struct {
	media  []vision.Media
	pixels []float32
}

func (l *looked) add(m vision.Media, p *vision.Patches) {
	l.media, l.pixels = append(l.media, m), append(l.pixels, p.Values...)
}

// read reads a sample's pictures and videos in the order of its text.
func (p *Pictures) read(s *Sample, ids []int32, into *looked) (media []vision.Media, err error) {
	first := len(into.media)
	images, videos := s.Images, s.Videos
	picture, _ := p.Viewer.Placeholders()
	for i := 0; i < len(ids); {
		switch {
		case !family.IsPicture(p.Viewer, ids[i]):
			i++
			continue
		case ids[i] == picture && len(images) > 0:
			err, images = p.picture(images[0], into), images[1:]
		case ids[i] != picture && len(videos) > 0:
			err, videos = p.video(videos[0], into), videos[1:]
		default:
			err = fmt.Errorf("the text has more pictures than the sample")
		}
		if err != nil {
			return nil, fmt.Errorf("data: %s:%d: %w", s.File, s.Line, err)
		}
		i += family.FeatureCount(p.Viewer, into.media[len(into.media)-1])
	}
	return into.media[first:], nil
}

func (p *Pictures) picture(path string, into *looked) error {
	img, err := vision.Load(path)
	if err != nil {
		return err
	}
	w, h := p.Picture.fit(img.Width, img.Height)
	patches, err := p.Processor.Image(vision.Resize(img, w, h))
	if err == nil {
		into.add(vision.Media{Grid: patches.Grid}, patches)
	}
	return err
}

func (p *Pictures) video(path string, into *looked) error {
	v, err := vision.LoadVideo(context.Background(), path, p.VideoSampling)
	if err != nil {
		return err
	}
	w, h := p.Frame.fit(v.Frames[0].Width, v.Frames[0].Height)
	for i, f := range v.Frames {
		v.Frames[i] = vision.Resize(f, w, h)
	}
	patches, err := p.Processor.Video(v.Frames)
	if err == nil {
		into.add(p.film(patches.Grid, v), patches)
	}
	return err
}

// fill reads the pictures of a batch's samples, one sample a row, and numbers the tokens of all rows.
func (p *Pictures) fill(x *Batch, samples []*Sample) error {
	var l looked
	var rows [][][]int32 // of each row of the batch
	for i, s := range samples {
		ids := x.IDs[i*x.T : i*x.T+min(len(s.Sequences[0].IDs), x.T)]
		media, err := p.read(s, ids, &l)
		if err != nil {
			return err
		}
		positions, err := p.Viewer.PicturePositions(ids, media)
		if err != nil {
			return fmt.Errorf("data: %s:%d: %w", s.File, s.Line, err)
		}
		rows = append(rows, positions)
	}
	x.P = len(rows[0])
	x.Positions = make([]int32, x.P*x.B*x.T)
	for i, positions := range rows {
		for k, row := range positions {
			copy(x.Positions[(k*x.B+i)*x.T:], row)
		}
	}
	if len(l.media) == 0 {
		return nil
	}
	in, err := family.ImageInputs(p.Viewer, x.IDs, l.media, l.pixels)
	if err != nil {
		return err
	}
	x.Extra, x.IDs = maps.Clone(in), family.WithoutPictures(x.IDs)
	return nil
}
