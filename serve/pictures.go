package serve

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"image"
	"strings"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/generate"
	"danlu/vision"
)

// Limits of pictures, which come from strangers.
const (
	maxPictures = 16      // of a request
	maxPixels   = 1 << 24 // of a picture
	keptSeen    = 16      // pictures whose features are held, so that the next turn of a conversation need not look again
)

// decoding bounds how many pictures are unpacked at a time.
var decoding = make(chan struct{}, 2)

// album gathers the pictures of a conversation, in order.
type album struct{ data [][]byte }

// part reads a part of a message's content that is a picture, and returns what stands in its place.
func (a *album) part(d *jinja.Dict) (*jinja.Dict, error) {
	inner, _ := d.Get("image_url")
	url, ok := inner.(string)
	if o, isObject := inner.(*jinja.Dict); isObject {
		v, _ := o.Get("url")
		url, ok = v.(string)
		if detail, _ := o.Get("detail"); detail != nil && detail != "auto" && detail != "high" {
			return nil, fmt.Errorf("image_url.detail: this server looks at whole pictures, want auto or high, got %s", jinja.Repr(detail))
		}
	}
	if !ok {
		return nil, fmt.Errorf("image_url: want {\"url\": \"data:image/...;base64,...\"}")
	}
	rest, isData := strings.CutPrefix(url, "data:")
	if !isData {
		return nil, fmt.Errorf("image_url: this server loads nothing from other places; send the picture as a data URL in base64")
	}
	head, text, _ := strings.Cut(rest, ",")
	if !strings.HasSuffix(head, ";base64") {
		return nil, fmt.Errorf("image_url: want a data URL in base64, got data:%.40s", head)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("image_url: base64: %w", err)
	}
	c, kind, err := image.DecodeConfig(bytes.NewReader(data))
	switch {
	case err != nil:
		return nil, fmt.Errorf("image_url: %w", err)
	case c.Width < 1 || c.Height < 1 || c.Width > maxPixels/c.Height:
		return nil, fmt.Errorf("image_url: want at most %d pixels, got a %s of %d x %d", maxPixels, kind, c.Width, c.Height)
	case len(a.data) == maxPictures:
		return nil, fmt.Errorf("image_url: want at most %d pictures", maxPictures)
	}
	a.data = append(a.data, data)
	mark := jinja.NewDict()
	mark.SetString("type", "image")
	return mark, nil
}

// parts reads the parts of a message: a text where all are text, else the parts that templates and formats know. A nil
// album takes no pictures.
func (a *album) parts(parts jinja.List) (jinja.Value, error) {
	var text strings.Builder
	out, pictures := jinja.List{}, 0
	for i, x := range parts {
		d, ok := x.(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf(".content[%d]: want an object", i)
		}
		kind, _ := d.Get("type")
		v, _ := d.Get("text")
		s, isText := v.(string)
		switch {
		case kind == "text" && isText:
			text.WriteString(s)
			p := jinja.NewDict()
			p.SetString("type", "text")
			p.SetString("text", chat.Unmarked(s))
			out = append(out, p)
		case kind == "image_url" && a != nil:
			p, err := a.part(d)
			if err != nil {
				return nil, fmt.Errorf(".content[%d].%w", i, err)
			}
			out, pictures = append(out, p), pictures+1
		case kind == "image_url":
			return nil, fmt.Errorf(".content[%d]: this model reads no pictures", i)
		default:
			return nil, fmt.Errorf(".content[%d]: want a part of type text or image_url, got %s", i, jinja.Repr(kind))
		}
	}
	if pictures == 0 {
		return text.String(), nil
	}
	return out, nil
}

// sight is a model's eyes with what they saw last. They work between the passes of the scheduler.
type sight struct {
	eyes   *generate.Eyes
	recent *list.List // of *glance, the newest in front
}

type glance struct {
	sum  [sha256.Size]byte // of the file
	seen *generate.Seen
}

func newSight(eyes *generate.Eyes) *sight { return &sight{eyes, list.New()} }

// known is what was seen of a file before, nil for nothing.
func (s *sight) known(sum [sha256.Size]byte) *generate.Seen {
	for e := s.recent.Front(); e != nil; e = e.Next() {
		if g := e.Value.(*glance); g.sum == sum {
			s.recent.MoveToFront(e)
			return g.seen
		}
	}
	return nil
}

// look looks at the pictures of an album and lays them out in a prompt.
func (m *Model) look(ctx context.Context, ids []int32, a *album) (laid []int32, pictures *generate.Pictures, err error) {
	var seen []*generate.Seen
	for _, data := range a.data {
		s, err := m.glance(ctx, data)
		if err != nil {
			return nil, nil, err
		}
		seen = append(seen, s)
	}
	return m.sight.eyes.Lay(ids, seen, nil)
}

// glance looks at one picture.
func (m *Model) glance(ctx context.Context, data []byte) (seen *generate.Seen, err error) {
	sum := sha256.Sum256(data)
	if err := m.sched.between(ctx, func() error { seen = m.sight.known(sum); return nil }); err != nil || seen != nil {
		return seen, err
	}
	img, err := unpack(ctx, data)
	if err != nil {
		return nil, err
	}
	err = m.sched.between(ctx, func() error {
		if seen, err = m.sight.eyes.Picture(ctx, img); err != nil {
			return err
		}
		m.sight.recent.PushFront(&glance{sum, seen})
		if m.sight.recent.Len() > keptSeen {
			m.sight.recent.Remove(m.sight.recent.Back())
		}
		return nil
	})
	return seen, err
}

func unpack(ctx context.Context, data []byte) (*vision.RGB, error) {
	select {
	case decoding <- struct{}{}:
		defer func() { <-decoding }()
		return vision.Decode(data)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
