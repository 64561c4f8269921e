// Package adapter keeps low-rank adapters in the files of Hugging Face's PEFT: it finds the layers that a configuration
// means, loads and saves their factors, and adds them to the weights.
package adapter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	configFile = "adapter_config.json"
	// WeightsFile holds an adapter's tensors in its folder.
	WeightsFile = "adapter_model.safetensors"
)

// Config is PEFT's adapter_config.json, as far as it says what is computed.
type Config struct {
	PeftType   string `json:"peft_type"`
	TaskType   string `json:"task_type"`
	Base       string `json:"base_model_name_or_path"`
	Inference  bool   `json:"inference_mode"`
	Bias       string `json:"bias"`
	FanInOut   bool   `json:"fan_in_fan_out"`
	InitFrom   any    `json:"init_lora_weights"`
	PeftVer    string `json:"peft_version,omitempty"`
	Revision   any    `json:"revision"`
	AutoMap    any    `json:"auto_mapping"`
	LoftQ      any    `json:"loftq_config"`
	Replicated any    `json:"layer_replication"`

	Rank           int      `json:"r"`
	Alpha          float64  `json:"lora_alpha"`
	Dropout        float64  `json:"lora_dropout"`
	RSLora         bool     `json:"use_rslora"`
	DoRA           bool     `json:"use_dora"`
	Targets        Names    `json:"target_modules"`
	Excluded       Names    `json:"exclude_modules"`
	Saved          []string `json:"modules_to_save"`
	RankPattern    Patterns `json:"rank_pattern"`
	AlphaPattern   Patterns `json:"alpha_pattern"`
	Layers         Numbers  `json:"layers_to_transform"`
	LayersPattern  Names    `json:"layers_pattern"`
	excluded       *regexp.Regexp
	target         *regexp.Regexp
	layersPatterns []*regexp.Regexp
}

// Names is a list of names, or one regular expression.
type Names struct {
	List    []string
	Pattern string
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Names) UnmarshalJSON(data []byte) error {
	*n = Names{}
	if bytes.HasPrefix(data, []byte(`"`)) {
		return json.Unmarshal(data, &n.Pattern)
	}
	return json.Unmarshal(data, &n.List)
}

// MarshalJSON implements json.Marshaler.
func (n Names) MarshalJSON() ([]byte, error) {
	if n.Pattern != "" {
		return json.Marshal(n.Pattern)
	}
	return json.Marshal(n.List)
}

// Numbers is a number or a list of numbers.
type Numbers []int

// UnmarshalJSON implements json.Unmarshaler.
func (n *Numbers) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] >= '0' && data[0] <= '9' {
		*n = Numbers{0}
		return json.Unmarshal(data, &(*n)[0])
	}
	return json.Unmarshal(data, (*[]int)(n))
}

// Patterns gives numbers to modules; the first that matches counts, so that their order matters.
type Patterns []Pattern

