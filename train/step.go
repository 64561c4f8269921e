package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/kernel"
	"danlu/nn"
	"danlu/tensor"
)

// Objective builds a loss: the scalar to be minimised, already multiplied by norm (one over the step's scored targets,
// or over what else the loss is a mean of), and further values to be reported: scalars, summed over the step's
// micro-batches, and tensors for tests. It may declare inputs of its own, which the batch carries as Extra.
type Objective func(b *nn.Build, m family.Model, targets, norm *graph.Value) (loss *graph.Value, report map[string]*graph.Value)

// CrossEntropy is the next-token objective, with a z-loss of the given coefficient (0: none), which is reported apart.
func CrossEntropy(zLoss float64) Objective { return NextToken{ZLoss: zLoss}.Objective() }

// Updater adds one optimiser step to a graph: it declares its own states for params, and updates both. lr, scale (of
// the gradients, for clipping) and step (from 1) are float32 scalars.
type Updater interface {
	Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, step *graph.Value)
}

// StepConfig is what a Stepper is made of.
type StepConfig struct {
	Engine    engine.Engine
	Store     engine.Store
	Model     family.Model
	Policy    nn.Policy
	Objective Objective
	Updater   Updater
	// Trainable reports whether a parameter is trained; nil: all are.
	Trainable func(spec *graph.StateSpec) bool
	Recompute func(n *graph.Node) bool
	// Prepare, if set, says what every build is to have: adapters, storage of weights.
	Prepare func(b *nn.Build)
	// BiasSpeed is by how much a step moves the biases of routers towards even loads; 0: not.
	BiasSpeed float64
	// Seed is of random operations such as dropout.
	Seed uint64
	// Accumulates says that steps have several micro-batches: one program then adds to gradients set to zero before,
	// instead of one program for the first and one for the others, each with an arena of its own.
	Accumulates bool
}

// Stepper computes gradients of micro-batches into the store and applies them. Programs are compiled for each batch
// shape when it first comes.
type Stepper struct {
	c        StepConfig
	params   []*graph.StateSpec
	programs map[shape]engine.Program
	used     []shape // of programs, the one used last at the end
	limit    int64   // of the programs' memory together; 0: none
	norm     engine.Program
	zero     engine.Program
	update   engine.Program
	step     int64  // the step whose gradients are being added up
	micro    uint32 // its micro-batches so far
	loads    loads  // its routers' choices so far
	// rank is this process's among the nodes processes of the run.
	rank, nodes int
}

// shape distinguishes programs: first says that gradients are set rather than added to, eval that there are none.
type shape struct {
	b, t, p     int
	prefix      bool
	features    int // tokens that stand for parts of pictures
	first, eval bool
	whole       bool // a step's update too
}

// NewStepper declares the model's parameters in the store (they keep what they hold) and compiles the update.
func NewStepper(c StepConfig) (*Stepper, error) {
	s := &Stepper{c: c, programs: map[shape]engine.Program{}, nodes: 1}
	if h, ok := c.Engine.(engine.Hosted); ok {
		s.rank, s.nodes = h.Host()
	}
	if s.nodes > 1 && !s.Whole() {
		return nil, fmt.Errorf("train: several nodes: want steps of one batch (gradient_accumulation_steps: 1) and no moe_bias_update_speed")
	}
	probe, err := graph.Build(func(g *graph.Graph) {
		b := s.build(g, c.Model.Info().PositionRows, 2, 2) // two rows, since some objectives take pairs
		c.Objective(b, c.Model, g.Input("targets", graph.Of(dtype.I32, 2, 2)), g.Input("norm", graph.Of(dtype.F32)))
	})
	if err != nil {
		return nil, err
	}
	for _, v := range probe.States() {
		spec := v.Node.Op.(graph.State).StateSpec
		if err := c.Store.Declare(spec); err != nil {
			return nil, err
		}
		if spec.Role == graph.Param && (c.Trainable == nil || c.Trainable(spec)) {
			s.params = append(s.params, spec)
		}
	}
	if len(s.params) == 0 {
		return nil, fmt.Errorf("train: nothing is trainable")
	}
	if s.Whole() {
		return s, nil // its parts are compiled when a step of several batches needs them
	}
	return s, s.compileParts()
}

