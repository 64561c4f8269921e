// Package family defines the model families. A family is one file: its configuration, its blocks in the order of the
// paper, and one line that registers it. State names are the tensor names of the published checkpoints, so that loading
// and saving need no translation.
package family

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"danlu/graph"
	"danlu/nn"
)

// Model is one configured model of a family.
type Model interface {
	Info() Info
	// Hidden builds the model from the build's ids to the final norm: [B, T, D].
	Hidden(b *nn.Build) *graph.Value
	// Head returns the output matrix [V, D]; logits are hidden·Headᵀ.
	Head(b *nn.Build) *graph.Value
}

// Layouter is implemented by families whose tokens are not numbered 0, 1, 2, ... in one row, or whose first tokens see
// each other both ways.
type Layouter interface {
	// Layout numbers the tokens of a text, in Info().PositionRows rows, and says how many first tokens are the prefix.
	// Tokens that are added to the text later do not change the numbers of those before.
	Layout(ids []int32) (positions [][]int32, prefix int)
}

// MultiToken is implemented by families with multi-token prediction modules (DeepSeek-V3).
type MultiToken interface {
	// MTPHidden builds the module on the main model's hidden rows [B, T, D]: [B, T-1, D], whose place i predicts token
	// i+2. It is nil when the model has no such module.
	MTPHidden(b *nn.Build, hidden *graph.Value) *graph.Value
	// MTPNext builds the module on hidden rows [B, T, D] of the tokens before the build's ids, in a graph with a cache:
	// [B, T, D], of which each place predicts the token after its id. It is nil when the model has no such module.
	MTPNext(b *nn.Build, hidden *graph.Value) *graph.Value
}

// Params lists the parameters and buffers of a model, those of its prediction modules included. prepare, if given, sets
// what the build is to have: adapters, storage.
func Params(m Model, prepare ...func(b *nn.Build)) ([]*graph.StateSpec, error) {
	g, err := graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, nn.Float32, m.Info().PositionRows, 1, 3)
		for _, p := range prepare {
			p(b)
		}
		hidden := m.Hidden(b)
		m.Head(b)
		if mt, ok := m.(MultiToken); ok {
			mt.MTPHidden(b, hidden)
		}
	})
	if err != nil {
		return nil, err
	}
	var specs []*graph.StateSpec
	for _, s := range g.States() {
		specs = append(specs, s.Node.Op.(graph.State).StateSpec)
	}
	return specs, nil
}

// StoredParams is Params with weights kept as storage says.
func StoredParams(m Model, storage nn.Storage) ([]*graph.StateSpec, error) {
	return Params(m, func(b *nn.Build) { b.Storage = storage })
}

// Modules lists the parts of a model that an adapter can change, in the order in which they are computed.
func Modules(m Model) ([]nn.Module, error) {
	var list []nn.Module
	seen := map[string]bool{}
	_, err := Params(m, func(b *nn.Build) {
		b.Visit = func(m nn.Module) {
			if key := m.Weight.Key(); !seen[key] {
				seen[key] = true
				list = append(list, m)
			}
		}
	})
	return list, err
}

// Info is what the rest of the program asks of a model.
type Info struct {
	Family       string // registered name
	Architecture string // the config's architectures[0]
	VocabSize    int
	HiddenSize   int
	NumLayers    int
	MaxPosition  int  // context in tokens
	PositionRows int  // P of the positions input
	TiedHead     bool // the head is the embedding
	CopiedHead   bool // published checkpoints hold the head as a copy of the embedding
	BOS          int  // -1: none
	EOS          []int
	PAD          int // -1: none
	// Ignored are checkpoint tensors that carry nothing (buffers computed from the config), as name suffixes.
	Ignored []string
	// Unknown lists keys of the config that mean nothing here.
	Unknown []string
}

// Constructor reads a family's config.
type Constructor func(c *Config) (Model, error)

type entry struct {
	name string
	make Constructor
}

var byArchitecture = map[string]entry{}

