package plan

import (
	"fmt"
	"math"

	"danlu/family"
	"danlu/hardware"
	"danlu/internal/locale"
)

// Request is what is to be planned. Zero values choose: see Defaults.
type Request struct {
	Model         string
	Task          Task
	Precision     Precision     // "": bf16; int4 for qlora
	Checkpointing Checkpointing // "": selective for pretrain, else full
	Context       int           // tokens of a text; 0: the model's own, at most 4,096
	Batch         int           // texts at a time: on each card in training, in all in inference; 0: 1
	Rank          int           // of the adapter; 0: 8
	Tokens        float64       // to train on, or to generate; 0: no time is computed
	GPUs          int           // number of cards; 0: the fewest
	GPU           *hardware.GPU
	Price         float64 // dollars for a card and hour; 0: the table's
	// Host, if set, foretells training on the machine at hand, whose figures GPU has, in place of the rules for cards.
	Host Host

	shape *Shape
}

// Host foretells training of complete requests from compiled programs and timed samples of them.
type Host interface {
	Memory(q *Request) (Memory, error)
	TokensPerS(q *Request) (float64, error)
}

// Architecture is the model of a complete request.
func (q *Request) Architecture() family.Model { return q.shape.model }

// hosted reports whether a Host foretells the request.
func (q *Request) hosted() bool { return q.Host != nil && q.Task != Inference }

// Plan is the answer.
type Plan struct {
	Model         string        `json:"model"`
	Params        int64         `json:"params_total"`
	Active        int64         `json:"params_active"`
	Task          Task          `json:"task"`
	Precision     Precision     `json:"precision"`
	Checkpointing Checkpointing `json:"checkpointing,omitempty"`
	Context       int           `json:"context"`
	Batch         int           `json:"batch"`
	GPU           string        `json:"gpu"`
	GPUMemory     int64         `json:"gpu_memory_bytes"`
	GPUs          int           `json:"gpus"`
	Layout        Layout        `json:"layout"`
	Exchanges     []Exchange    `json:"exchanges,omitempty"` // training: of one card and step
	Fits          bool          `json:"fits"`
	Memory        Memory        `json:"memory_bytes"`               // of one card
	Whole         Memory        `json:"memory_unsplit_bytes"`       // of one card that is large enough
	CPUMemory     int64         `json:"cpu_memory_bytes,omitempty"` // of each machine
	Disk          int64         `json:"disk_bytes"`
	TokensPerS    float64       `json:"tokens_per_s"`           // of all cards
	LatencyMS     float64       `json:"ms_per_token,omitempty"` // inference: between two tokens of one text, at least
	PrefillPerS   float64       `json:"prefill_tokens_per_s,omitempty"`
	Users         int           `json:"concurrent_users,omitempty"` // texts of the full context whose caches fit
	Tokens        float64       `json:"tokens,omitempty"`
	Hours         float64       `json:"hours,omitempty"`
	GPUHours      float64       `json:"gpu_hours,omitempty"`
	Cost          float64       `json:"cost,omitempty"`           // dollars
	Price         float64       `json:"price_per_hour,omitempty"` // of one card
	Energy        float64       `json:"energy_kwh,omitempty"`     // of the cards at their board power
	Advice        []string      `json:"advice,omitempty"`         // what to change where it does not fit
	Notes         []string      `json:"notes"`                    // assumptions
}

// bounds of what is asked, so that sums stay finite.
const (
	maxContext = 1 << 28
	maxBatch   = 1 << 20
	maxRank    = 1 << 16
)

