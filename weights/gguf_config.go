package weights

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"danlu/dtype"
	"danlu/format/gguf"
	"danlu/nn"
	"danlu/tensor"
)

// key is a number or switch of the model under its two names. GGUF names have the architecture before them.
type key struct {
	gguf, hf string
	kind     kind
	optional bool
}

type kind int

const (
	integer kind = iota
	real
	boolean
)

// The keys of the layouts.
var (
	sizeKeys = []key{{"embedding_length", "hidden_size", integer, false}, {"attention.head_count", "num_attention_heads", integer, false}}

	commonKeys = append(sizeKeys[:len(sizeKeys):len(sizeKeys)],
		key{"feed_forward_length", "intermediate_size", integer, false}, key{"block_count", "num_hidden_layers", integer, false},
		key{"attention.head_count_kv", "num_key_value_heads", integer, true}, key{"context_length", "max_position_embeddings", integer, false},
		key{"attention.layer_norm_rms_epsilon", "rms_norm_eps", real, false}, key{"attention.key_length", "head_dim", integer, true},
		key{"attention.value_length", "head_dim", integer, true})

	qwenExpertKeys = []key{{"expert_count", "num_experts", integer, false}, {"expert_used_count", "num_experts_per_tok", integer, false},
		{"expert_feed_forward_length", "moe_intermediate_size", integer, false}}
	sharedExpertKeys = []key{{"expert_shared_feed_forward_length", "shared_expert_intermediate_size", integer, false}}

	chatglmKeys = append(sizeKeys[:len(sizeKeys):len(sizeKeys)],
		key{"feed_forward_length", "ffn_hidden_size", integer, false}, key{"block_count", "num_layers", integer, false},
		key{"attention.head_count_kv", "multi_query_group_num", integer, true}, key{"context_length", "seq_length", integer, false},
		key{"attention.layer_norm_rms_epsilon", "layernorm_epsilon", real, false}, key{"attention.key_length", "kv_channels", integer, true},
		key{"attention.value_length", "kv_channels", integer, true})

	baichuanKeys = append(sizeKeys[:len(sizeKeys):len(sizeKeys)],
		key{"feed_forward_length", "intermediate_size", integer, false}, key{"block_count", "num_hidden_layers", integer, false},
		key{"attention.head_count_kv", "num_key_value_heads", integer, true}, key{"context_length", "model_max_length", integer, false},
		key{"attention.layer_norm_rms_epsilon", "rms_norm_eps", real, false})

	deepseekKeys = append(sizeKeys[:len(sizeKeys):len(sizeKeys)],
		key{"feed_forward_length", "intermediate_size", integer, false}, key{"block_count", "num_hidden_layers", integer, false},
		key{"context_length", "max_position_embeddings", integer, false}, key{"attention.layer_norm_rms_epsilon", "rms_norm_eps", real, false},
		key{"leading_dense_block_count", "first_k_dense_replace", integer, false}, key{"attention.q_lora_rank", "q_lora_rank", integer, true},
		key{"attention.kv_lora_rank", "kv_lora_rank", integer, false}, key{"attention.value_length_mla", "v_head_dim", integer, false},
		key{"rope.dimension_count", "qk_rope_head_dim", integer, false}, key{"expert_feed_forward_length", "moe_intermediate_size", integer, false},
		key{"expert_count", "n_routed_experts", integer, false}, key{"expert_used_count", "num_experts_per_tok", integer, false},
		key{"expert_shared_count", "n_shared_experts", integer, false}, key{"expert_weights_scale", "routed_scaling_factor", real, true},
		key{"expert_weights_norm", "norm_topk_prob", boolean, true}, key{"expert_group_count", "n_group", integer, true},
		key{"expert_group_used_count", "topk_group", integer, true})
)

// config is a config.json whose keys are read by type; the first error sticks.
type config struct {
	path string
	raw  map[string]any
	err  error
}

func readConfig(path string, data []byte) (*config, error) {
	c := &config{path: path}
	if err := json.Unmarshal(data, &c.raw); err != nil {
		return nil, fmt.Errorf("weights: %s: %w", path, err)
	}
	return c, nil
}

func (c *config) fail(key, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("weights: %s: %s: %s", c.path, key, fmt.Sprintf(format, args...))
	}
}

