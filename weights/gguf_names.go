package weights

import (
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// A layout is how the checkpoints of one architecture are stored in a GGUF, in the names and the order of rows that
// llama.cpp expects. One table serves reading and writing.
type layout struct {
	arch    string   // general.architecture
	model   string   // model_type of configs
	classes []string // architectures[0] of the configs that are stored this way; the first is what a file is read as
	layers  string   // what precedes a layer's number in published names
	top     []pair   // outside the layers
	layer   []pair   // in each layer; GGUF names have blk.N before them
	keys    []key    // the metadata that stand for keys of the config
	// fused tells two layouts of one arch apart: whether files of this one hold blk.0.attn_qkv.weight.
	fused bool
	// asClass is the class that files are read as where it is not classes[0].
	asClass string

	once   sync.Once
	inside names // of the layers
	around names // outside them
}

// names finds places by either name.
type names struct {
	stored    map[string]place
	published map[string][]place
}

// pair is a tensor's two names. Names without an ending of their own stand for .weight and .bias.
type pair struct {
	gguf, hf string
	form     form
}

// form is how a stored tensor follows from the published one.
type form int

const (
	same    form = iota
	ropeQ        // rows of each query head in pairs (i, i+K/2), for llama.cpp's rotation of neighbours
	ropeK        // the same for key heads
	experts      // all experts' matrices behind each other, [E, out, in]
	packQ        // the first third of the rows of a fused projection, then as ropeQ
	packK        // the second, as ropeK
	packV        // the last
	mlaK         // the key rows of each head of kv_b, transposed: [H, R, nope]
	mlaV         // its value rows: [H, V, R]
	unit         // rows scaled to length one (Baichuan 2's head)
)

// modelNames are the tensors outside the layers in the library's naming.
var modelNames = []pair{{"token_embd", "model.embed_tokens", same}, {"output_norm", "model.norm", same}, {"output", "lm_head", same}}

// The parts of layers.
var (
	layerNorms = []pair{{"attn_norm", "input_layernorm", same}, {"ffn_norm", "post_attention_layernorm", same}}
	attention  = []pair{{"attn_q", "self_attn.q_proj", same}, {"attn_k", "self_attn.k_proj", same}, {"attn_v", "self_attn.v_proj", same}, attnOut}
	attnOut    = pair{"attn_output", "self_attn.o_proj", same}
	headNorms  = []pair{{"attn_q_norm", "self_attn.q_norm", same}, {"attn_k_norm", "self_attn.k_norm", same}}
	gatedMLP   = []pair{{"ffn_gate", "mlp.gate_proj", same}, {"ffn_up", "mlp.up_proj", same}, {"ffn_down", "mlp.down_proj", same}}
	fusedMLP   = []pair{{"ffn_up", "mlp.gate_up_proj", same}, {"ffn_down", "mlp.down_proj", same}}
	expertMLP  = []pair{{"ffn_gate_inp", "mlp.gate", same}, {"ffn_gate_exps", "mlp.experts.%d.gate_proj", experts},
		{"ffn_up_exps", "mlp.experts.%d.up_proj", experts}, {"ffn_down_exps", "mlp.experts.%d.down_proj", experts}}
)

// sharedMLP is an expert that sees every token, under the name that its family gives it.
func sharedMLP(name string) []pair {
	return []pair{{"ffn_gate_shexp", "mlp." + name + ".gate_proj", same}, {"ffn_up_shexp", "mlp." + name + ".up_proj", same}, {"ffn_down_shexp", "mlp." + name + ".down_proj", same}}
}

const library = "model.layers."

var layouts = []*layout{
	{arch: "llama", model: "llama", classes: []string{"LlamaForCausalLM", "YiForCausalLM", "MistralForCausalLM"}, layers: library, top: modelNames, keys: commonKeys,
		layer: slices.Concat(layerNorms, gatedMLP, []pair{{"attn_q", "self_attn.q_proj", ropeQ}, {"attn_k", "self_attn.k_proj", ropeK}, {"attn_v", "self_attn.v_proj", same}, attnOut})},
	{arch: "qwen2", model: "qwen2", classes: []string{"Qwen2ForCausalLM"}, layers: library, top: modelNames, keys: commonKeys, layer: slices.Concat(layerNorms, attention, gatedMLP)},
	{arch: "qwen2vl", model: "qwen2", classes: []string{"Qwen2_5_VLForConditionalGeneration"}, asClass: "Qwen2ForCausalLM", layers: library, top: modelNames, keys: commonKeys,
		layer: slices.Concat(layerNorms, attention, gatedMLP)},
	{arch: "qwen3", model: "qwen3", classes: []string{"Qwen3ForCausalLM"}, layers: library, top: modelNames, keys: commonKeys, layer: slices.Concat(layerNorms, attention, headNorms, gatedMLP)},
	{arch: "qwen2moe", model: "qwen2_moe", classes: []string{"Qwen2MoeForCausalLM"}, layers: library, top: modelNames, keys: slices.Concat(commonKeys, qwenExpertKeys, sharedExpertKeys),
		layer: slices.Concat(layerNorms, attention, expertMLP, sharedMLP("shared_expert"), []pair{{"ffn_gate_inp_shexp", "mlp.shared_expert_gate", same}})},
	{arch: "qwen3moe", model: "qwen3_moe", classes: []string{"Qwen3MoeForCausalLM"}, layers: library, top: modelNames, keys: slices.Concat(commonKeys, qwenExpertKeys),
		layer: slices.Concat(layerNorms, attention, headNorms, expertMLP)},
	{arch: "chatglm", model: "chatglm", fused: true, classes: []string{"ChatGLMModel", "ChatGLMForConditionalGeneration", "ChatGLMForCausalLM"}, layers: "transformer.encoder.layers.", keys: chatglmKeys,
		top: []pair{{"token_embd", "transformer.embedding.word_embeddings", same}, {"output_norm", "transformer.encoder.final_layernorm", same}, {"output", "transformer.output_layer", same}},
		layer: slices.Concat(layerNorms, []pair{{"attn_qkv", "self_attention.query_key_value", same}, {"attn_output", "self_attention.dense", same},
			{"ffn_up", "mlp.dense_h_to_4h", same}, {"ffn_down", "mlp.dense_4h_to_h", same}})},
	{arch: "chatglm", model: "glm", classes: []string{"GlmForCausalLM"}, layers: library, top: modelNames, keys: commonKeys, layer: slices.Concat(layerNorms, attention, fusedMLP)},
	{arch: "glm4", model: "glm4", classes: []string{"Glm4ForCausalLM"}, layers: library, top: modelNames, keys: commonKeys,
		layer: slices.Concat(layerNorms, attention, fusedMLP, []pair{{"post_attention_norm", "post_self_attn_layernorm", same}, {"post_ffw_norm", "post_mlp_layernorm", same}})},
	{arch: "baichuan", model: "baichuan", classes: []string{"BaichuanForCausalLM", "BaiChuanForCausalLM"}, layers: library, top: modelNames, keys: baichuanKeys,
		layer: slices.Concat(layerNorms, gatedMLP, []pair{{"attn_q", "self_attn.W_pack", packQ}, {"attn_k", "self_attn.W_pack", packK}, {"attn_v", "self_attn.W_pack", packV}, attnOut})},
	{arch: "deepseek2", model: "deepseek_v3", classes: []string{"DeepseekV3ForCausalLM"}, layers: library, top: modelNames, keys: deepseekKeys,
		layer: slices.Concat(layerNorms, gatedMLP, expertMLP, sharedMLP("shared_experts"), []pair{attnOut, {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias", same},
			{"attn_q", "self_attn.q_proj", same}, {"attn_q_a", "self_attn.q_a_proj", same}, {"attn_q_a_norm", "self_attn.q_a_layernorm", same}, {"attn_q_b", "self_attn.q_b_proj", same},
			{"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", same}, {"attn_kv_a_norm", "self_attn.kv_a_layernorm", same},
			{"attn_k_b.weight", "self_attn.kv_b_proj.weight", mlaK}, {"attn_v_b.weight", "self_attn.kv_b_proj.weight", mlaV}})},
}

// layoutFor finds the layout of a config's architecture, nil when GGUF has none.
func layoutFor(class string) *layout {
	for _, l := range layouts {
		if slices.Contains(l.classes, class) {
			return l
		}
	}
	return nil
}

// expand spells out the endings of a pair.
func (p pair) expand() []pair {
	if strings.HasSuffix(p.gguf, ".weight") || strings.HasSuffix(p.gguf, ".bias") {
		return []pair{p}
	}
	return []pair{{p.gguf + ".weight", p.hf + ".weight", p.form}, {p.gguf + ".bias", p.hf + ".bias", p.form}}
}

// place is where a tensor belongs: its pair, spelled out, and the numbers in its names.
type place struct {
	pair
	layer  int // -1: outside the layers
	expert int // -1: none, or all of them
	order  int // of the pair in the layout
}

var (
	blockName    = regexp.MustCompile(`^blk\.(\d{1,5})\.(.+)$`)
	expertNumber = regexp.MustCompile(`\.experts\.(\d{1,6})\.`)
)

// stored finds the place of a GGUF tensor.
func (l *layout) stored(name string) (place, bool) {
	layer, rest := -1, name
	if m := blockName.FindStringSubmatch(name); m != nil {
		layer, _ = strconv.Atoi(m[1])
		rest = m[2]
	}
	p, ok := l.names(layer).stored[rest]
	p.layer = layer
	return p, ok
}

// published finds the places of a checkpoint's tensor; a fused one has several.
func (l *layout) published(name string) []place {
	layer, rest := -1, name
	if after, ok := strings.CutPrefix(name, l.layers); ok {
		number, part, _ := strings.Cut(after, ".")
		if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < 1<<16 {
			layer, rest = n, part
		}
	}
	expert := -1
	if m := expertNumber.FindStringSubmatch(rest); m != nil {
		expert, _ = strconv.Atoi(m[1])
		rest = expertNumber.ReplaceAllString(rest, ".experts.%d.")
	}
	found := slices.Clone(l.names(layer).published[rest])
	for i := range found {
		found[i].layer, found[i].expert = layer, expert
	}
	return found
}

// names are those of what a layer, or for -1 the model around the layers, may hold.
func (l *layout) names(layer int) names {
	l.once.Do(func() { l.around, l.inside = index(l.top), index(l.layer) })
	if layer < 0 {
		return l.around
	}
	return l.inside
}

func index(list []pair) names {
	n := names{map[string]place{}, map[string][]place{}}
	for i, p := range list {
		for _, q := range p.expand() {
			at := place{pair: q, expert: -1, order: i}
			n.stored[q.gguf] = at
			n.published[q.hf] = append(n.published[q.hf], at)
		}
	}
	return n
}

// ggufName is the name in a GGUF.
func (p place) ggufName() string {
	if p.layer < 0 {
		return p.gguf
	}
	return "blk." + strconv.Itoa(p.layer) + "." + p.gguf
}

// hfName is the published name; expert stands for the %d of experts.
func (p place) hfName(l *layout, expert int) string {
	name := p.hf
	if p.form == experts {
		name = strings.Replace(name, "%d", strconv.Itoa(expert), 1)
	}
	if p.layer < 0 {
		return name
	}
	return l.layers + strconv.Itoa(p.layer) + "." + name
}

// sortPlaces puts what precedes the layers first, and each layer's parts in the order of the layout.
func sortPlaces[T any](list []T, at func(T) place) {
	key := func(p place) int {
		if p.layer < 0 && p.order > 0 { // the last norm and the head
			return 1 << 16
		}
		return p.layer
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := at(list[i]), at(list[j])
		if ka, kb := key(a), key(b); ka != kb {
			return ka < kb
		}
		return a.order < b.order
	})
}