// complete checks a request and fills in what was left open.
func (q *Request) complete() error {
	if q.Precision == "" {
		if q.Precision = BF16; q.Task == QLoRA {
			q.Precision = INT4
		}
	}
	if q.Checkpointing == "" {
		switch q.Checkpointing = KeepInput; {
		case q.Host != nil:
			q.Checkpointing = KeepAll
		case q.Task == Pretrain:
			q.Checkpointing = Selective
		}
	}
	if err := oneOf("task", q.Task, Tasks); err != nil {
		return err
	}
	if err := oneOf("precision", q.Precision, Precisions); err != nil {
		return err
	}
	if err := oneOf("checkpointing", q.Checkpointing, Policies); err != nil {
		return err
	}
	packed := q.Precision == INT4 || q.Precision == INT8
	switch {
	case q.Task == QLoRA && !packed:
		return fmt.Errorf("plan: precision: want int4 or int8 for qlora, got %s; --task lora keeps 16-bit weights", q.Precision)
	case q.Task != QLoRA && q.Task != Inference && packed:
		return fmt.Errorf("plan: precision: %s weights are not trained; --task qlora trains an adapter beside them", q.Precision)
	case q.GPU == nil:
		return fmt.Errorf("plan: gpu: is missing")
	case q.Precision == FP8 && q.Task != Inference && q.GPU.TFLOPSFP8 == 0:
		return fmt.Errorf("plan: precision: %s has no fp8 products; use bf16", q.GPU.Name)
	}
	var err error
	if q.shape == nil {
		if q.shape, err = Open(q.Model); err != nil {
			return err
		}
	}
	if q.Context == 0 {
		if q.Context = pretrainContext; q.shape.Context > 0 {
			q.Context = min(q.Context, q.shape.Context)
		}
	}
	if q.Batch == 0 {
		q.Batch = 1
	}
	if q.Rank == 0 {
		q.Rank = 8
	}
	for _, f := range []struct {
		key      string
		got, max int
	}{{"context", q.Context, maxContext}, {"batch", q.Batch, maxBatch}, {"rank", q.Rank, maxRank}} {
		if f.got < 1 || f.got > f.max {
			return fmt.Errorf("plan: %s: want 1 to %d, got %d", f.key, f.max, f.got)
		}
	}
	switch {
	case q.Host != nil && q.GPUs > 1:
		return fmt.Errorf("plan: gpus: the machine at hand is one, got %d", q.GPUs)
	case q.GPUs < 0 || q.GPUs > maxGPUs:
		return fmt.Errorf("plan: gpus: want 1 to %d, or 0 for the fewest, got %d", maxGPUs, q.GPUs)
	case !(q.Tokens >= 0 && q.Tokens <= 1e18):
		return fmt.Errorf("plan: tokens: want 0 to 1e18, got %v", q.Tokens)
	case !(q.Price >= 0 && q.Price <= 1e6):
		return fmt.Errorf("plan: price: want 0 to 1e6, got %v", q.Price)
	}
	return nil
}

// New makes the plan of a request.
func New(request Request) (*Plan, error) {
	q := &request
	if err := q.complete(); err != nil {
		return nil, err
	}
	p := &Plan{Model: q.shape.Name, Params: q.shape.ParamsTotal, Active: q.shape.ParamsActive, Task: q.Task, Precision: q.Precision, Context: q.Context, Batch: q.Batch,
		GPU: q.GPU.Name, GPUMemory: q.GPU.Memory()}
	if q.Task != Inference {
		p.Checkpointing = q.Checkpointing
	}
	var err error
	if q.GPUs > 0 {
		p.Layout, p.Memory, p.Fits, err = q.place(q.GPUs)
	} else {
		p.Layout, p.Memory, p.Fits, err = q.fewest()
	}
	if err != nil {
		return nil, err
	}
	if p.Whole, err = q.memory(Layout{DP: 1, TP: 1, PP: 1, CP: 1, EP: 1}); err != nil {
		return nil, err
	}
	p.GPUs = p.Layout.GPUs()
	if p.Exchanges, err = q.exchanges(p.Layout); err != nil {
		return nil, err
	}
	if err := q.host(p); err != nil {
		return nil, err
	}
	switch {
	case q.Task == Inference:
		q.serve(p)
	case q.Host == nil:
		q.train(p)
	case p.Fits:
		if p.TokensPerS, err = q.Host.TokensPerS(q); err != nil {
			return nil, err
		}
		p.note("memory: of the compiled programs; speed: from timed samples of a step on this machine", "内存取自编译后的程序；速度由本机上对一步中部分计算的实测推算")
	}
	q.spend(p)
	if !p.Fits {
		p.Advice, err = q.advice()
	}
	return p, err
}

// host fills in what the machine needs: the weights pass through its memory when they are read, and each card's process
// takes some (an assumption of 4 GiB). Two checkpoints stand on the disk at a time, and the final model.
func (q *Request) host(p *Plan) error {
	st, err := q.states()
	if err != nil {
		return err
	}
	stored := q.shape.weightBytes(BF16, Full)
	if q.Host == nil {
		p.CPUMemory = int64(stored) + int64(min(p.GPUs, q.GPU.PerNode))*(4<<30)
	}
	switch q.Task {
	case Inference:
		p.Disk = int64(st.weights)
	case LoRA, QLoRA: // the base, and adapters with their moments
		p.Disk = int64(stored + 2*(st.gradients+st.optimizer) + st.gradients)
	case RLHF:
		p.Disk = int64(4*stored + 2*(2*stored+st.optimizer))
	default:
		p.Disk = int64(stored + 2*(stored+st.optimizer))
	}
	return nil
}