func (c *config) has(key string) bool { return c.raw[key] != nil }

// get is a value of type T, otherwise when the key is missing.
func get[T any](c *config, key string, otherwise T) T {
	v := c.raw[key]
	if v == nil {
		return otherwise
	}
	t, ok := v.(T)
	if !ok {
		c.fail(key, "want a %T, got %v", otherwise, v)
		return otherwise
	}
	return t
}

func (c *config) float(key string, otherwise float64) float64 { return get(c, key, otherwise) }
func (c *config) flag(key string, otherwise bool) bool        { return get(c, key, otherwise) }

func (c *config) int(key string, otherwise int) int {
	x := get(c, key, float64(otherwise))
	if x != math.Trunc(x) || math.Abs(x) >= 1<<31 {
		c.fail(key, "want an integer, got %v", x)
		return otherwise
	}
	return int(x)
}

// class is architectures[0], or model_class where a config (GLM-130B's) has no such list.
func (c *config) class() string {
	if !c.has("architectures") && c.has("model_class") {
		return get(c, "model_class", "")
	}
	list := get[[]any](c, "architectures", nil)
	if len(list) == 0 {
		c.fail("architectures", "is missing")
		return ""
	}
	s, _ := list[0].(string)
	return s
}

// theta is the rotary base and scaling the object that scales it, nil for none; newer configs hold both in one key.
func (c *config) theta(otherwise float64) (theta float64, scaling map[string]any) {
	theta = c.float("rope_theta", otherwise)
	scaling = get[map[string]any](c, "rope_scaling", nil)
	if p := get[map[string]any](c, "rope_parameters", nil); p != nil {
		if t, ok := p["rope_theta"].(float64); ok && !c.has("rope_theta") {
			theta = t
		}
		if scaling == nil {
			scaling = p
		}
	}
	return theta, scaling
}

// geometry is what the order of stored rows depends on.
type geometry struct {
	heads, kvHeads           int
	layers                   int
	headDim                  int
	nopeDim, valueDim, kRank int // of latent attention
}

func (c *config) geometry(l *layout) geometry {
	g := geometry{heads: max(1, c.int("num_attention_heads", 1)), layers: c.int("num_hidden_layers", c.int("num_layers", 0)),
		nopeDim: c.int("qk_nope_head_dim", 0), valueDim: c.int("v_head_dim", 0), kRank: c.int("kv_lora_rank", 0)}
	g.kvHeads = c.int("num_key_value_heads", g.heads)
	g.headDim = c.int("head_dim", c.int("kv_channels", c.int("hidden_size", 0)/g.heads))
	return g
}

// metadata are the entries that stand for a config. What llama.cpp computes in another way is refused by its key.
func (l *layout) metadata(c *config) ([]gguf.KV, *tensor.Tensor, error) {
	var out []gguf.KV
	put := func(name string, v any) { out = append(out, gguf.KV{Key: l.arch + "." + name, Value: v}) }
	for _, k := range l.keys {
		switch {
		case !c.has(k.hf):
			if !k.optional && !l.derived(c, k, put) {
				c.fail(k.hf, "is missing")
			}
		case k.kind == integer:
			n := c.int(k.hf, 0)
			if n < 0 {
				c.fail(k.hf, "want at least 0, got %d", n)
			}
			put(k.gguf, uint32(n))
		case k.kind == real:
			put(k.gguf, float32(c.float(k.hf, 0)))
		case k.kind == boolean:
			put(k.gguf, c.flag(k.hf, false))
		}
	}
	g := c.geometry(l)
	rotated := g.headDim
	theta, scaling := c.theta(defaultTheta(l))
	switch l.arch {
	case "chatglm", "glm4":
		rotated = int(c.float("partial_rotary_factor", 0.5) * float64(g.headDim))
		theta *= c.float("rope_ratio", 1)
	case "baichuan":
		if c.alibi() {
			out = append(out, gguf.KV{Key: alibiBias, Value: float32(8)})
		}
	case "deepseek2":
		put("attention.head_count_kv", uint32(1)) // attention over the latent has one key head
		put("attention.key_length", uint32(g.kRank+c.int("qk_rope_head_dim", 0)))
		put("attention.value_length", uint32(g.kRank))
		put("attention.key_length_mla", uint32(g.nopeDim+c.int("qk_rope_head_dim", 0)))
		put("expert_gating_func", uint32(sigmoidGating))
	}
	if l.arch != "deepseek2" {
		put("rope.dimension_count", uint32(rotated))
		if !c.hasKVHeads(l) {
			put("attention.head_count_kv", uint32(g.heads))
		}
	}
	put("rope.freq_base", float32(theta))
	factors := l.scaling(c, put, nn.Rope{Dim: rotated, Theta: theta}, scaling)
	l.refuse(c)
	return out, factors, c.err
}

