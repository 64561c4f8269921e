package family

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
	"danlu/vision"
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

// batch is the reference data's inputs.
type batch struct {
	ids, positions, segments, targets []int32
	prefix                            []int32 // nil: causal
	b, t, rows                        int
	scored                            int
	real                              []bool                    // places that count
	images                            map[string]*tensor.Tensor // inputs of the vision tower; nil: none
}

func (v *verification) batch() (*batch, error) {
	ids, err := v.ints("input_ids")
	if err != nil {
		return nil, err
	}
	x := &batch{ids: ids.I32(), b: ids.Shape[0], t: ids.Shape[1], rows: v.model.Info().PositionRows}
	if err := v.readImages(x); err != nil {
		return nil, err
	}
	n := x.b * x.t
	x.segments, x.real, x.targets = make([]int32, n), make([]bool, n), make([]int32, n)
	for i := range x.real {
		x.real[i] = true
	}
	if err := v.readMask(x); err != nil {
		return nil, err
	}
	if err := v.readPositions(x); err != nil {
		return nil, err
	}
	if v.has("targets") {
		return x, v.readTargets(x)
	}
	labels := x.ids
	if v.has("labels") {
		l, err := v.ints("labels")
		if err != nil {
			return nil, err
		}
		labels = l.I32()
	}
	for i := range x.targets {
		x.targets[i] = -100
		if i%x.t+1 < x.t && labels[i+1] >= 0 {
			x.targets[i] = labels[i+1]
			x.scored++
		}
	}
	return x, nil
}

// readImages reads the pixels of families with a vision tower; Yi-VL's text grows by the patches.
func (v *verification) readImages(x *batch) error {
	if !v.has("pixel_values") {
		return nil
	}
	pixels, err := v.file.Tensor("pixel_values")
	if err != nil {
		return err
	}
	switch m := v.model.(type) {
	case *Qwen25VL:
		grid, err := v.ints("image_grid_thw")
		if err != nil {
			return err
		}
		var media []vision.Media
		for i := 0; i < grid.Len(); i += 3 {
			g := grid.I32()[i:]
			media = append(media, vision.Media{Grid: vision.Grid{T: int(g[0]), H: int(g[1]), W: int(g[2])}})
		}
		x.images, err = m.ImageInputs(x.ids, media, pixels.F32())
		return err
	case *YiVL:
		var rows []int32
		x.ids, rows = m.Expand(x.ids)
		x.b, x.t = 1, len(x.ids)
		x.images, err = m.ImageInputs(pixels.F32(), rows)
		return err
	}
	return fmt.Errorf("verify: pixel_values: the family reads no pictures")
}

// features computes the features of the tokens of a text, nil where they stand for no picture.
func (v *verification) features(ctx context.Context, x *batch) ([][]float32, error) {
	if x.images == nil {
		return nil, nil
	}
	g, err := graph.Build(func(g *graph.Graph) {
		b := &nn.Build{G: g, Policy: v.opts.Policy, Images: x.imageInputs(g)}
		g.Output("features", graph.Convert(v.model.(Viewer).Features(b), dtype.F32))
	})
	if err != nil {
		return nil, err
	}
	program, err := v.opts.Engine.Compile(g, v.store, engine.Options{})
	if err != nil {
		return nil, err
	}
	defer program.Close()
	out, err := program.Run(ctx, engine.Tensors(x.images))
	if err != nil {
		return nil, err
	}
	list, d := make([][]float32, len(x.ids)), v.model.Info().HiddenSize
	for i, at := range x.images["image_rows"].I32() {
		list[at] = slices.Clone(out["features"].F32()[i*d : (i+1)*d])
	}
	return list, nil
}

// imageInputs declares the inputs of the vision tower.
func (x *batch) imageInputs(g *graph.Graph) *nn.Images {
	p, n := x.images["patches"].Shape, x.images["image_rows"].Len()
	return nn.ImageInputs(g, p[0], p[1], p[0]/n, n)
}

// readMask reads which places count, or which see which: the latter must be a prefix in front of a causal mask.
func (v *verification) readMask(x *batch) error {
	if !v.has("attention_mask") {
		return nil
	}
	mask, err := v.ints("attention_mask")
	if err != nil {
		return err
	}
	m := mask.I32()
	if len(mask.Shape) == 2 {
		for i, seen := range m {
			if seen == 0 {
				x.segments[i], x.real[i] = -1, false
			}
		}
		return nil
	}
	for row := range x.b {
		at := func(i, j int) bool { return m[(row*x.t+i)*x.t+j] != 0 }
		p := 0
		for p < x.t && at(0, p) {
			p++
		}
		for i := range x.t {
			for j := range x.t {
				if at(i, j) != (j <= i || j < p) {
					return fmt.Errorf("verify: attention_mask: row %d is no prefix mask", row)
				}
			}
		}
		x.prefix = append(x.prefix, int32(p))
	}
	return nil
}