// register makes a family known under the architectures of its checkpoints.
func register(name string, make Constructor, architectures ...string) {
	for _, a := range architectures {
		if _, ok := byArchitecture[a]; ok {
			panic("family: architecture registered twice: " + a)
		}
		byArchitecture[a] = entry{name, make}
	}
}

// Architectures lists what is registered, sorted.
func Architectures() []string {
	var names []string
	for a := range byArchitecture {
		names = append(names, a)
	}
	sort.Strings(names)
	return names
}

// Load reads config.json from a model folder, or the file itself.
func Load(path string) (Model, *Config, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, "config.json")
	}
	data, err := readConfig(path)
	if err != nil {
		return nil, nil, err
	}
	return Parse(path, data)
}

// Parse reads a config; path is for errors.
func Parse(path string, data []byte) (Model, *Config, error) {
	c, err := ParseConfig(path, data)
	if err != nil {
		return nil, nil, err
	}
	m, err := New(c)
	return m, c, err
}

// New makes the model that a config describes.
func New(c *Config) (Model, error) {
	arch := c.Architecture()
	if c.err != nil {
		return nil, c.err
	}
	e, ok := byArchitecture[arch]
	if body, found := strings.CutSuffix(arch, "ForSequenceClassification"); !ok && found {
		e, ok = byArchitecture[body+"ForCausalLM"] // a reward model: the body of a language model under another head
	}
	if !ok {
		return nil, c.Errorf("architectures", "%q is not supported; supported are %s", arch, strings.Join(Architectures(), ", "))
	}
	m, err := e.make(c)
	if err == nil {
		err = c.err
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Config is a config.json being read. The first error sticks; keys never asked for are reported as unknown.
type Config struct {
	path string
	raw  map[string]json.RawMessage
	used map[string]bool
	err  error
}

// meaningless are keys that say nothing about the computation here.
var meaningless = []string{"architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path", "use_cache",
	"auto_map", "attention_dropout", "hidden_dropout", "hidden_dropout_prob", "embd_pdrop", "resid_pdrop", "attn_pdrop", "dropout",
	"pretraining_tp", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "tokenizer_class",
	"tie_word_embeddings", "gradient_checkpointing", "_attn_implementation", "_attn_implementation_autoset", "task_specific_params",
	"keys_to_ignore_at_inference", "output_attentions", "output_hidden_states", "return_dict", "quantization_config", "transformers.js_config", "is_llama_config", "rope_interleaved"}

// ParseConfig reads the JSON of a config.
func ParseConfig(path string, data []byte) (*Config, error) {
	c := &Config{path: path, used: map[string]bool{}}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&c.raw); err != nil {
		return nil, fmt.Errorf("family: %s: %w", path, err)
	}
	for _, k := range meaningless {
		c.used[k] = true
	}
	return c, nil
}

// Errorf sets and returns an error about one key, unless there is one already.
func (c *Config) Errorf(key, format string, args ...any) error {
	if c.err == nil {
		c.err = fmt.Errorf("family: %s: %s: %s", c.path, key, oneLine(fmt.Sprintf(format, args...)))
	}
	return c.err
}

// oneLine shortens a message that quotes a config, which may hold anything.
func oneLine(s string) string {
	const most = 600
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " ..."
	}
	return s
}

// Has reports whether key is there and not null.
func (c *Config) Has(key string) bool {
	v, ok := c.raw[key]
	return ok && string(v) != "null"
}

// get decodes key into v and reports whether it was there.
func (c *Config) get(key string, v any) bool {
	c.used[key] = true
	if !c.Has(key) {
		return false
	}
	if err := json.Unmarshal(c.raw[key], v); err != nil {
		c.Errorf(key, "want %s, got %.80s", wanted(v), c.raw[key])
		return false
	}
	return true
}

// Bounds on what a config may ask for, far above what any model has, so that a damaged one costs no memory.
const (
	maxSize   = 1<<31 - 1
	maxLayers = 1 << 13
	maxRotary = 1 << 16
)