const (
	sigmoidGating = 2
	alibiBias     = "baichuan.attention.max_alibi_bias"
)

// defaultTheta is the rotary base of configs that name none.
func defaultTheta(l *layout) float64 {
	switch l.arch {
	case "qwen2", "qwen3", "qwen2moe", "qwen3moe", "qwen2vl":
		return 1e6
	}
	return 10000
}

func (c *config) hasKVHeads(l *layout) bool {
	return c.has("num_key_value_heads") || l.fused && c.has("multi_query_group_num")
}

// alibi reports whether a Baichuan knows positions by ALiBi, as released configs show it.
func (c *config) alibi() bool {
	if p := get(c, "position", ""); p != "" {
		return p == "alibi"
	}
	return !c.has("max_position_embeddings")
}

// derived puts a required entry whose key some configs of the architecture leave out.
func (l *layout) derived(c *config, k key, put func(string, any)) bool {
	switch k.hf {
	case "model_max_length":
		put(k.gguf, uint32(c.int("max_position_embeddings", 2048)))
	case "max_position_embeddings":
		put(k.gguf, uint32(2048))
	case "rms_norm_eps":
		put(k.gguf, float32(1e-6))
	case "layernorm_epsilon":
		put(k.gguf, float32(1e-5))
	case "seq_length":
		put(k.gguf, uint32(2048))
	case "first_k_dense_replace", "n_shared_experts":
		put(k.gguf, uint32(0))
	default:
		return false
	}
	return true
}

// refuse reports what the architecture of the GGUF cannot say.
func (l *layout) refuse(c *config) {
	want := func(key string, otherwise, want bool) {
		if c.flag(key, otherwise) != want {
			c.fail(key, "%s files of GGUF want %v", l.arch, want)
		}
	}
	if act := get(c, "hidden_act", "silu"); act != "silu" && act != "swish" {
		c.fail("hidden_act", "%s files of GGUF want silu, got %s", l.arch, act)
	}
	switch g := c.geometry(l); l.arch {
	case "chatglm", "qwen2moe", "baichuan":
		if hidden := c.int("hidden_size", 0); g.heads*g.headDim != hidden {
			c.fail("num_attention_heads", "%s files of GGUF want heads of hidden_size %d in all, got %d of %d", l.arch, hidden, g.heads, g.headDim)
		}
	}
	switch l.arch {
	case "llama":
		if c.has("sliding_window") {
			c.fail("sliding_window", "llama files of GGUF have no attention window")
		}
	case "qwen2", "qwen3", "qwen2vl":
		want("use_sliding_window", false, false)
	case "qwen2moe", "qwen3moe":
		want("use_sliding_window", false, false)
		want("norm_topk_prob", false, l.arch == "qwen3moe")
		if c.int("decoder_sparse_step", 1) > 1 || len(get[[]any](c, "mlp_only_layers", nil)) > 0 {
			c.fail("mlp_only_layers", "%s files of GGUF have experts in every layer", l.arch)
		}
	case "chatglm":
		if l.fused {
			want("add_bias_linear", false, false)
			want("post_layer_norm", true, true)
		}
	case "deepseek2":
		want("attention_bias", false, false)
	}
}