// compileParts compiles what a step runs after its gradients, unless that was done.
func (s *Stepper) compileParts() error {
	if s.norm != nil {
		return nil
	}
	norm, err := graph.Build(func(g *graph.Graph) {
		g.Output("squares", graph.Squares(s.grads(g)...))
	})
	if err == nil {
		s.norm, err = s.c.Engine.Compile(norm, s.c.Store, engine.Options{})
	}
	if err == nil && s.c.Accumulates {
		err = s.compileZero()
	}
	if err != nil || s.c.Updater == nil {
		return err
	}
	update, err := graph.Build(func(g *graph.Graph) {
		scalar := func(name string) *graph.Value { return g.Input(name, graph.Of(dtype.F32)) }
		s.c.Updater.Update(g, s.states(g), s.grads(g), scalar("lr"), scalar("scale"), scalar("step"))
	})
	if err == nil {
		s.update, err = s.c.Engine.Compile(update, s.c.Store, engine.Options{})
	}
	return err
}

// states declares the trained parameters in g.
func (s *Stepper) states(g *graph.Graph) []*graph.Value {
	params := make([]*graph.Value, len(s.params))
	for i, spec := range s.params {
		params[i] = g.State(*spec)
	}
	return params
}

// compileZero compiles the program that sets all gradients to zero.
func (s *Stepper) compileZero() error {
	g, err := graph.Build(func(g *graph.Graph) {
		for _, d := range s.grads(g) {
			g.Update(d, graph.BroadcastTo(g.Scalar(0), d.Shape...))
		}
	})
	if err == nil {
		s.zero, err = s.c.Engine.Compile(g, s.c.Store, engine.Options{})
	}
	return err
}

// build declares the inputs of a batch of b rows of t tokens.
func (s *Stepper) build(g *graph.Graph, rows, b, t int) *nn.Build {
	x := nn.Inputs(g, s.c.Policy, rows, b, t)
	if s.c.Prepare != nil {
		s.c.Prepare(x)
	}
	return x
}

// Begin says which step (from 0) the next gradients belong to, so that its random numbers are those of any other run that
// comes to this step.
func (s *Stepper) Begin(step int64) { s.step, s.micro = step, 0 }

// random is the key of a micro-batch's random operations.
func (s *Stepper) random() *tensor.Tensor {
	key := kernel.Philox{Seed: uint32(s.c.Seed), Step: uint32(s.c.Seed >> 32), Stream: s.micro}.Block(uint64(s.step))
	s.micro++
	return tensor.FromU32(key[:2], 2)
}

// Params lists the trained parameters.
func (s *Stepper) Params() []*graph.StateSpec { return s.params }

// gradPrefix names the gradient buffers.
const gradPrefix = "grad."

// grads declares the gradient buffers in g.
func (s *Stepper) grads(g *graph.Graph) []*graph.Value {
	out := make([]*graph.Value, len(s.params))
	for i, p := range s.params {
		spec := *p
		spec.Label, spec.Role = gradPrefix+p.Label, graph.CacheRole
		spec.Type.DType = dtype.F32
		out[i] = g.State(spec)
	}
	return out
}