// wanted names the type that a value is decoded into.
func wanted(v any) string {
	switch v.(type) {
	case *int:
		return "an integer"
	case *float64:
		return "a number"
	case *bool:
		return "true or false"
	case *string:
		return "a text"
	case *[]string:
		return "a list of texts"
	case *[]int:
		return "a list of integers"
	}
	return "an object"
}

// Int reads a required positive integer below 2^31.
func (c *Config) Int(key string) int { return c.intUpTo(key, maxSize) }

// Layers reads a required number of layers.
func (c *Config) Layers(key string) int { return c.intUpTo(key, maxLayers) }

func (c *Config) intUpTo(key string, most int) int {
	var n int
	if !c.get(key, &n) {
		c.Errorf(key, "is missing")
		return 1
	}
	if n <= 0 || n > most {
		c.Errorf(key, "want a positive integer up to %d, got %d", most, n)
		return 1
	}
	return n
}

// IntOr reads an optional integer.
func (c *Config) IntOr(key string, def int) int {
	n := def
	c.get(key, &n)
	if n < -1<<31 || n >= 1<<31 {
		c.Errorf(key, "want an integer below 2^31, got %d", n)
		return def
	}
	return n
}

// FloatOr reads an optional number.
func (c *Config) FloatOr(key string, def float64) float64 {
	c.get(key, &def)
	return def
}

// BoolOr reads an optional boolean.
func (c *Config) BoolOr(key string, def bool) bool {
	c.get(key, &def)
	return def
}

// StringOr reads an optional string.
func (c *Config) StringOr(key, def string) string {
	c.get(key, &def)
	return def
}

// ignore marks keys that say nothing about the computation here.
func (c *Config) ignore(keys ...string) {
	for _, k := range keys {
		c.used[k] = true
	}
}

// Strings reads an optional list of strings.
func (c *Config) Strings(key string) []string {
	var list []string
	c.get(key, &list)
	return list
}

// Want checks that an optional key has the only value that is supported.
func (c *Config) Want(key string, want any) {
	if !c.Has(key) {
		c.used[key] = true
		return
	}
	var got any
	c.get(key, &got)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.Errorf(key, "want %v, got %v: not supported", want, got)
	}
}

// Architecture is architectures[0], or model_class or model_type where a config (GLM-130B's) has no such list.
func (c *Config) Architecture() string {
	var a []string
	for _, key := range []string{"model_class", "model_type"} {
		if !c.Has("architectures") && c.Has(key) {
			if name := c.StringOr(key, ""); byArchitecture[name].make != nil {
				return name
			}
		}
	}
	if !c.get("architectures", &a) || len(a) == 0 {
		c.Errorf("architectures", "is missing")
		return ""
	}
	return a[0]
}

// InitializerRange is the standard deviation of weights at initialisation.
func (c *Config) InitializerRange() float64 { return c.FloatOr("initializer_range", 0.02) }

// Tokens reads a token id that may be absent, one number or a list.
func (c *Config) Tokens(key string) []int {
	if !c.Has(key) {
		return nil
	}
	var one int
	if json.Unmarshal(c.raw[key], &one) == nil {
		return []int{one}
	}
	var many []int
	c.get(key, &many)
	return many
}

// Token is the first of Tokens, -1 when there is none.
func (c *Config) Token(key string) int {
	if t := c.Tokens(key); len(t) > 0 {
		return t[0]
	}
	return -1
}

// Activation reads an activation function's name.
func (c *Config) Activation(key, def string) graph.ActivationKind {
	switch name := c.StringOr(key, def); name {
	case "silu", "swish":
		return graph.SiLU
	case "gelu":
		return graph.GELU
	case "gelu_new", "gelu_pytorch_tanh", "gelu_fast":
		return graph.GELUTanh
	case "relu":
		return graph.ReLU
	case "quick_gelu":
		return graph.QuickGELU
	default:
		c.Errorf(key, "activation %q is not supported (silu, gelu, gelu_new, relu, quick_gelu)", name)
		return graph.SiLU
	}
}