// scaling puts the rotary scaling, or returns the tensor of divisors that stands for Llama 3's.
func (l *layout) scaling(c *config, put func(string, any), r nn.Rope, s map[string]any) *tensor.Tensor {
	text := func(key string) string { v, _ := s[key].(string); return v }
	num := func(key string) float64 { v, _ := s[key].(float64); return v }
	name := text("rope_type")
	if name == "" {
		name = text("type")
	}
	original := num("original_max_position_embeddings")
	switch name {
	case "", "default":
		return nil
	case "mrope":
		if l.arch == "qwen2vl" {
			sections := make([]int32, 4)
			list, _ := s["mrope_section"].([]any)
			for i := range min(len(list), len(sections)) {
				n, _ := list[i].(float64)
				sections[i] = int32(n)
			}
			put("rope.dimension_sections", sections)
			return nil
		}
	case "linear":
		put("rope.scaling.type", "linear")
		put("rope.scaling.factor", float32(num("factor")))
		return nil
	case "yarn":
		put("rope.scaling.type", "yarn")
		put("rope.scaling.factor", float32(num("factor")))
		if original == 0 {
			original = float64(c.int("max_position_embeddings", 0))
		}
		put("rope.scaling.original_context_length", uint32(original))
		for to, from := range yarnKeys {
			if s[from] != nil {
				put(to, float32(num(from)))
			}
		}
		if l.arch == "deepseek2" {
			put(yarnLog, float32(0.1*num("mscale_all_dim")))
			if num("mscale") != num("mscale_all_dim") {
				c.fail("rope_scaling", "deepseek2 files of GGUF want mscale and mscale_all_dim to be equal")
			}
		} else if s["attention_factor"] != nil || s["mscale"] != nil || s["truncate"] != nil {
			c.fail("rope_scaling", "GGUF has no attention_factor, mscale or truncate")
		}
		return nil
	case "llama3":
		r.Scaling = nn.Scaling{Type: "llama3", Factor: num("factor"), LowFreqFactor: num("low_freq_factor"), HighFreqFactor: num("high_freq_factor"), OriginalMaxPosition: int(original)}
		if err := r.Validate(); err != nil {
			c.fail("rope_scaling", "%v", err)
			return nil
		}
		scaled, _ := r.InvFreq(0)
		r.Scaling = nn.Scaling{}
		plain, _ := r.InvFreq(0)
		t := tensor.New(dtype.F32, len(plain))
		for i := range plain {
			t.F32()[i] = float32(plain[i] / scaled[i])
		}
		return t
	}
	c.fail("rope_scaling", "%q has no place in %s files of GGUF", name, l.arch)
	return nil
}

const yarnLog = "rope.scaling.yarn_log_multiplier"

var yarnKeys = map[string]string{"rope.scaling.yarn_beta_fast": "beta_fast", "rope.scaling.yarn_beta_slow": "beta_slow"}

// Config is the config.json that the metadata stands for.
func (g *GGUF) Config() ([]byte, error) {
	l := g.layout
	class := l.classes[0]
	if l.asClass != "" {
		class = l.asClass
	}
	c := map[string]any{"architectures": []string{class}, "model_type": l.model, "hidden_act": "silu"}
	for _, k := range l.keys {
		name := l.arch + "." + k.gguf
		if !g.has(name) && (k.optional || k.hf == "first_k_dense_replace") {
			continue
		}
		v, err := g.number(name, k.kind)
		if err != nil {
			return nil, err
		}
		c[k.hf] = v
	}
	steps := []func(map[string]any) error{g.rope, g.particulars, g.tokens}
	for _, step := range steps {
		if err := step(c); err != nil {
			return nil, err
		}
	}
	return json.Marshal(c)
}

// number reads a value of a kind.
func (g *GGUF) number(name string, k kind) (any, error) {
	switch k {
	case real:
		return g.float(name, 0)
	case boolean:
		return g.file.Bool(name)
	}
	return g.file.Int(name)
}

// float reads a number as the shortest decimal of its float32; otherwise unless it is 0 stands for a missing one.
func (g *GGUF) float(name string, otherwise float64) (float64, error) {
	if otherwise != 0 && !g.has(name) {
		return otherwise, nil
	}
	x, err := g.file.Float(name)
	if err != nil {
		return 0, err
	}
	short, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', -1, 32), 64)
	if err != nil || float32(short) != float32(x) {
		return x, nil
	}
	return short, nil
}

func (g *GGUF) has(key string) bool { _, ok := g.file.Value(key); return ok }

