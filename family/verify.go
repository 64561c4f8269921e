package family

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/format/safetensors"
	"danlu/nn"
	"danlu/tensor"
	"danlu/weights"
)

// VerifyOptions says how a model folder is held against the reference data beside it.
type VerifyOptions struct {
	Engine engine.Engine
	Policy nn.Policy
	// Tol multiplies every tolerance; 0 means 1. Types below float32 need more.
	Tol float64
	// Cached runs the model over a KV cache; set by the caller, since generation is a later package.
	Cached CachedRun
}

// CachedRun opens a model for reading texts of up to capacity tokens through a KV cache.
type CachedRun func(store engine.Store, m Model, capacity int) (CachedModel, error)

// CachedModel reads one text after the other.
type CachedModel interface {
	// Read extends the text and returns the logits of each new token.
	Read(ctx context.Context, t Text) ([][]float32, error)
	// Reset starts a new text, whose first prefix tokens see each other both ways.
	Reset(prefix int)
	Close() error
}

// Text is a part of a text to be read.
type Text struct {
	IDs       []int32
	Positions [][]int32   // [P][len(IDs)]; nil: counting up in every row
	Total     int         // tokens that the text will have; 0: what it has after this part
	Features  [][]float32 // [len(IDs)][D]: of tokens that stand for pictures; nil: none
}

// VerifyResult is how far a model is from its reference data. Errors are relative to the largest reference value:
// of all logits for logits and hidden states, of the same tensor for gradients.
type VerifyResult struct {
	Case            string   `json:"case"`
	LogitsErr       float64  `json:"logits_err"`
	HiddenErr       float64  `json:"hidden_err"`
	ExtraErr        float64  `json:"extra_err"`
	LossErr         float64  `json:"loss_err"`
	GradErr         float64  `json:"grad_err"`
	CachedLogitsErr float64  `json:"cached_logits_err"`
	PaddedLogitsErr float64  `json:"padded_logits_err"`
	GreedyMatch     bool     `json:"greedy_match"`
	TensorsInGolden int      `json:"tensors_in_golden"`
	TensorsChecked  int      `json:"tensors_checked"`
	OK              bool     `json:"ok"`
	Why             []string `json:"why,omitempty"` // what missed its tolerance
	worstGrad       string
}

// The tolerances of the reference data: independent float32 implementations agree to 3e-6, structural mistakes move the
// logits by more than 2e-4.
const (
	tolLogits = 2e-4
	tolGrad   = 1e-3
	tolLoss   = 1e-5
)

// golden is the JSON beside the tensors.
type golden struct {
	Loss         *float64                   `json:"loss"`
	MaxAbsLogit  float64                    `json:"max_abs_logit"`
	Overrides    map[string]json.RawMessage `json:"overrides"`
	Tokens       map[string]int             `json:"tokens"` // special tokens of families whose config does not name them
	MTPLambda    float64                    `json:"mtp_lambda"`
	Shrink       float64                    `json:"embedding_gradient_shrink"`
	Greedy       *greedyPath                `json:"greedy"`
	GreedyCached *greedyPath                `json:"greedy_with_kv_cache"`
}

type greedyPath struct {
	PromptIDs []int32 `json:"prompt_ids"`
	NewIDs    []int32 `json:"new_ids"`
}

// verification is one case being checked.
type verification struct {
	opts    VerifyOptions
	dir     string
	config  []byte
	model   Model
	store   engine.Store
	golden  golden
	file    *safetensors.File
	res     *VerifyResult
	checked map[string]bool
	maxGrad float64 // of all reference gradients
}

