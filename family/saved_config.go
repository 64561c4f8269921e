package family

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
)

// SavedConfig is the config.json of a model that was trained here: the one that it came with, with changes on top, and
// with what transformers renamed under both names (torch_dtype and dtype; rope_theta, rope_scaling and
// rope_parameters).
func SavedConfig(config []byte, changes map[string]any) ([]byte, error) {
	var c map[string]any
	d := json.NewDecoder(bytes.NewReader(config))
	d.UseNumber() // numbers stay as they were written
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("family: config.json: %w", err)
	}
	maps.Copy(c, changes)
	both(c, "torch_dtype", "dtype")
	ropeBoth(c)
	delete(c, "quantization_config") // what training writes is plain
	out, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("family: config.json: %w", err)
	}
	return append(out, '\n'), nil
}

// both gives a value its other name.
func both(c map[string]any, old, newer string) {
	switch {
	case c[old] != nil:
		c[newer] = c[old]
	case c[newer] != nil:
		c[old] = c[newer]
	}
}

// ropeBoth writes rope_parameters from rope_theta and rope_scaling, or these from it. Configs that hold neither stay as
// they are, and so do those whose layers differ in them, which rope_theta cannot say.
func ropeBoth(c map[string]any) {
	if p, ok := c["rope_parameters"].(map[string]any); ok {
		if c["rope_theta"] == nil && p["rope_theta"] != nil {
			c["rope_theta"] = p["rope_theta"]
		}
		if kind := p["rope_type"]; c["rope_scaling"] == nil && kind != nil && kind != "default" {
			scaling := maps.Clone(p)
			delete(scaling, "rope_theta")
			c["rope_scaling"] = scaling
		}
		return
	}
	if c["rope_theta"] == nil {
		return
	}
	p := map[string]any{"rope_type": "default", "rope_theta": c["rope_theta"]}
	if s, ok := c["rope_scaling"].(map[string]any); ok {
		maps.Copy(p, s)
		if s["rope_type"] == nil && s["type"] != nil {
			p["rope_type"] = s["type"]
		}
		delete(p, "type")
	}
	c["rope_parameters"] = p
}