// particulars fills what one family alone says, or says in its own way.
func (g *GGUF) particulars(c map[string]any) error {
	l := g.layout
	heads, err := g.file.Int(l.arch + ".attention.head_count")
	if err != nil {
		return err
	}
	if heads < 1 {
		return fmt.Errorf("gguf: %s: %s.attention.head_count: want at least 1, got %d", g.Path(), l.arch, heads)
	}
	switch l.arch {
	case "qwen2moe", "qwen3moe":
		c["norm_topk_prob"] = l.arch == "qwen3moe"
	case "chatglm", "glm4":
		if !l.fused {
			c["attention_bias"] = g.parts["model.layers.0.self_attn.q_proj.bias"] != nil
			return g.partialRotation(c, heads)
		}
		c["multi_query_attention"] = c["multi_query_group_num"] != nil
		c["rmsnorm"], c["original_rope"], c["post_layer_norm"], c["add_bias_linear"] = true, true, true, false
		c["add_qkv_bias"] = g.parts[l.layers+"0.self_attention.query_key_value.bias"] != nil
	case "baichuan":
		c["position"], c["norm_head"] = "rope", false // the head is stored normed
		// llama.cpp tells the 13B models, which have ALiBi, by their 40 layers.
		if g.has(alibiBias) || c["num_hidden_layers"] == 40 {
			c["position"] = "alibi"
		}
	case "deepseek2":
		return g.latent(c, heads)
	case "llama", "qwen3":
		c["attention_bias"] = g.parts["model.layers.0.self_attn.o_proj.bias"] != nil
		c["mlp_bias"] = g.parts["model.layers.0.mlp.down_proj.bias"] != nil
	}
	return nil
}

// partialRotation says which part of each head is rotated.
func (g *GGUF) partialRotation(c map[string]any, heads int) error {
	rotated, err := g.file.Int(g.layout.arch + ".rope.dimension_count")
	if err != nil {
		return err
	}
	headDim, ok := c["head_dim"].(int)
	if !ok {
		headDim = c["hidden_size"].(int) / heads
	}
	c["partial_rotary_factor"] = float64(rotated) / float64(max(1, headDim))
	return nil
}

// latent fills DeepSeek's keys. Files without the sizes of decompressed heads are older than attention over the latent.
func (g *GGUF) latent(c map[string]any, heads int) error {
	length, err := g.file.Int("deepseek2.attention.key_length_mla")
	if err != nil {
		return err
	}
	c["qk_nope_head_dim"] = length - c["qk_rope_head_dim"].(int)
	c["num_key_value_heads"] = heads
	c["num_nextn_predict_layers"] = 0
	gating, err := g.file.Int("deepseek2.expert_gating_func")
	if err != nil {
		return err
	}
	if gating != sigmoidGating {
		return fmt.Errorf("gguf: %s: deepseek2.expert_gating_func: want %d (sigmoid, DeepSeek-V3), got %d", g.Path(), sigmoidGating, gating)
	}
	return nil
}

// tokens fills the vocabulary's size and special tokens.
func (g *GGUF) tokens(c map[string]any) error {
	var err error
	for to, from := range map[string]string{"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"} {
		if key := "tokenizer.ggml." + from + "_token_id"; g.has(key) {
			if c[to], err = g.file.Int(key); err != nil {
				return err
			}
		}
	}
	_, shape, err := g.Describe(place{pair: g.layout.top[0].expand()[0], layer: -1}.hfName(g.layout, 0))
	if err != nil {
		return err
	}
	size := "vocab_size"
	if g.layout.fused {
		size = "padded_vocab_size"
	}
	c[size] = shape[0]
	c["tie_word_embeddings"] = g.parts[place{pair: g.layout.top[2].expand()[0], layer: -1}.hfName(g.layout, 0)] == nil
	return nil
}

// rope fills the rotary base and scaling; Llama 3's scaling is known by its tensor of divisors.
func (g *GGUF) rope(c map[string]any) error {
	l := g.layout
	prefix := l.arch + ".rope."
	theta, err := g.float(prefix+"freq_base", 10000)
	if err != nil {
		return err
	}
	c["rope_theta"] = theta
	if key := prefix + "scaling.type"; g.has(key) {
		kind, err := g.file.Text(key)
		if err != nil {
			return err
		}
		if kind != "none" {
			if c["rope_scaling"], err = g.scaling(kind); err != nil {
				return err
			}
		}
	}
	table, err := g.file.Tensor(ropeFactors)
	if err != nil {
		return nil // there is none
	}
	if table.DType != dtype.F32 {
		return fmt.Errorf("gguf: %s: tensor %q: want f32, got %v", g.Path(), ropeFactors, table.DType)
	}
	s, ok := llama3Scaling(table.F32(), theta)
	if !ok {
		return fmt.Errorf("gguf: %s: tensor %q: is the table of no known rotary scaling", g.Path(), ropeFactors)
	}
	c["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": s.Factor, "low_freq_factor": s.LowFreqFactor, "high_freq_factor": s.HighFreqFactor,
		"original_max_position_embeddings": s.OriginalMaxPosition}
	return nil
}

