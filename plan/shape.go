package plan

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"danlu/adapter"
	"danlu/dtype"
	"danlu/family"
	"danlu/graph"
	"danlu/hub"
	"danlu/nn"
)

// Shape is what a plan asks of a model.
type Shape struct {
	family.Facts
	Name     string
	Layers   int
	Hidden   int
	Vocab    int
	Context  int // tokens that the model is made for; 0: unknown
	Heads    int
	Matrices int64 // values of the matrices that quantization packs: all but embedding, head and norms
	Experts  int   // of a layer; 0: none
	// ActiveExperts are those that one token uses in a layer.
	ActiveExperts int
	Routed        int64 // values of all experts' matrices
	Widest        int   // width of the widest input of a matrix in a layer
	CacheCuts     int   // cards over which matrix parallelism can spread the KV cache: the key heads, 1 where one vector serves all heads
	attention     int64 // over all layers, heads times the sum of the widths of a key and a value
	model         family.Model
	adapters      map[int]int64 // sizes of adapters by rank
}

// Open reads the shape of a preset, a model folder, a config.json, a GGUF file, or of a size such as "7B".
func Open(name string) (*Shape, error) {
	if n, ok, err := size(name); err != nil {
		return nil, err
	} else if ok {
		return ofSize(name, n)
	}
	name = hub.Resolve(name)
	if _, err := os.Stat(name); err == nil && strings.HasSuffix(name, ".gguf") {
		c, err := family.Open(name)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return measure(name, c.Model)
	}
	m, _, err := family.Shape(name)
	if err != nil {
		return nil, err
	}
	return measure(name, m)
}

var sizeName = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([bB])$`)

// The sizes for which a shape is made up.
const minSize, maxSize = 0.3e9, 5e12

// size reads "7B" as a number of parameters.
func size(name string) (n float64, ok bool, err error) {
	m := sizeName.FindStringSubmatch(name)
	if m == nil {
		return 0, false, nil
	}
	if n, err = strconv.ParseFloat(m[1], 64); err != nil {
		return 0, false, fmt.Errorf("plan: size %q: %w", name, err)
	}
	n *= 1e9
	if !(n >= minSize && n <= maxSize) {
		return 0, false, fmt.Errorf("plan: size %q: want 0.3B to 5000B; give a preset or a config.json for others", name)
	}
	return n, true, nil
}

// ofSize makes up a dense model of the LLaMA form with n parameters: heads of 128, as many heads as layers (7B has 32 of
// both, 405B 128 and 126), 8 key heads, and the feed-forward width that is left.
func ofSize(name string, n float64) (*Shape, error) {
	const head, kv, vocab = 128, 8, 32000
	// With attention of 2.25 and a feed-forward part of about 10 times hidden², a layer has near 12·hidden².
	layers := 8 * max(1, int(math.Round(math.Cbrt(n/(12*head*head))/8)))
	hidden := layers * head
	attention := 2*hidden*hidden + 2*hidden*kv*head
	ffn := (n - 2*vocab*float64(hidden) - float64(layers)*float64(attention)) / float64(layers*3*hidden)
	wide := 64 * max(1, int(math.Round(ffn/64)))
	config, err := json.Marshal(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_act": "silu", "hidden_size": hidden, "intermediate_size": wide,
		"num_hidden_layers": layers, "num_attention_heads": layers, "num_key_value_heads": kv, "head_dim": head, "vocab_size": vocab,
		"max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
	})
	if err != nil {
		return nil, err
	}
	m, _, err := family.Parse("size "+name, config)
	if err != nil {
		return nil, err
	}
	return measure(name, m)
}

func measure(name string, m family.Model) (*Shape, error) {
	facts, err := family.Count(m)
	if err != nil {
		return nil, err
	}
	info := m.Info()
	s := &Shape{Facts: facts, Name: name, Layers: info.NumLayers, Hidden: info.HiddenSize, Vocab: info.VocabSize, Context: info.MaxPosition, model: m, adapters: map[int]int64{}}
	modules, err := family.Modules(m)
	if err != nil {
		return nil, err
	}
	counted, err := graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, nn.Float32, info.PositionRows, 1, 3)
		m.Hidden(b)
		m.Head(b)
	})
	if err != nil {
		return nil, err
	}
	used := map[string]bool{} // without what only predicts further tokens
	for _, v := range counted.States() {
		spec := v.Node.Op.(graph.State).StateSpec
		used[spec.Key()] = true
	}
	for _, mod := range modules {
		if !used[mod.Weight.Key()] {
			continue
		}
		if mod.Kind == nn.LinearModule || mod.Kind == nn.ExpertModule {
			s.Matrices += int64(mod.Weight.Type.Len())
			s.Widest = max(s.Widest, mod.In)
		}
		if mod.Kind == nn.ExpertModule {
			s.Routed += int64(mod.Weight.Type.Len())
		}
	}
	if sparse, ok := m.(family.Sparse); ok {
		s.Experts, s.ActiveExperts = sparse.NumExperts(), sparse.ActiveExperts()
	}
	g, err := graph.Build(func(g *graph.Graph) { m.Hidden(nn.Inputs(g, nn.Float32, info.PositionRows, 1, 3)) })
	if err != nil {
		return nil, err
	}
	if whole := s.addAttention(g, 1); s.KVBytesPerToken < 2*whole {
		s.CacheCuts = 1 // latent attention (DeepSeek-V3) keeps less than its keys and values
	}
	return s, nil
}

// addAttention adds up the attention of a graph that runs so many times, and returns how many values one token's keys and
// values have.
func (s *Shape) addAttention(g *graph.Graph, times int) (kv int64) {
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case graph.Repeat:
			kv += s.addAttention(op.Body.Graph, times*op.N)
		case graph.Attention:
			q, v := n.In[graph.AttnQ].Type.Shape, n.In[graph.AttnV].Type.Shape
			s.Heads = max(s.Heads, q[2])
			s.CacheCuts = max(s.CacheCuts, v[2])
			s.attention += int64(times) * int64(q[2]) * int64(q[3]+v[3])
			kv += int64(times) * int64(v[2]) * int64(q[3]+v[3])
		}
	}
	return kv
}

// attentionFLOPs is what attention does for one token of a text of the given length, forwards, on average: half of the
// scores lie behind the causal mask.
func (s *Shape) attentionFLOPs(context int) float64 {
	return float64(s.attention) * float64(context)
}

// adapterParams is the number of values of a low-rank adapter on every linear layer.
func (s *Shape) adapterParams(rank int) (int64, error) {
	if n, ok := s.adapters[rank]; ok {
		return n, nil
	}
	set, err := adapter.Resolve(adapter.AllLinear(rank), s.model)
	if err != nil {
		return 0, err
	}
	n, err := set.Params()
	if err == nil {
		s.adapters[rank] = n
	}
	return n, err
}

// cacheBytes is what one token takes in the KV cache, in type d.
func (s *Shape) cacheBytes(d dtype.DType) float64 {
	return float64(s.KVBytesPerToken) / 2 * float64(d.Bytes(d.BlockLen())) / float64(d.BlockLen())
}
