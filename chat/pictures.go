package chat

import (
	"fmt"
	"strings"

	"danlu/chat/jinja"
)

// Marks of a picture and of a video in a text: noncharacters, which stand in no text that means anything. Texts of
// strangers must not hold them: see Unmarked.
const (
	PictureMark = "\uFDD1"
	VideoMark   = "\uFDD2"
)

// Words that stand for a picture and a video in the texts of datasets and of prompts (LLaMA-Factory's).
const (
	PictureWord = "<image>"
	VideoWord   = "<video>"
)

// Illustrated is a text with marks in the places of the words for pictures and videos. Where it has no such words, the
// marks stand in front of it.
func Illustrated(text string, pictures, videos int) (string, error) {
	text = Unmarked(text)
	front := ""
	for _, k := range []struct {
		word, mark string
		n          int
	}{{PictureWord, PictureMark, pictures}, {VideoWord, VideoMark, videos}} {
		if k.n == 0 {
			continue // without pictures the word is a word
		}
		switch places := strings.Count(text, k.word); places {
		case 0:
			front += strings.Repeat(k.mark, k.n)
		case k.n:
			text = strings.ReplaceAll(text, k.word, k.mark)
		default:
			return "", fmt.Errorf("chat: the text has %d places for %s, %d are given", places, k.word, k.n)
		}
	}
	return front + text, nil
}

// Unmarked is a text without marks.
func Unmarked(text string) string {
	return strings.NewReplacer(PictureMark, "\uFFFD", VideoMark, "\uFFFD").Replace(text)
}

// Content is a marked text as the content of a message: a string, or a list of parts where it has marks.
func Content(marked string) jinja.Value {
	if at, _ := firstOf(marked, pictureMarks); at < 0 {
		return marked
	}
	list := jinja.List{}
	for marked != "" {
		at, mark := firstOf(marked, pictureMarks)
		if at < 0 {
			at = len(marked)
		}
		if at > 0 {
			list = append(list, part("text", "text", marked[:at]))
		}
		switch mark {
		case PictureMark:
			list = append(list, part("image"))
		case VideoMark:
			list = append(list, part("video"))
		}
		marked = marked[at+len(mark):]
	}
	return list
}

var pictureMarks = []string{PictureMark, VideoMark}

func part(kind string, entries ...string) *jinja.Dict {
	d := jinja.NewDict()
	d.SetString("type", kind)
	for i := 0; i < len(entries); i += 2 {
		d.SetString(entries[i], entries[i+1])
	}
	return d
}

// NewQuestion returns a user message of a marked text.
func NewQuestion(marked string) *jinja.Dict {
	m := NewMessage(User, "")
	m.SetString("content", Content(marked))
	return m
}

// partMark is the mark of a part of a message's content that is a picture or video; ok is false for other parts.
func partMark(d *jinja.Dict) (mark string, ok bool) {
	switch entry(d, "type") {
	case "image", "image_url":
		return PictureMark, true
	case "video", "video_url":
		return VideoMark, true
	}
	return "", false
}

// markedText joins the parts of a message's content, with marks for pictures and videos.
func markedText(list jinja.List) (string, error) {
	var b strings.Builder
	for i, p := range list {
		d, ok := p.(*jinja.Dict)
		if !ok {
			return "", fmt.Errorf("content[%d]: want an object", i)
		}
		if mark, ok := partMark(d); ok {
			b.WriteString(mark)
			continue
		}
		if entry(d, "type") != "text" {
			return "", fmt.Errorf("content[%d]: want a part of type text, image_url or video_url, got %q", i, entry(d, "type"))
		}
		b.WriteString(Unmarked(entry(d, "text")))
	}
	return b.String(), nil
}

// sees is how a format writes a picture and a video.
type sees struct {
	picture, video []slot
	// line puts pictures that open a question on a line of their own, where they are parts of a message.
	line bool
}

// onLines gives the pictures in front of a question a line of their own, in formats that write it so.
func (s *sees) onLines(marked string) string {
	if rest := strings.TrimLeft(marked, PictureMark); s != nil && s.line && len(rest) < len(marked) && !strings.HasPrefix(rest, "\n") {
		return marked[:len(marked)-len(rest)] + "\n" + rest
	}
	return marked
}

// check refuses a marked text that the format cannot write.
func (f *Format) checkPictures(marked string) error {
	at, mark := firstOf(marked, pictureMarks)
	if at < 0 || f.spec.sees != nil && f.spec.sees.of(mark) != nil {
		return nil
	}
	what := "pictures"
	if mark == VideoMark {
		what = "videos"
	}
	return fmt.Errorf("chat: template %s has no place for %s", f.spec.name, what)
}

// of are the slots of what a mark stands for.
func (s *sees) of(mark string) []slot {
	if mark == VideoMark {
		return s.video
	}
	return s.picture
}