// program compiles the program of a shape.
func (s *Stepper) program(k shape) (engine.Program, error) {
	if p := s.programs[k]; p != nil {
		s.use(k)
		return p, nil
	}
	g, err := graph.Build(func(g *graph.Graph) {
		b := s.build(g, k.p, k.b, k.t)
		if !k.eval {
			b.Random = g.Input("random", graph.Of(dtype.U32, 2))
		}
		if k.prefix {
			b.Mask.Prefix = g.Input("prefix", graph.Of(dtype.I32, k.b))
		}
		if k.features > 0 {
			values, merged := s.c.Model.(family.Viewer).PatchShape()
			b.Images = nn.ImageInputs(g, k.features*merged, values, merged, k.features)
		}
		loss, report := s.c.Objective(b, s.c.Model, g.Input("targets", graph.Of(dtype.I32, k.b, k.t)), g.Input("norm", graph.Of(dtype.F32)))
		if k.eval {
			s.sumHosts(g, report, nil, nil)
			return
		}
		params := s.states(g)
		grads := graph.Grad(loss, params, graph.GradOptions{Recompute: s.c.Recompute})
		for i, d := range grads {
			grads[i] = graph.Convert(d, dtype.F32)
		}
		loss = s.sumHosts(g, report, loss, grads)
		if k.whole {
			s.finish(g, loss, params, grads)
			return
		}
		kept := s.grads(g)
		for i, d := range grads {
			if !k.first {
				d = graph.Add(kept[i], d)
			}
			g.Update(kept[i], d)
		}
	})
	if err != nil {
		return nil, err
	}
	p, err := s.c.Engine.Compile(g, s.c.Store, engine.Options{})
	if err != nil {
		return nil, err
	}
	s.programs[k] = p
	s.use(k)
	return p, s.shed()
}

// use notes that a program is needed now.
func (s *Stepper) use(k shape) {
	s.used = append(slices.DeleteFunc(s.used, func(u shape) bool { return u == k }), k)
}

// shed closes the programs that were not used for longest until the others keep to the limit.
func (s *Stepper) shed() error {
	for s.limit > 0 && len(s.used) > 1 && s.Memory() > s.limit {
		old := s.used[0]
		if err := s.programs[old].Close(); err != nil {
			return err
		}
		delete(s.programs, old)
		s.used = s.used[1:]
	}
	return nil
}

// Largest is the shape of a run's largest batch: P position rows of B rows of T tokens.
type Largest struct {
	B, T, P int
	Prefix  bool // rows have a prefix that sees itself both ways
	// Features are the tokens that stand for parts of pictures, of models that read them.
	Features int
}

func (l Largest) shape() shape {
	return shape{b: l.B, t: l.T, p: l.P, prefix: l.Prefix, features: l.Features}
}

// Reserve compiles the programs of the largest training batch and, where there is one, the largest validation batch,
// and returns what the run needs besides the store, in bytes. Programs of smaller batches, compiled when these come,
// take the place of those not used for longest rather than more memory.
func (s *Stepper) Reserve(train Largest, eval *Largest) (int64, error) {
	train.B /= s.nodes
	if eval != nil {
		part := *eval
		part.B /= s.nodes
		eval = &part
	}
	k := train.shape()
	k.first, k.whole = !s.c.Accumulates, s.Whole()
	if _, err := s.program(k); err != nil {
		return 0, err
	}
	if eval != nil {
		k := eval.shape()
		k.eval = true
		if _, err := s.program(k); err != nil {
			return 0, err
		}
	}
	s.limit = s.Memory()
	fixed := int64(0)
	for _, p := range []engine.Program{s.norm, s.zero, s.update} {
		fixed += bytesOf(p)
	}
	return s.limit + fixed, nil
}

func bytesOf(p engine.Program) int64 {
	if p == nil {
		return 0
	}
	m := p.Memory()
	return m.Activations + m.Scratch + m.Outputs
}

func shapeOf(x *data.Batch) shape {
	k := shape{b: x.B, t: x.T, p: x.P, prefix: x.Prefix != nil}
	if rows := x.Extra["image_rows"]; rows != nil {
		k.features = rows.Len()
	}
	return k
}

func inputs(x *data.Batch, norm float64) engine.Tensors {
	in := engine.Tensors(x.Tensors())
	delete(in, "labels")
	in["norm"] = tensor.FromF32([]float32{float32(norm)})
	return in
}

// report reads a program's scalar outputs.
func report(out engine.Tensors) map[string]float64 {
	r := make(map[string]float64, len(out))
	for name, t := range out {
		if t.DType == dtype.F32 && len(t.Shape) == 0 {
			r[name] = float64(t.F32()[0])
		}
	}
	return r
}

