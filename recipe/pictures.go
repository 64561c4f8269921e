package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/data"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/vision"
)

// readsPictures prepares the reading of pictures for a model that sees. Without the settings of its image processor, and
// in packed rows, only text is read.
func (j *job) readsPictures() error {
	viewer, sees := j.source.model.(family.Viewer)
	if !sees {
		return nil
	}
	holds, err := j.holdsMedia()
	if err != nil {
		return err
	}
	p, err := viewer.Processor(j.source.path)
	switch {
	case holds && err != nil:
		return j.Errorf("model_name_or_path", "%v", err)
	case holds && j.Packed():
		return j.Errorf("packing", "does not go with pictures")
	case err != nil || j.Packed():
		return nil
	}
	m := &j.Model
	j.pictures = &data.Pictures{Viewer: viewer, Processor: p, Picture: data.Bounds{Min: m.ImageMinPixels, Max: m.ImageMaxPixels}, Frame: data.Bounds{Min: m.VideoMinPixels, Max: m.VideoMaxPixels},
		VideoSampling: vision.VideoOptions{FPS: m.VideoFPS, Frames: m.VideoMaxLen}}
	return nil
}

// holdsMedia reports whether a dataset of the recipe has columns of pictures or videos.
func (j *job) holdsMedia() (bool, error) {
	for _, validation := range []bool{false, true} {
		attrs, err := j.Datasets(validation)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(attrs, hasMedia) {
			return true, nil
		}
	}
	return false, nil
}

func hasMedia(a *data.Attr) bool { return a.Columns.Images+a.Columns.Videos+a.Columns.Audios != "" }

// checkMedia refuses datasets with pictures where they would not be read.
func (j *job) checkMedia(key string, attrs []*data.Attr) error {
	for _, a := range attrs {
		switch {
		case a.Columns.Audios != "":
			return j.Errorf(key, "%s holds sounds, which are not supported yet; leave their column out to train on the rest", a.Name)
		case !hasMedia(a) || j.pictures != nil:
		case j.Method.Stage != "sft":
			return j.Errorf(key, "%s holds pictures, which only stage: sft reads; leave their columns out to train on the text alone", a.Name)
		default:
			return j.Errorf(key, "%s holds pictures, which %s does not read; leave their columns out to train on the text alone", a.Name, j.source.model.Info().Architecture)
		}
	}
	return nil
}

// freezes reports whether the recipe keeps a part of a model that sees as it is.
func (r *Recipe) freezes(p family.Part) bool {
	switch p {
	case family.TowerPart:
		return r.Method.FreezeVision
	case family.ProjectorPart:
		return r.Method.FreezeMerger
	}
	return r.Method.FreezeLanguage
}

// trainsPart is trainee.trainable by the parts that the recipe freezes; nil for models without such parts.
func (j *job) trainsPart() func(*graph.StateSpec) bool {
	viewer, ok := j.source.model.(family.Viewer)
	if !ok {
		return nil
	}
	return func(s *graph.StateSpec) bool { return !j.freezes(viewer.PartOf(s.PartName(0))) }
}

// seeingTargets are the names of the modules of a model that sees that lora_target means, of parts that are not frozen.
// all leaves the projector out, as LLaMA-Factory does.
func (j *job) seeingTargets(viewer family.Viewer, modules []nn.Module) (names []string, err error) {
	all := slices.Equal(j.Method.LoraTarget, []string{"all"})
	for _, m := range modules {
		for i := range m.Weight.Parts() {
			name := m.Name(i)
			part := viewer.PartOf(name)
			if j.freezes(part) || all && part == family.ProjectorPart {
				continue
			}
			meant := func(target string) bool { return name == target || strings.HasSuffix(name, "."+target) }
			if all && (m.Kind == nn.LinearModule || m.Kind == nn.ExpertModule) || !all && slices.ContainsFunc(j.Method.LoraTarget, meant) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil, j.Errorf("lora_target", "no module of that name in a part that is trained (freeze_vision_tower, freeze_multi_modal_projector, freeze_language_model)")
	}
	return names, nil
}

// copySettings copies the settings of the image processor.
func (j *job) copySettings(dir string) error {
	viewer, ok := j.source.model.(family.Viewer)
	if !ok {
		return nil
	}
	for _, name := range viewer.ProcessorFiles() {
		to := filepath.Join(dir, name)
		if _, err := os.Stat(to); err == nil { // written here
			continue
		}
		content, err := os.ReadFile(filepath.Join(j.source.path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, content, 0o644)
		}
		if err != nil {
			return fmt.Errorf("recipe: %w", err)
		}
	}
	return nil
}
