package weights

import (
	"fmt"
	"strings"

	"danlu/dtype"
	"danlu/quant"
)

// Mix says in which types matrices are stored: most in Base; with More, the output matrix and in some layers the value
// and down projections, which lose most by rounding, in that type (llama.cpp's mixes _M).
type Mix struct{ Base, More dtype.DType }

// ParseMix reads the name of a type or of a mix: q4_0, q8_0, f16, q4_k_m, ...
func ParseMix(name string) (Mix, error) {
	switch name {
	case "q4_k_m":
		return Mix{dtype.Q4_K, dtype.Q6_K}, nil
	case "q5_k_m":
		return Mix{dtype.Q5_K, dtype.Q6_K}, nil
	}
	d, err := dtype.Parse(name)
	if err != nil || !quant.CanQuantize(d) || !storable(d) {
		return Mix{}, fmt.Errorf("weights: want f32, bf16, f16, q8_0, q6_k, q5_k, q5_k_m, q4_k, q4_k_m, q5_1, q5_0, q4_1, q4_0, q3_k or q2_k, got %q", name)
	}
	return Mix{Base: d}, nil
}

// of is the type of a matrix: whether it is the output's or a sensitive one of a layer, which of how many.
func (m Mix) of(output, sensitive bool, layer, layers int) dtype.DType {
	if m.More != dtype.Invalid && (output || sensitive && moreBits(layer, layers)) {
		return m.More
	}
	return m.Base
}

// moreBits picks the layers whose sensitive matrices are stored better: the first and last eighth and every third between.
func moreBits(layer, layers int) bool {
	eighth := layers / 8
	return layer < eighth || layer >= 7*layers/8 || (layer-eighth)%3 == 2
}

// sensitiveNames are the published names of the projections that a mix treats better.
var sensitiveNames = []string{".v_proj.weight", ".down_proj.weight", ".dense_4h_to_h.weight"}

func sensitive(name string) bool {
	for _, s := range sensitiveNames {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

// layerOf is the first number in a published name, -1 when there is none.
func layerOf(name string) int {
	for _, part := range strings.Split(name, ".") {
		var n int
		if len(part) > 0 && part[0] >= '0' && part[0] <= '9' {
			if _, err := fmt.Sscanf(part, "%d", &n); err == nil {
				return n
			}
		}
	}
	return -1
}

// isOutput reports whether a published name is the output matrix's, or the embedding's when there is no other.
func isOutput(name string, tied bool) bool {
	return strings.HasPrefix(name, "lm_head.") || strings.HasSuffix(name, "output_layer.weight") || tied && strings.Contains(name, "embed")
}