// readPositions reads the position rows, [B, T], [B, P, T] or, for three rows, [P, B, T].
func (v *verification) readPositions(x *batch) error {
	n := x.b * x.t
	x.positions = make([]int32, x.rows*n)
	if !v.has("position_ids") {
		for i := range x.positions {
			x.positions[i] = int32(i % x.t)
		}
		return nil
	}
	p, err := v.ints("position_ids")
	if err != nil {
		return err
	}
	if p.Len() != len(x.positions) {
		return fmt.Errorf("verify: position_ids: want %d rows, got %v", x.rows, p.Shape)
	}
	for r := range x.rows {
		for row := range x.b {
			from := (r*x.b + row) * x.t
			if x.rows == 2 {
				from = (row*x.rows + r) * x.t
			}
			copy(x.positions[(r*x.b+row)*x.t:(r*x.b+row+1)*x.t], p.I32()[from:from+x.t])
		}
	}
	return nil
}

// readTargets reads blank-infilling targets, which stand at the places that predict them.
func (v *verification) readTargets(x *batch) error {
	targets, err := v.ints("targets")
	if err != nil {
		return err
	}
	mask, err := v.ints("loss_mask")
	if err != nil {
		return err
	}
	for i := range x.targets {
		x.targets[i] = -100
		if mask.I32()[i] != 0 {
			x.targets[i] = targets.I32()[i]
			x.scored++
		}
	}
	return nil
}

// scoredAhead counts the targets of a module that predicts the token after the next.
func (x *batch) scoredAhead() int {
	n := 0
	for i, t := range x.targets {
		if t >= 0 && i%x.t > 0 {
			n++
		}
	}
	return n
}

// tensors are the inputs of the training graph.
func (x *batch) tensors() engine.Tensors {
	in := x.tensors0()
	scalar := func(n int) *tensor.Tensor { return tensor.FromF32([]float32{1 / float32(max(1, n))}) }
	in["targets"], in["norm"], in["norm_ahead"] = tensor.FromI32(x.targets, x.b, x.t), scalar(x.scored), scalar(x.scoredAhead())
	return in
}

// tensors0 are the inputs of a graph without a loss.
func (x *batch) tensors0() engine.Tensors {
	in := engine.Tensors{"ids": tensor.FromI32(x.ids, x.b, x.t), "positions": tensor.FromI32(x.positions, x.rows, x.b, x.t), "segments": tensor.FromI32(x.segments, x.b, x.t)}
	if x.prefix != nil {
		in["prefix"] = tensor.FromI32(x.prefix, x.b)
	}
	maps.Copy(in, x.images)
	return in
}

// inputs declares the graph's inputs.
func (x *batch) inputs(g *graph.Graph, policy nn.Policy) *nn.Build {
	b := nn.Inputs(g, policy, x.rows, x.b, x.t)
	if x.prefix != nil {
		b.Mask.Prefix = g.Input("prefix", graph.Of(dtype.I32, x.b))
	}
	if x.images != nil {
		b.Images = x.imageInputs(g)
	}
	return b
}

// forward checks logits, hidden states, loss and gradients, and then the documented variants.
func (v *verification) forward(ctx context.Context) error {
	x, err := v.batch()
	if err != nil {
		return err
	}
	g, out, err := v.train(ctx, v.model, x)
	if err != nil {
		return err
	}
	if err := v.compareAll(out, g, x); err != nil {
		return err
	}
	if v.golden.Loss != nil {
		got := float64(out["loss"].F32()[0])
		v.res.LossErr = math.Abs(got-*v.golden.Loss) / math.Abs(*v.golden.Loss)
	}
	return v.variants(ctx, x)
}

