package family

import "danlu/nn"

func init() {
	register("qwen2", newQwen2, "Qwen2ForCausalLM")
	register("qwen3", newQwen3, "Qwen3ForCausalLM")
}

// readDualChunk reads how Qwen2.5-1M cuts long texts into chunks (arXiv:2501.15383).
func (m *Llama) readDualChunk(c *Config) {
	const key = "dual_chunk_attention_config"
	var d struct {
		Size     int `json:"chunk_size"`
		Local    int `json:"local_size"`
		Original int `json:"original_max_position_embeddings"`
	}
	if !c.get(key, &d) {
		return
	}
	if d.Size < 2 || d.Size > 1<<24 || d.Local < 1 || d.Local >= d.Size || d.Original < 0 || m.SlidingWindow > 0 {
		c.Errorf(key, "want 0 < local_size < chunk_size up to %d and no sliding window, got %d and %d", 1<<24, d.Local, d.Size)
		return
	}
	m.DualChunk = &nn.DualChunk{Size: d.Size, Local: d.Local, Original: d.Original}
}

// newQwen2 is Qwen 1.5, 2 (arXiv:2407.10671) and 2.5 (arXiv:2412.15115): LLaMA with biases on q, k and v.
func newQwen2(c *Config) (Model, error) {
	m := readLlama(c, 1e6)
	m.QKVBias = true
	m.readWindow(c)
	m.readDualChunk(c)
	return m.done(c, "qwen2")
}

// newQwen3 is Qwen3 (arXiv:2505.09388): no biases, RMSNorm of each head of q and k, a head size of its own.
func newQwen3(c *Config) (Model, error) {
	m := readLlama(c, 1e6)
	m.QKNorm = true
	m.QKVBias = c.BoolOr("attention_bias", false)
	m.OutBias = m.QKVBias
	m.readWindow(c)
	return m.done(c, "qwen3")
}

// readWindow reads Qwen's sliding window, which starts at layer max_window_layers.
func (m *Llama) readWindow(c *Config) {
	window, full := c.IntOr("sliding_window", 4096), c.IntOr("max_window_layers", 28)
	if c.BoolOr("use_sliding_window", false) {
		m.SlidingWindow, m.FullLayers = window, min(full, m.NumLayers)
	}
}