// Accumulate adds the gradients of a micro-batch; first starts a new sum. norm is one over the step's scored targets.
func (s *Stepper) Accumulate(ctx context.Context, x *data.Batch, norm float64, first bool) (map[string]float64, error) {
	if first {
		s.loads = loads{}
	}
	if err := s.compileParts(); err != nil {
		return nil, err
	}
	k := shapeOf(x)
	if k.first = first && !s.c.Accumulates; first && s.c.Accumulates {
		if _, err := s.zero.Run(ctx, nil); err != nil {
			return nil, err
		}
	}
	p, err := s.program(k)
	if err != nil {
		return nil, err
	}
	in := inputs(x, norm)
	in["random"] = s.random()
	out, err := p.Run(ctx, in)
	for name, t := range out {
		s.loads.add(name, t)
	}
	return report(out), err
}

// FirstNonFinite looks for the operation whose result is the first that is not finite in a step that was tried already; ""
// where the engine cannot tell or finds none. The gradients hold nothing of use afterwards.
func (s *Stepper) FirstNonFinite(ctx context.Context, batches []*data.Batch, norm float64) (string, error) {
	s.Begin(s.step)
	for i, x := range batches {
		k := shapeOf(x)
		k.first = i == 0 && !s.c.Accumulates
		p, err := s.program(k)
		if err != nil {
			return "", err
		}
		seeker, ok := p.(engine.Seeker)
		if !ok {
			return "", nil
		}
		in := inputs(x, norm)
		in["random"] = s.random()
		if at, err := seeker.FirstNonFinite(ctx, in); err != nil || at != "" {
			return at, err
		}
	}
	return "", nil
}

// Estimate foretells how long the gradients of a batch take. The gradients hold nothing of use afterwards.
func (s *Stepper) Estimate(ctx context.Context, x *data.Batch) (time.Duration, error) {
	k := shapeOf(x)
	k.first = !s.c.Accumulates
	p, err := s.program(k)
	if err != nil {
		return 0, err
	}
	e, ok := p.(engine.Estimator)
	if !ok {
		return 0, fmt.Errorf("train: engine %s: does not estimate times", s.c.Engine.Name())
	}
	in := inputs(x, 1/float64(max(1, x.Scored)))
	in["random"] = s.random()
	return e.Estimate(ctx, in)
}

// Loads reports how even the choices of routers were in the step; nil where there are no routers.
func (s *Stepper) Loads() map[string]float64 { return s.loads.report() }

// GradNorm is the global norm of the gradients.
func (s *Stepper) GradNorm(ctx context.Context) (float64, error) {
	out, err := s.norm.Run(ctx, nil)
	if err != nil {
		return 0, err
	}
	return math.Sqrt(float64(out["squares"].F32()[0])), nil
}

// Apply updates the parameters; step counts from 1.
func (s *Stepper) Apply(ctx context.Context, lr, scale float64, step int64) error {
	one := func(x float64) *tensor.Tensor { return tensor.FromF32([]float32{float32(x)}) }
	_, err := s.update.Run(ctx, engine.Tensors{"lr": one(lr), "scale": one(scale), "step": one(float64(step))})
	if err != nil || s.c.BiasSpeed == 0 {
		return err
	}
	return s.balance(s.c.BiasSpeed)
}

// Evaluate computes the objective of a batch without gradients.
func (s *Stepper) Evaluate(ctx context.Context, x *data.Batch, norm float64) (map[string]float64, error) {
	x, err := s.local(x)
	if err != nil {
		return nil, err
	}
	k := shapeOf(x)
	k.eval = true
	p, err := s.program(k)
	if err != nil {
		return nil, err
	}
	out, err := p.Run(ctx, inputs(x, norm))
	return report(out), err
}

// Memory is what the programs for batches take, in bytes, besides the store.
func (s *Stepper) Memory() int64 {
	var sum int64
	for _, p := range s.programs {
		sum += bytesOf(p)
	}
	return sum
}

// Close frees the programs.
func (s *Stepper) Close() error {
	var first error
	keep := func(p engine.Program) {
		if p != nil {
			if err := p.Close(); first == nil {
				first = err
			}
		}
	}
	for _, p := range s.programs {
		keep(p)
	}
	keep(s.norm)
	keep(s.zero)
	keep(s.update)
	return first
}