// Pattern gives a number to the modules whose name ends with what the regular expression matches.
type Pattern struct {
	Of     string
	Number float64
	match  *regexp.Regexp
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Patterns) UnmarshalJSON(data []byte) error {
	*p = nil
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("want an object of numbers")
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var number float64
		if err := dec.Decode(&number); err != nil {
			return fmt.Errorf("%v: %w", name, err)
		}
		*p = append(*p, Pattern{Of: name.(string), Number: number})
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (p Patterns) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		line, err := json.Marshal(map[string]float64{x.Of: x.Number})
		if err != nil {
			return nil, err
		}
		b.Write(line[1 : len(line)-1])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// of is the number of the first pattern that matches a name, or other.
func (p Patterns) of(name string, other float64) float64 {
	for _, x := range p {
		if x.match.MatchString(name) {
			return x.Number
		}
	}
	return other
}

const maxRank = 1 << 16

// allLinear is PEFT's name for every linear layer but the head.
const allLinear = "all-linear"

// off are keys of PEFT that change what is computed, with the values that mean nothing.
var off = map[string][]string{
	"lora_bias": {"false"}, "use_qalora": {"false"}, "use_bdlora": {"null"}, "target_parameters": {"null", "[]"},
	"trainable_token_indices": {"null"}, "alora_invocation_tokens": {"null"}, "arrow_config": {"null"}, "layer_replication": {"null"},
	"kasa_config": {"null"}, "velora_config": {"null"}, "monteclora_config": {"null"}, "megatron_config": {"null"},
}

// ReadConfig reads the configuration of the adapter in a folder.
func ReadConfig(dir string) (*Config, error) {
	path := filepath.Join(dir, configFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("adapter: %w", err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("adapter: %s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads an adapter_config.json.
func ParseConfig(data []byte) (*Config, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	for key, values := range off {
		if v, ok := raw[key]; ok && !slices.Contains(values, string(bytes.TrimSpace(v))) {
			return nil, fmt.Errorf("%s: %s is not supported", key, v)
		}
	}
	c := &Config{Bias: "none", Rank: 8, Alpha: 8}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check refuses what is not supported and compiles the patterns.
func (c *Config) check() error {
	switch {
	case c.PeftType != "LORA":
		return fmt.Errorf("peft_type: want LORA, got %q", c.PeftType)
	case c.Bias != "none":
		return fmt.Errorf("bias: want none, got %q", c.Bias)
	case c.FanInOut:
		return fmt.Errorf("fan_in_fan_out: true is not supported")
	case c.Rank < 1 || c.Rank > maxRank:
		return fmt.Errorf("r: want 1 to %d, got %d", maxRank, c.Rank)
	case !(c.Alpha > 0) || math.IsInf(c.Alpha, 0):
		return fmt.Errorf("lora_alpha: want a number above 0, got %v", c.Alpha)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("lora_dropout: want 0 to below 1, got %v", c.Dropout)
	case c.Targets.Pattern == "" && len(c.Targets.List) == 0:
		return fmt.Errorf("target_modules: is missing")
	}
	if init, ok := c.InitFrom.(string); ok && slices.ContainsFunc([]string{"pissa", "olora", "corda", "loftq", "lora_ga"}, func(p string) bool { return strings.HasPrefix(init, p) }) {
		return fmt.Errorf("init_lora_weights: an adapter that began as %s belongs to a changed base model; convert it to a plain LoRA adapter first", init)
	}
	for _, p := range c.RankPattern {
		if p.Number < 1 || p.Number != math.Trunc(p.Number) || p.Number > maxRank {
			return fmt.Errorf("rank_pattern: %s: want a whole number of 1 to %d, got %v", p.Of, maxRank, p.Number)
		}
	}
	return c.compile()
}

func (c *Config) compile() error {
	for _, list := range []struct {
		key string
		p   Patterns
	}{{"rank_pattern", c.RankPattern}, {"alpha_pattern", c.AlphaPattern}} {
		for i, p := range list.p {
			re, err := regexp.Compile(`^(?:.*\.)?(?:` + p.Of + `)$`)
			if err != nil {
				return fmt.Errorf("%s: %w", list.key, err)
			}
			list.p[i].match = re
		}
	}
	full := func(key string, n Names) (*regexp.Regexp, error) {
		if n.Pattern == "" || n.Pattern == allLinear {
			return nil, nil
		}
		re, err := regexp.Compile(`^(?:` + n.Pattern + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		return re, nil
	}
	var err error
	if c.target, err = full("target_modules", c.Targets); err != nil {
		return err
	}
	if c.excluded, err = full("exclude_modules", c.Excluded); err != nil {
		return err
	}
	patterns := c.LayersPattern.List
	if c.LayersPattern.Pattern != "" {
		patterns = []string{c.LayersPattern.Pattern}
	}
	if len(patterns) == 0 {
		patterns = []string{`[^.]*`}
	}
	c.layersPatterns = nil
	for _, p := range patterns {
		re, err := regexp.Compile(`^(?:.*?\.)??(?:` + p + `)\.(\d+)\.`)
		if err != nil {
			return fmt.Errorf("layers_pattern: %w", err)
		}
		c.layersPatterns = append(c.layersPatterns, re)
	}
	return nil
}

// AllLinear is a plain LoRA of every linear layer but the head, with alpha twice the rank.
func AllLinear(rank int) *Config {
	return &Config{PeftType: "LORA", Bias: "none", Rank: rank, Alpha: float64(2 * rank), Targets: Names{Pattern: allLinear}}
}

// Write writes adapter_config.json into dir, with the keys that PEFT writes.
func (c *Config) Write(dir string) error {
	out := *c
	out.PeftType, out.TaskType, out.Inference, out.Bias, out.InitFrom = "LORA", "CAUSAL_LM", true, "none", true
	out.LoftQ = map[string]any{}
	data, err := json.MarshalIndent(out, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, configFile), append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("adapter: %w", err)
	}
	return nil
}
