package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Task is what is to be done with a model.
type Task string

// The tasks.
const (
	Pretrain  Task = "pretrain"
	Full      Task = "full" // fine-tuning of all parameters
	LoRA      Task = "lora"
	QLoRA     Task = "qlora" // LoRA on quantized weights
	RLHF      Task = "rlhf"  // PPO: policy and critic are trained, reference and reward model are read
	Inference Task = "inference"
)

// Tasks lists them.
var Tasks = []Task{Pretrain, Full, LoRA, QLoRA, RLHF, Inference}

// Precision is how weights are kept and multiplied.
type Precision string

// The precisions. Training in BF16, FP16 or FP8 is mixed: the optimiser holds float32 parameters and moments. PureBF16
// keeps everything in two bytes.
const (
	FP32     Precision = "fp32"
	BF16     Precision = "bf16"
	FP16     Precision = "fp16"
	PureBF16 Precision = "pure_bf16"
	FP8      Precision = "fp8"
	INT8     Precision = "int8"
	INT4     Precision = "int4"
)

// Precisions lists them.
var Precisions = []Precision{FP32, BF16, FP16, PureBF16, FP8, INT8, INT4}

// Checkpointing says which activations training keeps for the backward pass.
type Checkpointing string

// The policies of Korthikanti et al.: keep all, all but attention's scores, or each layer's input.
const (
	KeepAll   Checkpointing = "none"
	Selective Checkpointing = "selective"
	KeepInput Checkpointing = "full"
)

// Policies lists them.
var Policies = []Checkpointing{KeepAll, Selective, KeepInput}

// oneOf checks a word of the request.
func oneOf[T ~string](key string, got T, list []T) error {
	if slices.Contains(list, got) {
		return nil
	}
	return fmt.Errorf("plan: %s: want %s, got %q", key, strings.Join(words(list), ", "), string(got))
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

// Bits of a packed weight with its scales, in inference and in QLoRA.
const (
	// Groups of 128 with a 16-bit scale and a zero point of the weights' own width, as in GPTQ and AWQ.
	int4Bits = 4 + (16.0+4)/128
	int8Bits = 8 + (16.0+8)/128
	fp8Bits  = 8 + 32.0/(128*128) // blocks of 128x128 with a float32 scale (DeepSeek-V3, arXiv:2412.19437 section 3.3.2)
	// NF4 in blocks of 64 with scales that are quantized themselves (QLoRA, arXiv:2305.14314 section 3).
	nf4Bits = 4 + 8.0/64 + 32.0/(64*256)
	// LLM.int8 has a float32 scale for each row; rows have thousands of values.
	rowInt8Bits = 8
)

// weightBytes is the size of a model's weights. Quantization packs the matrices of the layers; embedding, head and norms
// stay in 16 bits.
func (s *Shape) weightBytes(p Precision, t Task) float64 {
	bits := 16.0
	switch p {
	case FP32:
		return 4 * float64(s.ParamsTotal)
	case FP8:
		if t == Inference { // products of training round 16-bit weights
			bits = fp8Bits
		}
	case INT8:
		if bits = int8Bits; t == QLoRA {
			bits = rowInt8Bits
		}
	case INT4:
		if bits = int4Bits; t == QLoRA {
			bits = nf4Bits
		}
	}
	return float64(s.Matrices)*bits/8 + 2*float64(s.ParamsTotal-s.Matrices)
}
