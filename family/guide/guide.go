// Package guide is what is known of the published models: when they came out, on what they were trained, how they are
// built, what they are good for and under which licence, each with its source. It answers `danlu models`.
package guide

import (
	"bytes"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"danlu/family"
)

//go:embed models.yaml
var modelsFile []byte

// Text is one sentence in English and Chinese.
type Text [2]string

// In chooses the language.
func (t Text) In(chinese bool) string {
	if chinese {
		return t[1]
	}
	return t[0]
}

// Size is one size of a version: a preset, whose parameters can be counted, or a name alone.
type Size struct {
	Preset string `yaml:"preset" json:"preset,omitempty"`
	Name   string `yaml:"name" json:"name"`
	Total  int64  `yaml:"-" json:"params_total,omitempty"`
	Active int64  `yaml:"-" json:"params_active,omitempty"` // those that one token uses
}

// Licence says under which terms the weights are published.
type Licence struct {
	Name       string `yaml:"name" json:"name"`
	Commercial string `yaml:"commercial" json:"commercial"` // yes, no or conditional
	Note       Text   `yaml:"note" json:"note"`
}

// Dispute is a fact that is quoted in more than one way, each with where.
type Dispute struct {
	What   Text     `yaml:"what" json:"what"`
	Values []string `yaml:"values" json:"values"`
}

// Version is one published version of a family.
type Version struct {
	ID         string    `yaml:"id" json:"id"`
	Name       string    `yaml:"name" json:"name"`
	Family     string    `yaml:"family" json:"family"`
	Released   string    `yaml:"released" json:"released"` // YYYY-MM
	Sizes      []Size    `yaml:"sizes" json:"sizes"`
	Tokens     string    `yaml:"tokens" json:"training_tokens"`
	Context    string    `yaml:"context" json:"context"`
	Tokenizer  string    `yaml:"tokenizer" json:"tokenizer"`
	Vocab      int       `yaml:"vocab" json:"vocab"`
	Norm       string    `yaml:"norm" json:"norm"`
	Activation string    `yaml:"activation" json:"activation"`
	Positions  string    `yaml:"positions" json:"positions"`
	Attention  string    `yaml:"attention" json:"attention"`
	Objective  string    `yaml:"objective" json:"objective"`
	Strengths  Text      `yaml:"strengths" json:"strengths"`
	Limits     Text      `yaml:"limits" json:"limits"`
	Licence    Licence   `yaml:"licence" json:"licence"`
	Sources    []string  `yaml:"sources" json:"sources"`
	Disputes   []Dispute `yaml:"disputes" json:"disputes,omitempty"`
}

var load = sync.OnceValues(func() ([]*Version, error) {
	dec, err := yaml.NewLoader(bytes.NewReader(modelsFile), yaml.WithKnownFields(true))
	if err != nil {
		return nil, err
	}
	var all []*Version
	if err := dec.Load(&all); err != nil {
		return nil, err
	}
	for _, v := range all {
		if err := v.complete(); err != nil {
			return nil, fmt.Errorf("guide: %s: %w", v.ID, err)
		}
	}
	return all, nil
})

// All lists the versions by family and release.
func All() ([]*Version, error) { return load() }

// complete counts parameters and checks that nothing is left out.
func (v *Version) complete() error {
	for i := range v.Sizes {
		s := &v.Sizes[i]
		if s.Preset == "" {
			continue
		}
		m, _, err := family.Preset(s.Preset)
		if err != nil {
			return err
		}
		f, err := family.Count(m)
		if err != nil {
			return err
		}
		s.Total, s.Active = f.ParamsTotal, f.ParamsActive
		if s.Name == "" {
			s.Name = short(s.Total)
			if s.Active*2 < s.Total { // a mixture of experts
				s.Name += " (" + short(s.Active) + ")"
			}
		}
	}
	if !slices.Contains([]string{"yes", "no", "conditional"}, v.Licence.Commercial) {
		return fmt.Errorf("licence: commercial: want yes, no or conditional, got %q", v.Licence.Commercial)
	}
	if !regexp.MustCompile(`^20\d\d-(0[1-9]|1[0-2])$`).MatchString(v.Released) {
		return fmt.Errorf("released: want YYYY-MM, got %q", v.Released)
	}
	if len(v.Sizes) == 0 || len(v.Sources) == 0 {
		return fmt.Errorf("sizes or sources are missing")
	}
	return nil
}

// short writes a number of parameters as people say it: 6.7B, 494M.
func short(n int64) string {
	if n >= 999_500_000 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e9), ".0") + "B"
	}
	return fmt.Sprintf("%.0fM", float64(n)/1e6)
}

// Find looks a version up by its id, its name or one of its presets, in any case.
func Find(name string) (*Version, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	key := func(s string) string { return strings.NewReplacer(" ", "", "_", "-").Replace(strings.ToLower(s)) }
	want := key(name)
	for _, v := range all {
		if key(v.ID) == want || key(v.Name) == want || slices.ContainsFunc(v.Sizes, func(s Size) bool { return s.Preset != "" && s.Preset == want }) {
			return v, nil
		}
	}
	var ids []string
	for _, v := range all {
		ids = append(ids, v.ID)
	}
	return nil, fmt.Errorf("guide: %q is not in the guide; it has %s", name, strings.Join(ids, ", "))
}
