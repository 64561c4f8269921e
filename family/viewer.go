package family

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
	"danlu/vision"
)

// Viewer is implemented by families that read pictures. In a text as it is written one token, the placeholder, stands for
// each picture or video; in an expanded text as many as it has features.
type Viewer interface {
	// Features builds the vision tower on the build's Images: [N, D], a row for each token that stands for a part of a
	// picture.
	Features(b *nn.Build) *graph.Value
	// PatchShape is the number of pixel values of a patch, and of patches that are merged into one feature.
	PatchShape() (values, merged int)
	// Processor reads the settings of the image processor in a model folder.
	Processor(dir string) (Processor, error)
	// Placeholders are the tokens that stand for a picture and for a video; -1: the family reads no videos.
	Placeholders() (picture, video int32)
	// PicturePositions numbers the tokens of an expanded text, as Layouter numbers those of a text alone.
	PicturePositions(ids []int32, media []vision.Media) ([][]int32, error)
	// PartOf says which part of the model a parameter belongs to.
	PartOf(name string) Part
	// ProcessorFiles are the files that a model folder needs for pictures, beside config.json; some may not be there.
	ProcessorFiles() []string
	// TowerInputs are the tower's inputs by the names of nn.ImageInputs, without the rows. pixels are the values of all
	// media as the processor gives them.
	TowerInputs(media []vision.Media, pixels []float32) (map[string]*tensor.Tensor, error)
}

// Part is a part of a model that reads pictures.
type Part int

// The parts: the vision tower, the projector (Qwen calls it the merger) that makes its patches tokens, the rest.
const (
	TowerPart Part = iota
	ProjectorPart
	LanguagePart
)

// partOf goes by the beginnings of names.
func partOf(name, tower, projector string) Part {
	switch {
	case strings.HasPrefix(name, projector):
		return ProjectorPart
	case strings.HasPrefix(name, tower):
		return TowerPart
	}
	return LanguagePart
}

// Processor makes of pictures what a vision tower takes.
type Processor interface {
	// Grid is the grid of a picture of this size (frames 0), or of a video of so many frames.
	Grid(width, height, frames int) (vision.Grid, error)
	Image(img *vision.RGB) (*vision.Patches, error)
	Video(frames []*vision.RGB) (*vision.Patches, error)
	// FramesPerGrid is the number of frames that one grid of a video covers.
	FramesPerGrid() int
}

// IsPicture reports whether a token stands for a picture or video, or a part of one.
func IsPicture(v Viewer, id int32) bool {
	picture, video := v.Placeholders()
	return id == picture || id == video && video != -1
}

// FeatureCount is the number of features of pictures.
func FeatureCount(v Viewer, media ...vision.Media) int {
	_, merged := v.PatchShape()
	n := 0
	for _, m := range media {
		n += m.Grid.T * m.Grid.H * m.Grid.W / merged
	}
	return n
}

// Expand repeats each placeholder of a text as often as its picture or video has features.
func Expand(v Viewer, ids []int32, media []vision.Media) ([]int32, error) {
	_, video := v.Placeholders()
	var text []int32
	used := 0
	for _, id := range ids {
		if !IsPicture(v, id) {
			text = append(text, id)
			continue
		}
		if used == len(media) {
			return nil, fmt.Errorf("family: the text has more pictures than the %d given", len(media))
		}
		if moves := media[used].SecondPerGrid > 0; moves != (id == video) {
			return nil, fmt.Errorf("family: picture %d: the text and what is given differ in whether it is a video", used+1)
		}
		for range FeatureCount(v, media[used]) {
			text = append(text, id)
		}
		used++
	}
	if used != len(media) {
		return nil, fmt.Errorf("family: %d pictures are given, the text has %d", len(media), used)
	}
	return text, nil
}

// ImageInputs are the inputs of a graph that reads a batch with pictures, by the names of nn.ImageInputs: ids [B·T] of an
// expanded text, media in the order of their tokens, pixels of all of them.
func ImageInputs(v Viewer, ids []int32, media []vision.Media, pixels []float32) (map[string]*tensor.Tensor, error) {
	in, err := v.TowerInputs(media, pixels)
	if err != nil {
		return nil, err
	}
	var rows []int32
	for i, id := range ids {
		if IsPicture(v, id) {
			rows = append(rows, int32(i))
		}
	}
	if n := FeatureCount(v, media...); len(rows) != n {
		return nil, fmt.Errorf("family: %d picture tokens for %d features", len(rows), n)
	}
	in = maps.Clone(in)
	in["image_rows"] = tensor.FromI32(rows, len(rows))
	return in, nil
}

// WithoutPictures is the text as the embedding takes it: 0 in the places of tokens that are no rows of the table.
func WithoutPictures(ids []int32) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = max(id, 0)
	}
	return out
}

// processorConfig reads a processor's config of a model folder, nil where there is none.
func processorConfig(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return readConfig(path)
}