// Rope reads rope_theta and rope_scaling, or rope_parameters, which newer configs write for both.
func (c *Config) Rope(dim, maxPosition int, defaultTheta float64) nn.Rope {
	if dim > maxRotary {
		c.Errorf("head_dim", "rotary embeddings of %d values exceed %d", dim, maxRotary)
		dim = 2
	}
	r := nn.Rope{Dim: dim, MaxPosition: maxPosition, Theta: c.FloatOr("rope_theta", defaultTheta)}
	key := "rope_scaling"
	c.used[key], c.used["rope_parameters"] = true, true
	if !c.Has(key) && c.Has("rope_parameters") {
		key = "rope_parameters"
	}
	var s struct {
		Type            string    `json:"type"`
		RopeType        string    `json:"rope_type"`
		Theta           float64   `json:"rope_theta"`
		Factor          float64   `json:"factor"`
		Original        int       `json:"original_max_position_embeddings"`
		LowFreqFactor   float64   `json:"low_freq_factor"`
		HighFreqFactor  float64   `json:"high_freq_factor"`
		BetaFast        float64   `json:"beta_fast"`
		BetaSlow        float64   `json:"beta_slow"`
		AttentionFactor *float64  `json:"attention_factor"`
		MScale          float64   `json:"mscale"`
		MScaleAllDim    float64   `json:"mscale_all_dim"`
		Truncate        *bool     `json:"truncate"`
		ShortFactor     []float64 `json:"short_factor"`
		LongFactor      []float64 `json:"long_factor"`
		Sections        []int     `json:"mrope_section"`
	}
	if c.get(key, &s) {
		if s.RopeType == "" {
			s.RopeType = s.Type
		}
		if s.Theta != 0 {
			r.Theta = s.Theta
		}
		if s.Original == 0 {
			s.Original = c.IntOr("original_max_position_embeddings", 0)
		}
		r.Sections = s.Sections
		r.Scaling = nn.Scaling{Type: s.RopeType, Factor: s.Factor, OriginalMaxPosition: s.Original, LowFreqFactor: s.LowFreqFactor,
			HighFreqFactor: s.HighFreqFactor, BetaFast: s.BetaFast, BetaSlow: s.BetaSlow, AttentionFactor: s.AttentionFactor, MScale: s.MScale,
			MScaleAllDim: s.MScaleAllDim, NoTruncate: s.Truncate != nil && !*s.Truncate, ShortFactor: s.ShortFactor, LongFactor: s.LongFactor}
		if r.Scaling.Type == "dynamic" {
			// transformers grows the base from max_position_embeddings, whatever else the key says.
			r.Scaling.OriginalMaxPosition = 0
		}
	}
	if err := r.Validate(); err != nil {
		c.Errorf(key, "%v", err)
	}
	return r
}

// heads reads the number of KV heads and the head size.
func (c *Config) heads(hidden, heads int) (kvHeads, headDim int) {
	kvHeads, headDim = c.IntOr("num_key_value_heads", heads), c.IntOr("head_dim", hidden/heads)
	if kvHeads <= 0 || heads%kvHeads != 0 {
		c.Errorf("num_key_value_heads", "want a divisor of num_attention_heads %d, got %d", heads, kvHeads)
		kvHeads = heads
	}
	if headDim <= 0 || !c.Has("head_dim") && hidden%heads != 0 {
		c.Errorf("num_attention_heads", "want a divisor of hidden_size %d, got %d", hidden, heads)
		headDim = 2
	}
	return kvHeads, headDim
}

// unknown lists the keys that no one asked for, sorted.
func (c *Config) unknown() []string {
	var keys []string
	for k := range c.raw {
		if !c.used[k] {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// info fills what all families read the same way.
func (c *Config) info(family string) Info {
	return Info{Family: family, Architecture: c.Architecture(), PositionRows: 1, BOS: c.Token("bos_token_id"), EOS: c.Tokens("eos_token_id"),
		PAD: c.Token("pad_token_id"), Unknown: c.unknown()}
}
