package bench

import (
	"context"
	"fmt"
	"time"

	"danlu/dtype"
	"danlu/engine"
	"danlu/hardware"
	"danlu/internal/parallel"
	"danlu/nn"
	"danlu/plan"
)

// Host is the machine at hand, for plans of training on it.
type Host struct {
	Context context.Context // ends the timing of samples
	Engine  engine.Engine
}

// Card measures the machine: what memory is free, products, and how fast memory is read.
func Card(threads int) (*hardware.GPU, error) {
	free, ok := hardware.FreeMemory()
	if !ok {
		return nil, fmt.Errorf("bench: free memory: the system does not say")
	}
	pool := parallel.NewPool(threads)
	defer pool.Close()
	g := &hardware.GPU{Name: "CPU", MemoryGiB: float64(free) / (1 << 30), PerNode: 1, Bandwidth: readRate(pool)}
	for d, rate := range map[dtype.DType]*float64{dtype.F32: &g.TFLOPS32, dtype.BF16: &g.TFLOPS16} {
		gflops, err := Product(pool, 1024, 1024, 1024, d)
		if err != nil {
			return nil, err
		}
		*rate = gflops / 1000
	}
	return g, nil
}

// reading is a task that reads memory.
type reading struct {
	x    []uint64
	sums []uint64 // of each worker
}

const readChunk = 1 << 17 // values of one task

// Do implements parallel.Task.
func (r *reading) Do(worker, i int) {
	var a, b, c, d uint64
	for x := r.x[i*readChunk : (i+1)*readChunk]; len(x) >= 32; x = x[32:] { // a value of each cache line is enough
		a, b, c, d = a+x[0], b+x[8], c+x[16], d+x[24]
	}
	r.sums[8*worker] += a + b + c + d
}

// readRate is how fast 256 MB are read, in GB/s, at best.
func readRate(pool *parallel.Pool) float64 {
	const chunks = 256
	r := &reading{x: make([]uint64, chunks*readChunk), sums: make([]uint64, 8*pool.Workers())}
	for i := range r.x {
		r.x[i] = uint64(i)
	}
	best := 0.0
	for range 5 {
		start := time.Now()
		pool.Run(chunks, r)
		best = max(best, 8*float64(len(r.x))/time.Since(start).Seconds()/1e9)
	}
	return best
}

// training is what a request asks of this machine.
func training(q *plan.Request) (Training, error) {
	t := Training{Model: q.Architecture(), Policy: nn.BFloat16, Batch: q.Batch, Seq: q.Context, Frozen: dtype.BF16, Recompute: q.Checkpointing == plan.KeepInput}
	switch q.Task {
	case plan.Pretrain, plan.Full:
	case plan.LoRA:
		t.Rank = q.Rank
	case plan.QLoRA:
		if t.Rank, t.Frozen = q.Rank, dtype.NF4Double; q.Precision != plan.INT4 {
			return t, fmt.Errorf("bench: precision: qlora on the CPU is foretold for int4, got %s", q.Precision)
		}
		return t, nil
	default:
		return t, fmt.Errorf("bench: task: want pretrain, full, lora, qlora or inference on the CPU, got %s", q.Task)
	}
	switch q.Precision {
	case plan.BF16:
	case plan.FP32:
		t.Policy, t.Frozen = nn.Float32, dtype.F32
	default:
		return t, fmt.Errorf("bench: precision: the CPU trains in fp32 or bf16, got %s", q.Precision)
	}
	return t, nil
}

func (h Host) open(q *plan.Request) (*Run, error) {
	t, err := training(q)
	if err != nil {
		return nil, err
	}
	return t.Open(h.Engine)
}

// Memory implements plan.Host.
func (h Host) Memory(q *plan.Request) (plan.Memory, error) {
	r, err := h.open(q)
	if err != nil {
		return plan.Memory{}, err
	}
	return r.Memory(), r.Close()
}

// TokensPerS implements plan.Host.
func (h Host) TokensPerS(q *plan.Request) (float64, error) {
	r, err := h.open(q)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if err := r.Init(); err != nil {
		return 0, err
	}
	t, err := r.StepTime(h.Context)
	return float64(q.Batch*q.Context) / t.Seconds(), err
}
