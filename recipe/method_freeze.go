package recipe

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"danlu/graph"
	"danlu/nn"
	"danlu/tokenizer"
)

func init() { methods["freeze"] = freeze }

// freeze trains part of the layers: the last freeze_trainable_layers of them, or with a negative number the first, of
// each the modules in freeze_trainable_modules, and beside the layers those in freeze_extra_modules. The layers are cut
// there, so that what is not trained has neither gradients nor moments.
func freeze(j *job, t *tokenizer.Tokenizer) (*trainee, error) {
	layers, n := j.source.model.Info().NumLayers, j.Method.FreezeLayers
	from, to := max(0, layers-n), layers
	if n < 0 {
		from, to = 0, min(-n, layers)
	}
	m, err := j.newTrainee(t, func(b *nn.Build) { b.Cuts = append(b.Cuts, from, to) })
	if err != nil {
		return nil, err
	}
	if err := j.checkModules(m.specs); err != nil {
		return nil, err
	}
	part := j.trainsPart()
	m.trainable = func(s *graph.StateSpec) bool {
		return j.thaws(s.PartName(0), from, to) && (part == nil || part(s))
	}
	return m, nil
}

// layerName takes the name of a tensor of a layer apart: what stands before the layer's number, the number, its module.
var layerName = regexp.MustCompile(`^(.*?)\.(\d+)\.([^.]+)(\.|$)`)

// thaws reports whether a tensor is trained.
func (j *job) thaws(name string, from, to int) bool {
	layer := layerName.FindStringSubmatch(name)
	if layer == nil {
		return slices.Contains(j.Method.FreezeExtra, moduleOf(name))
	}
	number := 0
	for _, digit := range layer[2] {
		number = 10*number + int(digit-'0')
	}
	return number >= from && number < to && (slices.Contains(j.Method.FreezeModules, "all") || slices.Contains(j.Method.FreezeModules, layer[3]))
}

// moduleOf is the module of a tensor outside the layers: the word before its kind.
func moduleOf(name string) string {
	parts := strings.Split(name, ".")
	return parts[max(0, len(parts)-2)]
}

// checkModules refuses names of modules that the model does not have.
func (j *job) checkModules(specs []*graph.StateSpec) error {
	inside, outside := map[string]bool{"all": true}, map[string]bool{}
	for _, s := range specs {
		if l := layerName.FindStringSubmatch(s.PartName(0)); l != nil {
			inside[l[3]] = true
		} else {
			outside[moduleOf(s.PartName(0))] = true
		}
	}
	for _, k := range []struct {
		key   string
		names []string
		have  map[string]bool
	}{{"freeze_trainable_modules", j.Method.FreezeModules, inside}, {"freeze_extra_modules", j.Method.FreezeExtra, outside}} {
		for _, name := range k.names {
			if !k.have[name] {
				return j.Errorf(k.key, "%s: no such module; there are %s", name, strings.Join(slices.Sorted(maps.Keys(k.have)), ", "))
			}
		}
	}
	return nil
}