// trainingFLOPs is what the task does for one token.
func (q *Request) trainingFLOPs() float64 {
	s := q.shape
	forward := s.TrainingFLOPs(q.Context) / 3
	passes := 3.0
	switch q.Task {
	case LoRA, QLoRA:
		passes = 2 // weights that stay have no gradients
	case RLHF:
		passes = 3 + 3 + 1 + 1 + 1 // policy, critic, reference, reward model, generation
	}
	if q.Checkpointing == KeepInput {
		if passes++; q.Task == RLHF {
			passes++
		}
	}
	return passes * forward
}

func (q *Request) train(p *Plan) {
	p.TokensPerS = float64(p.GPUs) * Sustained(q.GPU, q.Precision) / q.trainingFLOPs()
	p.note("speed: %.0f%% of the card's peak, by the one efficiency that was fitted on the LLaMA and Llama 2 pretraining runs; small runs and cards without fast links are slower",
		"速度：按显卡峰值的 %.0f%% 计，该效率只用 LLaMA 与 Llama 2 的预训练记录拟合；小规模运行和没有高速互联的显卡会更慢", 100*Sustained(q.GPU, q.Precision)/peak(q.GPU, q.Precision))
	if q.Task == RLHF {
		p.note("generation is counted by its operations; it is bound by memory bandwidth and takes longer", "生成阶段只按计算量计；它受显存带宽限制，实际更慢")
	}
}

// exchange is how long one token's two all-reduces in each layer take between the cards that share its matrices, without
// latency.
func (q *Request) exchange(tp int) float64 {
	return 2 * float64(q.shape.Layers) * 2 * float64(q.shape.Hidden) * 2 * ring(tp) / q.linkRate()
}

// serve bounds generation: each step reads the weights and all caches once, or does the products of all texts.
func (q *Request) serve(p *Plan) {
	s, tp := q.shape, float64(p.Layout.TP)
	batch := float64(ceil(q.Batch, p.Layout.DP))
	// Each text of a batch may use other experts.
	read := s.weightBytes(q.Precision, Inference) * min(1, batch*float64(s.ParamsActive)/float64(s.ParamsTotal))
	cache := q.cachePerText(p.Layout)
	flops := 2*float64(s.ParamsActive) + 2*s.attentionFLOPs(q.Context) // the last token sees the whole text
	// Stages of layers work one after the other on a token.
	step := max((read/tp+batch*cache*float64(p.Layout.PP))/(q.GPU.Bandwidth*1e9), batch*flops/(peak(q.GPU, q.Precision)*tp)) + batch*q.exchange(p.Layout.TP)
	p.LatencyMS = 1e3 * step
	p.TokensPerS = batch / step * float64(p.Layout.DP)
	p.PrefillPerS = Sustained(q.GPU, q.Precision) * float64(p.GPUs) / (2*float64(s.ParamsActive) + s.attentionFLOPs(q.Context))
	free := (float64(q.GPU.Memory())-reserve(0))/1.03 - float64(p.Memory.Weights+p.Memory.Temporary)
	p.Users = int(max(0, math.Floor(free/cache))) * p.Layout.DP
	p.note("generation: at most; bound by memory bandwidth, peak operations and link speed, without latencies", "生成速度为上限：由显存带宽、峰值算力与互联带宽决定，不含延迟")
}

// spend adds time, money and energy for the tokens.
func (q *Request) spend(p *Plan) {
	if q.Tokens == 0 || p.TokensPerS == 0 {
		return
	}
	p.Tokens = q.Tokens
	p.Hours = q.Tokens / p.TokensPerS / 3600
	p.GPUHours = p.Hours * float64(p.GPUs)
	p.Energy = p.GPUHours * q.GPU.Watts / 1000
	if p.Price = q.Price; p.Price == 0 {
		if p.Price = q.GPU.PricePerHour; p.Price > 0 {
			p.note("cost: $%.2f for a card and hour is an assumption; --price sets it", "费用：每卡每小时 $%.2f 为假设值，可用 --price 指定", p.Price)
		}
	}
	p.Cost = p.GPUHours * p.Price
}

func (p *Plan) note(en, zh string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(locale.Text(en, zh), args...))
}
