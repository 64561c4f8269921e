package plan

import (
	"math"

	"danlu/hardware"
)

// efficiency is the share of the dense 16-bit peak that training sustained on A100-80GB cards: the geometric mean over
// the published LLaMA and Llama 2 runs (arXiv:2302.13971 table 15, arXiv:2307.09288 table 2), with the work of attention
// counted. TestGoldenTrainingRuns fits it again.
const efficiency = 0.4442

// The card to which efficiency belongs: FLOP/s of its 16-bit peak, and bytes a second from memory.
const fittedPeak, fittedBandwidth = 312e12, 2039e9

// peak is a card's dense FLOP/s in the products of a precision.
func peak(g *hardware.GPU, p Precision) float64 {
	switch {
	case p == FP32:
		return g.TFLOPS32 * 1e12
	case p == FP8 && g.TFLOPSFP8 > 0:
		return g.TFLOPSFP8 * 1e12
	}
	return g.TFLOPS16 * 1e12
}

// Sustained is the FLOP/s that training keeps up on one card. Generations gained more in products than in what feeds
// them: the share of the peak falls with the root of memory bandwidth over peak, relative to the card on which the
// efficiency was fitted; a card with more bandwidth for its peak gains nothing. No run's own efficiency goes in.
func Sustained(g *hardware.GPU, p Precision) float64 {
	flops := peak(g, p)
	fed := g.Bandwidth * 1e9 / flops * (fittedPeak / fittedBandwidth)
	return efficiency * flops * min(1, math.Sqrt(fed))
}

// pretrainContext is the length of the texts of pretraining where the model's own context is longer: long contexts are
// trained in a short stage at the end. 4,096 is what most reports state (Llama 2, Baichuan 2, Yi, Qwen2.5, DeepSeek-V3);
// Llama 3 used 8,192.
const pretrainContext = 4096

// TrainingFLOPs is what pretraining does for one token: forwards once and backwards twice, two operations for each active
// parameter, and attention in texts of the given length. Computing activations again is not in it.
func (s *Shape) TrainingFLOPs(context int) float64 {
	return 6*float64(s.ParamsActive) + 3*s.attentionFLOPs(context)
}