func (g *GGUF) scaling(kind string) (map[string]any, error) {
	prefix := g.layout.arch + "."
	factor, err := g.float(prefix+"rope.scaling.factor", 0)
	if err != nil {
		return nil, err
	}
	s := map[string]any{"rope_type": kind, "factor": factor}
	if key := prefix + "rope.scaling.original_context_length"; g.has(key) {
		if s["original_max_position_embeddings"], err = g.file.Int(key); err != nil {
			return nil, err
		}
	}
	for from, to := range yarnKeys {
		if g.has(prefix + from) {
			if s[to], err = g.float(prefix+from, 0); err != nil {
				return nil, err
			}
		}
	}
	if g.has(prefix + yarnLog) {
		log, err := g.float(prefix+yarnLog, 0)
		if err != nil {
			return nil, err
		}
		m := math.Round(log*10*1e6) / 1e6
		s["mscale"], s["mscale_all_dim"] = m, m
	}
	return s, nil
}

// llama3Scaling finds the scaling (Llama 3.1's, by wavelength) that a table of divisors comes from. Below a first
// wavelength nothing is divided, beyond a second one everything by the factor; in between the reciprocal divisor goes
// linearly with the reciprocal wavelength, and two such points give both ends.
func llama3Scaling(table []float32, theta float64) (nn.Scaling, bool) {
	r := nn.Rope{Dim: 2 * len(table), Theta: theta}
	for _, factor := range []float64{8, 32} { // Llama 3.1 and 3.3; Llama 3.2
		r.Scaling = nn.Scaling{Type: "llama3", Factor: factor, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPosition: 8192}
		if matches(r, table) {
			return r.Scaling, true
		}
	}
	factor := 1.0
	for _, d := range table {
		factor = max(factor, float64(d))
	}
	r.Scaling = nn.Scaling{}
	freq, _ := r.InvFreq(0)
	var x, y []float64 // 1/wavelength and the share that is not divided
	for i, d := range table {
		if d > 1 && float64(d) < factor {
			x, y = append(x, freq[i]/(2*math.Pi)), append(y, (1/float64(d)-1/factor)/(1-1/factor))
		}
	}
	// y = (original·x - low) / (high - low), of which only the ratios of the three count: low is 1. A single point leaves
	// one of the others free: then high is Llama 3's.
	var high, original float64
	switch last := len(x) - 1; last {
	case -1:
		return nn.Scaling{}, false
	case 0:
		high = 4
		original = ((high-1)*y[0] + 1) / x[0]
	default:
		slope := (y[0] - y[last]) / (x[0] - x[last])
		high = 1 + 1/(slope*x[0]-y[0])
		original = slope * (high - 1)
	}
	if !(high > 1 && high < 1e6 && original >= 1 && original < 1<<31) {
		return nn.Scaling{}, false
	}
	if whole := math.Round(high); math.Abs(high-whole) < 1e-3*high {
		high = whole
	}
	r.Scaling = nn.Scaling{Type: "llama3", Factor: factor, LowFreqFactor: 1, HighFreqFactor: high, OriginalMaxPosition: int(math.Round(original))}
	return r.Scaling, matches(r, table)
}

// matches reports whether a table of divisors is that of a scaling.
func matches(r nn.Rope, table []float32) bool {
	if r.Validate() != nil {
		return false
	}
	scaled, _ := r.InvFreq(0)
	r.Scaling = nn.Scaling{}
	plain, _ := r.InvFreq(0)
	for i, d := range table {
		if !(math.Abs(plain[i]/scaled[i]-float64(d)) <= 1e-3*float64(d)) {
			return false
		}
	}
	return true
}