// train runs the training graph of a model, with every tap.
func (v *verification) train(ctx context.Context, m Model, x *batch) (*graph.Graph, engine.Tensors, error) {
	g, err := graph.Build(func(g *graph.Graph) {
		b := x.inputs(g, v.opts.Policy)
		b.Taps = true
		hidden := m.Hidden(b)
		head := m.Head(b)
		g.Output("logits", b.Logits(hidden, head))
		targets := g.Input("targets", graph.Of(dtype.I32, x.b, x.t))
		loss := nn.CrossEntropy(b.Score(hidden, head, targets, false), g.Input("norm", graph.Of(dtype.F32)))
		if mt, ok := m.(MultiToken); ok {
			if ahead := mt.MTPHidden(b, hidden); ahead != nil {
				g.Output("mtp_logits", b.Logits(ahead, head))
				score := b.Score(ahead, head, graph.Cut(targets, 1, 1, x.t), false)
				mtp := nn.CrossEntropy(score, g.Input("norm_ahead", graph.Of(dtype.F32)))
				loss = graph.Add(loss, graph.MulScalar(mtp, v.golden.MTPLambda))
			}
		}
		g.Output("loss", loss)
		var params []*graph.Value
		for _, s := range g.States() {
			if spec := s.Node.Op.(graph.State); spec.Role == graph.Param {
				params = append(params, s)
			}
		}
		for i, d := range graph.Grad(loss, params, graph.GradOptions{}) {
			g.Output("grad."+params[i].Node.Op.(graph.State).Key(), d)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	program, err := v.opts.Engine.Compile(g, v.store, engine.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer program.Close()
	in := x.tensors()
	for _, name := range []string{"norm_ahead"} {
		if !slices.ContainsFunc(g.Inputs(), func(i *graph.Value) bool { return i.Node.Op.(graph.Input).Label == name }) {
			delete(in, name)
		}
	}
	out, err := program.Run(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	// The program's tensors go with it.
	for name, t := range out {
		out[name] = &tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: slices.Clone(t.Data)}
	}
	return g, out, nil
}

// variant is a documented variation of a family: a tensor of the reference data that a changed config must give.
type variant struct {
	prefix string // of the reference tensors
	change func(g *golden) map[string]json.RawMessage
	base   string // what stands for the prefix in the plain outputs
}

func setting(key, value string) func(*golden) map[string]json.RawMessage {
	return func(*golden) map[string]json.RawMessage {
		return map[string]json.RawMessage{key: json.RawMessage(value)}
	}
}

var variants = []variant{
	{"logits_inv_freq_fp16", setting("inv_freq_fp16", "true"), "logits"},
	{"logits_erf_gelu", setting("hidden_act", `"gelu"`), "logits"},
	{"grad_shrink.", func(g *golden) map[string]json.RawMessage {
		return map[string]json.RawMessage{"embedding_gradient_shrink": json.RawMessage(strconv.FormatFloat(g.Shrink, 'g', -1, 64))}
	}, "grad."},
}

// variants checks the tensors of documented variants.
func (v *verification) variants(ctx context.Context, x *batch) error {
	for _, k := range variants {
		var names []string
		for _, n := range v.file.Names() {
			if strings.HasPrefix(n, k.prefix) {
				names = append(names, n)
			}
		}
		if names == nil {
			continue
		}
		m, err := v.configured(k.change(&v.golden))
		if err != nil {
			return err
		}
		g, out, err := v.train(ctx, m, x)
		if err != nil {
			return err
		}
		grads := gradients(g, out)
		for _, n := range names {
			want, err := v.file.Tensor(n)
			if err != nil {
				return err
			}
			plain := k.base + strings.TrimPrefix(n, k.prefix)
			got, scale, limit := out[plain], v.golden.MaxAbsLogit, tolLogits
			if grads[plain] != nil {
				got, scale, limit = grads[plain], maxAbs(want.F32()), tolGrad
			}
			if got == nil {
				continue
			}
			// Reported in units of the logits' tolerance, whatever the tensor's own.
			e := relErr(got.F32(), want.F32(), scale, nil, 1) * tolLogits / limit
			v.res.ExtraErr = worse(v.res.ExtraErr, e)
			v.checked[n] = true
		}
	}
	return nil
}

// gradients are the gradient outputs by the names of single tensors.
func gradients(g *graph.Graph, out engine.Tensors) map[string]*tensor.Tensor {
	grads := map[string]*tensor.Tensor{}
	for _, s := range g.States() {
		spec := s.Node.Op.(graph.State)
		if d := out["grad."+spec.Key()]; d != nil {
			size := len(d.Data) / spec.Parts()
			for i := range spec.Parts() {
				grads["grad."+spec.PartName(i)] = &tensor.Tensor{DType: d.DType, Shape: spec.PartType().Shape, Data: d.Data[i*size : (i+1)*size]}
			}
		}
	}
	return grads
}

// compareAll holds the program's outputs against the reference tensors of the same names.
func (v *verification) compareAll(out engine.Tensors, g *graph.Graph, x *batch) error {
	grads := gradients(g, out)
	for _, name := range v.file.Names() {
		want, err := v.file.Tensor(name)
		if err != nil {
			return err
		}
		if want.DType != dtype.F32 && !strings.HasPrefix(name, "router_topk_ids.") {
			continue // inputs
		}
		v.res.TensorsInGolden++
		switch {
		case strings.HasPrefix(name, "grad."):
			if got := grads[name]; got != nil {
				if e := relErr(got.F32(), want.F32(), v.gradScale(want), nil, 1); v.res.GradErr < e || e != e {
					v.res.GradErr, v.res.worstGrad = e, name
				}
				v.checked[name] = true
			}
		case name == "logits" || strings.HasPrefix(name, "hidden."):
			got := out[name]
			if got == nil || len(got.Data) != len(want.Data) {
				continue
			}
			e := relErr(got.F32(), want.F32(), v.golden.MaxAbsLogit, x.real, want.Shape[len(want.Shape)-1])
			if name == "logits" {
				v.res.LogitsErr = e
			} else {
				v.res.HiddenErr = worse(v.res.HiddenErr, e)
			}
			v.checked[name] = true
		case strings.HasPrefix(name, "router_topk_"):
			if err := v.compareRouting(out, name, want); err != nil {
				return err
			}
		case name == "pixel_values": // an input of the tower; the processor has tests of its own
			v.res.TensorsInGolden--
		default: // routers, prediction modules, vision towers
			if got := out[name]; got != nil && got.DType == dtype.F32 && len(got.Data) == len(want.Data) {
				v.res.ExtraErr = worse(v.res.ExtraErr, relErr(got.F32(), want.F32(), max(v.golden.MaxAbsLogit, maxAbs(want.F32())), nil, 1))
				v.checked[name] = true
			}
		}
	}
	return nil
}

// roundingShare of the largest gradient of all tensors is what rounding leaves where the true gradient is zero (the key
// bias of attention without rotation).
const roundingShare = 1e-4

// gradScale is what a gradient's error is relative to: its largest value, or the model's where it is rounding alone. A
// gradient of exact zeros has to be met exactly.
func (v *verification) gradScale(want *tensor.Tensor) float64 {
	own := maxAbs(want.F32())
	if own == 0 {
		return 0
	}
	if v.maxGrad == 0 {
		for _, n := range v.file.Names() {
			if t, err := v.file.Tensor(n); err == nil && strings.HasPrefix(n, "grad.") {
				v.maxGrad = max(v.maxGrad, maxAbs(t.F32()))
			}
		}
	}
	return max(own, roundingShare*v.maxGrad)
}

// compareRouting holds the chosen experts and their weights, which the reference data sorts by expert, against the
// program's.
func (v *verification) compareRouting(out engine.Tensors, name string, want *tensor.Tensor) error {
	layer := name[strings.LastIndex(name, ".")+1:]
	ids, w := out["router_topk_ids."+layer], out["router_topk_weights."+layer]
	if ids == nil || w == nil || ids.Len() != want.Len() {
		return nil
	}
	k := want.Shape[len(want.Shape)-1]
	choice := make([]int, k)
	for row := 0; row < ids.Len(); row += k {
		for i := range choice {
			choice[i] = row + i
		}
		slices.SortFunc(choice, func(a, b int) int { return int(ids.I32()[a] - ids.I32()[b]) })
		for i, at := range choice {
			e := 0.0
			if want.DType == dtype.I64 {
				if want.I64()[row+i] != int64(ids.I32()[at]) {
					e = math.Inf(1)
				}
			} else {
				e = math.Abs(float64(w.F32()[at])-float64(want.F32()[row+i])) / maxAbs(want.F32())
			}
			v.res.ExtraErr = worse(v.res.ExtraErr, e)
		}
	}
	v.checked[name] = true
	return nil
}

// cached checks generation with a KV cache, and that logits read through the cache are those of the forward pass.
func (v *verification) cached(ctx context.Context) error {
	path := v.golden.Greedy
	v.res.GreedyMatch = path == nil
	if v.opts.Cached == nil || path == nil {
		return nil
	}
	x, err := v.batch()
	if err != nil {
		return err
	}
	want := path.NewIDs
	if v.golden.GreedyCached != nil {
		want = v.golden.GreedyCached.NewIDs
	}
	m, err := v.opts.Cached(v.store, v.model, max(x.t, len(path.PromptIDs))+x.t+len(want)+1)
	if err != nil {
		return err
	}
	defer m.Close()
	if v.res.GreedyMatch, err = v.greedy(ctx, m, x, path.PromptIDs, want); err != nil {
		return err
	}
	if v.golden.GreedyCached != nil {
		return nil // keys in the cache keep the rotation of an earlier length: other logits by design
	}
	return v.cachedLogits(ctx, m, x)
}

// greedy continues a prompt and reports whether the tokens are the expected ones. A prompt with a picture has the
// reference batch's.
func (v *verification) greedy(ctx context.Context, m CachedModel, x *batch, prompt, want []int32) (bool, error) {
	text := slices.Clone(prompt)
	var features [][]float32
	if x.images != nil {
		var err error
		if text, features, err = v.pictured(ctx, x, prompt); err != nil {
			return false, err
		}
	}
	start := len(text)
	layout, _ := v.model.(Layouter)
	prefix := 0
	if layout != nil {
		_, prefix = layout.Layout(text)
	}
	m.Reset(prefix)
	for done := 0; ; {
		part := Text{IDs: text[done:]}
		if layout != nil {
			positions, _ := layout.Layout(text)
			if q, ok := v.model.(*Qwen25VL); ok && x.images != nil {
				var err error
				if positions, err = v.picturePositions(q, text); err != nil {
					return false, err
				}
			}
			for p := range positions {
				part.Positions = append(part.Positions, positions[p][done:])
			}
		}
		if done == 0 {
			part.Features = features
		}
		logits, err := m.Read(ctx, part)
		if err != nil {
			return false, err
		}
		done = len(text)
		n := len(text) - start
		if argmax(logits[len(logits)-1]) != want[n] {
			return false, nil
		}
		if n+1 == len(want) {
			return true, nil
		}
		text = append(text, want[n])
	}
}

// pictured lays the reference batch's picture out in a prompt: the prompt's text and the features of its tokens.
func (v *verification) pictured(ctx context.Context, x *batch, prompt []int32) (text []int32, features [][]float32, err error) {
	known, err := v.features(ctx, x)
	if err != nil {
		return nil, nil, err
	}
	var list [][]float32
	for _, f := range known {
		if f != nil {
			list = append(list, f)
		}
	}
	text = prompt
	isPicture := func(id int32) bool { return false }
	switch m := v.model.(type) {
	case *Qwen25VL:
		isPicture = func(id int32) bool { return id == m.MRoPE.ImageToken }
	case *YiVL:
		var rows []int32
		text, rows = m.Expand(prompt)
		at := map[int]bool{}
		for _, r := range rows {
			at[int(r)] = true
		}
		features = make([][]float32, len(text))
		for i := range text {
			if at[i] && len(list) > 0 {
				features[i], list = list[0], list[1:]
			}
		}
		return slices.Clone(text), features, nil
	}
	features = make([][]float32, len(text))
	for i, id := range text {
		if isPicture(id) && len(list) > 0 {
			features[i], list = list[0], list[1:]
		}
	}
	return slices.Clone(text), features, nil
}

// picturePositions numbers a text with the reference batch's picture.
func (v *verification) picturePositions(m *Qwen25VL, text []int32) ([][]int32, error) {
	grid, err := v.ints("image_grid_thw")
	if err != nil {
		return nil, err
	}
	g := grid.I32()
	rows, err := m.MRoPE.Positions(text, []vision.Media{{Grid: vision.Grid{T: int(g[0]), H: int(g[1]), W: int(g[2])}}})
	return rows[:], err
}

func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

// cachedLogits reads every row of the reference batch in passes of growing size.
func (v *verification) cachedLogits(ctx context.Context, m CachedModel, x *batch) error {
	want, err := v.file.Tensor("logits")
	if err != nil {
		return err
	}
	vocab := want.Shape[len(want.Shape)-1]
	features, err := v.features(ctx, x)
	if err != nil {
		return err
	}
	for row := range x.b {
		var ids []int32
		var places []int
		var pictures [][]float32
		positions := make([][]int32, x.rows)
		for i := row * x.t; i < (row+1)*x.t; i++ {
			if x.real[i] {
				ids, places = append(ids, x.ids[i]), append(places, i)
				if features != nil {
					pictures = append(pictures, features[i])
				}
				for p := range x.rows {
					positions[p] = append(positions[p], x.positions[p*x.b*x.t+i])
				}
			}
		}
		m.Reset(x.prefixOf(row))
		for at, size := 0, x.firstPass(row); at < len(ids); size = size%5 + 1 {
			end := min(at+size, len(ids))
			part := make([][]int32, x.rows)
			for p := range part {
				part[p] = positions[p][at:end]
			}
			text := Text{IDs: ids[at:end], Positions: part, Total: len(ids)}
			if pictures != nil {
				text.Features = pictures[at:end]
			}
			logits, err := m.Read(ctx, text)
			if err != nil {
				return err
			}
			for k, l := range logits {
				place := places[at+k]
				e := relErr(l, want.F32()[place*vocab:(place+1)*vocab], v.golden.MaxAbsLogit, nil, 1)
				v.res.CachedLogitsErr = worse(v.res.CachedLogitsErr, e)
			}
			at = end
		}
	}
	return nil
}

// prefixOf is the number of first tokens of a row that see each other both ways.
func (x *batch) prefixOf(row int) int {
	if x.prefix == nil {
		return 0
	}
	return int(x.prefix[row])
}

// firstPass is the size of a row's first pass: tokens that see each other both ways have to come together.
func (x *batch) firstPass(row int) int { return max(1, x.prefixOf(row)) }

// padded checks that padding on both sides leaves the logits of every row alone.
func (v *verification) padded(ctx context.Context) error {
	x, err := v.batch()
	if err != nil {
		return err
	}
	const left, right = 3, 2
	t := x.t + left + right
	y := &batch{b: x.b, t: t, rows: x.rows, ids: make([]int32, x.b*t), positions: make([]int32, x.rows*x.b*t), segments: make([]int32, x.b*t)}
	for i := range y.segments {
		y.segments[i] = -1
	}
	for _, p := range x.prefix {
		y.prefix = append(y.prefix, p+left)
	}
	if x.images != nil {
		y.images = maps.Clone(x.images)
		rows := slices.Clone(x.images["image_rows"].I32())
		for i, r := range rows {
			rows[i] = int32(int(r)/x.t*t + left + int(r)%x.t)
		}
		y.images["image_rows"] = tensor.FromI32(rows, len(rows))
	}
	for row := range x.b {
		copy(y.ids[row*t+left:], x.ids[row*x.t:(row+1)*x.t])
		copy(y.segments[row*t+left:], x.segments[row*x.t:(row+1)*x.t])
		for p := range x.rows {
			copy(y.positions[(p*x.b+row)*t+left:], x.positions[(p*x.b+row)*x.t:(p*x.b+row+1)*x.t])
		}
	}
	g, err := graph.Build(func(g *graph.Graph) {
		b := y.inputs(g, v.opts.Policy)
		g.Output("logits", b.Logits(v.model.Hidden(b), v.model.Head(b)))
	})
	if err != nil {
		return err
	}
	program, err := v.opts.Engine.Compile(g, v.store, engine.Options{})
	if err != nil {
		return err
	}
	defer program.Close()
	in := y.tensors0()
	out, err := program.Run(ctx, in)
	if err != nil {
		return err
	}
	want, err := v.file.Tensor("logits")
	if err != nil {
		return err
	}
	vocab := want.Shape[len(want.Shape)-1]
	got := out["logits"].F32()
	for row := range x.b {
		e := relErr(got[(row*t+left)*vocab:(row*t+left+x.t)*vocab], want.F32()[row*x.t*vocab:(row+1)*x.t*vocab], v.golden.MaxAbsLogit, x.real[row*x.t:(row+1)*x.t], vocab)
		v.res.PaddedLogitsErr = worse(v.res.PaddedLogitsErr, e)
	}
	return nil
}

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

func maxAbs(x []float32) float64 {
	m := 0.0
	for _, v := range x {
		m = max(m, math.Abs(float64(v)))
	}
	return m
}

// worse is the larger error; NaN is the worst.
func worse(a, b float64) float64 {
	if a != a || b > a || b != b {
		if a != a {
			return a
		}
		return b
	}
	return a
}

// relErr is the largest difference over scale, of the rows of the given width that are real (nil: all). Where scale is
// zero, any difference is infinite. NaN comes through.
func relErr(got, want []float32, scale float64, real []bool, width int) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range want {
		if real != nil && !real[i/width] {
			continue
		}
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if d != d {
			return d
		}
		worst = max(worst, d)
	}
	if worst == 0 {
		return 0
	}
	return worst / scale
}