// Verify holds the model in dir against golden.safetensors and golden.json beside it.
func Verify(ctx context.Context, dir string, opts VerifyOptions) (*VerifyResult, error) {
	if opts.Tol == 0 {
		opts.Tol = 1
	}
	v := &verification{opts: opts, dir: dir, res: &VerifyResult{Case: filepath.Base(filepath.Clean(dir))}, checked: map[string]bool{}}
	data, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if err := json.Unmarshal(data, &v.golden); err != nil {
		return nil, fmt.Errorf("verify: %s: golden.json: %w", dir, err)
	}
	if v.config, err = os.ReadFile(filepath.Join(dir, "config.json")); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if v.model, err = v.configured(nil); err != nil {
		return nil, err
	}
	if v.file, err = safetensors.Open(filepath.Join(dir, "golden.safetensors")); err != nil {
		return nil, err
	}
	defer v.file.Close()
	v.store = opts.Engine.NewStore()
	defer v.store.Close()
	src, err := weights.Open(dir, weights.OpenOptions{Skip: []string{"golden.safetensors", "golden_video.safetensors"}})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if src, err = weights.Dequantized(src, v.config); err != nil {
		return nil, err
	}
	if err := v.load(src); err != nil {
		return nil, err
	}
	if err := v.forward(ctx); err != nil {
		return nil, err
	}
	if err := v.cached(ctx); err != nil {
		return nil, err
	}
	if err := v.padded(ctx); err != nil {
		return nil, err
	}
	v.finish()
	return v.res, nil
}

// configured makes the model with the reference data's overrides and further ones.
func (v *verification) configured(more map[string]json.RawMessage) (Model, error) {
	c, err := ParseConfig(filepath.Join(v.dir, "config.json"), v.config)
	if err != nil {
		return nil, err
	}
	for name, id := range v.golden.Tokens {
		if !c.Has(name + "_token_id") {
			c.raw[name+"_token_id"] = json.RawMessage(strconv.Itoa(id))
		}
	}
	for _, set := range []map[string]json.RawMessage{v.golden.Overrides, more} {
		for key, value := range set {
			c.raw[key] = value
		}
	}
	return New(c)
}

// load declares the model's states and fills them.
func (v *verification) load(src weights.Source) error {
	specs, err := Params(v.model)
	if err != nil {
		return err
	}
	opts := weights.LoadOptions{Ignored: v.model.Info().Ignored}
	if err := weights.Check(specs, src, opts); err != nil {
		return err
	}
	for _, spec := range specs {
		if err := v.store.Declare(spec); err != nil {
			return err
		}
	}
	return weights.Load(v.store, specs, src, opts)
}

// ints reads an integer tensor of the reference data as int32.
func (v *verification) ints(name string) (*tensor.Tensor, error) {
	t, err := v.file.Tensor(name)
	if err != nil {
		return nil, err
	}
	if t.DType != dtype.I64 {
		return nil, fmt.Errorf("verify: %s: want i64, got %v", name, t.DType)
	}
	out := make([]int32, t.Len())
	for i, x := range t.I64() {
		out[i] = int32(x)
	}
	return tensor.FromI32(out, t.Shape...), nil
}

func (v *verification) has(name string) bool { return slices.Contains(v.file.Names(), name) }

// finish decides.
func (v *verification) finish() {
	r, tol := v.res, v.opts.Tol
	r.TensorsChecked = len(v.checked)
	check := func(name string, got, limit float64) {
		if !(got <= limit) {
			r.Why = append(r.Why, fmt.Sprintf("%s %.3g above %.3g", name, got, limit))
		}
	}
	check("logits", r.LogitsErr, tolLogits*tol)
	check("hidden", r.HiddenErr, tolLogits*tol)
	check("extra", r.ExtraErr, tolLogits*tol)
	check("cached logits", r.CachedLogitsErr, tolLogits*tol)
	check("padded logits", r.PaddedLogitsErr, tolLogits*tol)
	check("gradient of "+strings.TrimPrefix(r.worstGrad, "grad."), r.GradErr, tolGrad*tol)
	check("loss", r.LossErr, tolLoss*tol)
	if !r.GreedyMatch && v.golden.Greedy != nil && tol == 1 {
		r.Why = append(r.Why, "greedy tokens differ")
	}
	if r.TensorsChecked != r.TensorsInGolden {
		for _, n := range v.file.Names() {
			if t, err := v.file.Tensor(n); err == nil && t.DType == dtype.F32 && !v.checked[n] {
				r.Why = append(r.Why, "not checked: "+n)
				break
			}
		}
	}
	r.OK = len(r.Why) == 0
}
