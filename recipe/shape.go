package recipe

import (
	"encoding/json"
	"fmt"
	"math"

	"danlu/family"
)

// reshape applies the recipe's changes of the model's config: its rotary base, and the stretching of its context to
// cutoff_len (rope_scaling), as LLaMA-Factory computes it.
func (j *job) reshape(s *source) error {
	m := &j.Model
	changes := map[string]any{}
	if m.RopeTheta != nil {
		changes["rope_theta"] = *m.RopeTheta
	}
	if m.RopeScaling != "" {
		context := s.model.Info().MaxPosition
		first, err := firstContext(s.config, context)
		if err != nil {
			return err
		}
		scaling, err := j.ropeScaling(context, first)
		if err != nil {
			return err
		}
		if scaling != nil {
			changes["rope_scaling"] = scaling
			changes["max_position_embeddings"] = int(float64(first) * scaling["factor"].(float64))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	config, err := changedConfig(s.config, changes)
	if err != nil {
		return err
	}
	model, _, err := family.Parse(s.path, config)
	if err != nil {
		return j.Errorf("rope_scaling", "%v", err)
	}
	s.config, s.model = config, model
	return nil
}

// reshaped makes of the recipe's model, opened again, what became of it for the training.
func (j *job) reshaped(s *source) error {
	if err := j.reshape(s); err != nil || j.vocabulary == nil {
		return err
	}
	return j.grow(s)
}

// changedConfig is a config.json with changes; what newer configs write in rope_parameters gives way to them.
func changedConfig(config []byte, changes map[string]any) ([]byte, error) {
	var c map[string]json.RawMessage
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("recipe: config.json: %w", err)
	}
	if raw, ok := c["rope_parameters"]; ok {
		var p struct {
			Theta json.RawMessage `json:"rope_theta"`
		}
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("recipe: config.json: rope_parameters: %w", err)
		}
		if c["rope_theta"] == nil && p.Theta != nil {
			c["rope_theta"] = p.Theta
		}
		if changes["rope_scaling"] == nil {
			c["rope_scaling"] = raw
		}
		delete(c, "rope_parameters")
	}
	for k, v := range changes {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("recipe: config.json: %s: %w", k, err)
		}
		c[k] = raw
	}
	return json.Marshal(c)
}

// firstContext is the context that a model had before it was ever stretched: a second stretching starts from there too.
func firstContext(config []byte, context int) (int, error) {
	type scaling struct {
		Original int     `json:"original_max_position_embeddings"`
		Factor   float64 `json:"factor"`
		Type     string  `json:"rope_type"`
		Old      string  `json:"type"` // its name until transformers 4.43
	}
	var c struct {
		Scaling    scaling `json:"rope_scaling"`
		Parameters scaling `json:"rope_parameters"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return 0, fmt.Errorf("recipe: config.json: %w", err)
	}
	for _, was := range []scaling{c.Scaling, c.Parameters} {
		switch {
		case was.Original > 0 && was.Original < context:
			return was.Original, nil
		case (was.Type == "linear" || was.Old == "linear") && was.Factor > 1: // which names no context
			return int(float64(context) / was.Factor), nil
		}
	}
	return context, nil
}

// ropeScaling is the config's entry that stretches a context of the given tokens, which were first so many, to
// cutoff_len; nil when it is long enough.
func (j *job) ropeScaling(context, first int) (map[string]any, error) {
	if context <= 0 {
		return nil, j.Errorf("rope_scaling", "the model's config names no context (max_position_embeddings) to stretch")
	}
	factor := math.Ceil(float64(j.Data.CutoffLen) / float64(first))
	enough := j.Data.CutoffLen <= context
	if j.Model.RopeScalingFactor != nil {
		factor = *j.Model.RopeScalingFactor
		enough = factor <= 1
	}
	if enough {
		j.say("rope_scaling: cutoff_len %d fits the model's context of %d tokens; nothing is stretched", j.Data.CutoffLen, context)
		return nil, nil
	}
	s := map[string]any{"rope_type": j.Model.RopeScaling, "factor": factor}
	if j.Model.RopeScaling != "linear" {
		s["original_max_position_embeddings"] = first
	}
	if j.Model.RopeScaling == "llama3" {
		s["low_freq_factor"], s["high_freq_factor"] = 1.0, 4.0
	}
	return s, nil
}
