package plan

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"danlu/hardware"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

//go:embed reference.yaml
var referenceFile []byte

// quoted is a row of the table that is usually passed around.
type quoted struct {
	Size          string    `yaml:"size"`
	Train         span      `yaml:"train"`
	Infer         span      `yaml:"infer"`
	CPU           span      `yaml:"cpu"`
	Cards         span      `yaml:"cards"`
	MoreCards     span      `yaml:"more_cards"`
	Days          span      `yaml:"days"`
	Compute       [2]string `yaml:"compute"` // English, Chinese
	Time          [2]string `yaml:"time"`
	Multi         [2]string `yaml:"multi"`
	Scenario      [2]string `yaml:"scenario"`
	Contradiction [2]string `yaml:"contradiction"`
}

// name is the size as the table has it; its last row stands for all larger models.
func (r *quoted) name() string {
	if r.Infer[1] == 0 && r.CPU[1] == 0 {
		return r.Size + "+"
	}
	return r.Size
}

// span is a range, open above when its end is 0.
type span [2]float64

func (r span) String() string {
	if r[1] == 0 {
		return fmt.Sprintf("%g+ GB", r[0])
	}
	return fmt.Sprintf("%g-%g GB", r[0], r[1])
}

// off is how many times a figure lies outside of the range, 1 within. Ranges are rounded to 5 %.
func (r span) off(x float64) float64 {
	high := r[1]
	if high == 0 {
		high = 1.3 * r[0] // "400+" is meant to be near 400
	}
	return max(1, r[0]*0.95/x, x/(high*1.05))
}

// Cell is one entry of the reference table.
type Cell struct {
	Column   string `json:"column"`
	Computed string `json:"computed"`
	Quoted   string `json:"quoted"` // the rule of thumb
	Holds    string `json:"holds"`  // the assumption under which it holds
}

// Row is one size of the reference table.
type Row struct {
	Size     string             `json:"size"`
	Cells    []Cell             `json:"columns"`
	Training map[string]float64 `json:"training_gb"`  // by method
	Running  map[string]float64 `json:"inference_gb"` // by precision
	GPUs     map[string]int     `json:"gpus"`         // the fewest cards, by task
	Hours    map[string]float64 `json:"gpu_hours"`    // by task, see Table.Notes
}

// Table is the reference table of sizes, computed.
type Table struct {
	GPU   string   `json:"gpu"`
	Rows  []Row    `json:"rows"`
	Notes []string `json:"notes"`
}

// What the table's figures are for.
const (
	tableContext  = 2048
	tuneTokens    = 1e8  // of a fine-tuning: 50,000 samples of 670 tokens, three times
	pretrainedOn  = 1e12 // tokens of LLaMA-7B's pretraining
	quotedBatches = 4    // texts at a time for which the quoted rule is tried besides one
)

// Reference computes the table for a card.
func Reference(g *hardware.GPU) (*Table, error) {
	dec, err := yaml.NewLoader(bytes.NewReader(referenceFile), yaml.WithKnownFields(true))
	if err != nil {
		return nil, err
	}
	var rules []quoted
	if err := dec.Load(&rules); err != nil {
		return nil, fmt.Errorf("plan: reference.yaml: %w", err)
	}
	t := &Table{GPU: g.Name}
	for _, r := range rules {
		row, err := r.row(g)
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, *row)
	}
	first, err := New(Request{Model: "llama-7b", Task: Pretrain, Tokens: pretrainedOn, GPU: g})
	if err != nil {
		return nil, err
	}
	say := func(en, zh string, args ...any) { t.Notes = append(t.Notes, fmt.Sprintf(locale.Text(en, zh), args...)) }
	say("Memory is of one card that is large enough, for one text of %d tokens, activations of layers computed again; GB are 1e9 bytes. A size is a dense model of the LLaMA form.",
		"显存按一张足够大的显卡、一条 %d token 的文本、逐层重算激活计算；GB 为 1e9 字节。各规模均为 LLaMA 结构的稠密模型。", tableContext)
	say("The quoted times fit fine-tuning, not pretraining: here fine-tuning reads %.0f million tokens (50,000 samples of 670, three times). Pretraining LLaMA-7B on 1 trillion tokens took 82,432 A100-hours (computed for %s: %.0f).",
		"通行的训练时间只适用于微调而非预训练：此处微调读取 %.0f 百万 token（5 万条、每条约 670 token、3 轮）。LLaMA-7B 用 1 万亿 token 预训练花费 82,432 A100 卡时（按 %s 计算为 %.0f）。", tuneTokens/1e6, g.Name, first.GPUHours)
	for _, r := range rules {
		if text := locale.Text(r.Contradiction[0], r.Contradiction[1]); text != "" {
			t.Notes = append(t.Notes, r.name()+locale.Text(": ", "：")+text)
		}
	}
	return t, nil
}

// way is one way to train or run a model, and what it takes.
type way struct {
	name   string
	amount float64
}

// nearest says under which assumption a quoted range holds, or that it holds under none.
func nearest(r span, ways []way, unit func(float64) string) string {
	best := slices.MinFunc(ways, func(a, b way) int { return cmp.Compare(r.off(a.amount), r.off(b.amount)) })
	if r.off(best.amount) == 1 {
		return fmt.Sprintf(locale.Text("holds for %s: %s", "适用于%s：%s"), best.name, unit(best.amount))
	}
	return fmt.Sprintf(locale.Text("holds for none of the ways here; nearest: %s, %s", "此处各方式均不符合；最接近：%s，%s"), best.name, unit(best.amount))
}

func count(n float64) string { return fmt.Sprintf(locale.Text("%.0f card(s)", "%.0f 张卡"), n) }

func gigabytes(gb float64) string {
	if gb >= 1000 {
		return fmt.Sprintf("%.2f TB", gb/1000)
	}
	if gb < 10 {
		return fmt.Sprintf("%.1f GB", gb)
	}
	return fmt.Sprintf("%.0f GB", gb)
}

// row computes one size.
func (r *quoted) row(g *hardware.GPU) (*Row, error) {
	shape, err := Open(r.Size)
	if err != nil {
		return nil, err
	}
	ask := func(task Task, p Precision, batch int, tokens float64) (*Plan, error) {
		return New(Request{Task: task, Precision: p, Context: tableContext, Batch: batch, Tokens: tokens, GPU: g, shape: shape})
	}
	row := &Row{Size: r.name(), Training: map[string]float64{}, Running: map[string]float64{}, GPUs: map[string]int{}, Hours: map[string]float64{}}
	train, err := r.training(row, ask)
	if err != nil {
		return nil, err
	}
	var running []way
	var serve *Plan
	for _, p := range []Precision{FP16, INT8, INT4} {
		plan, err := ask(Inference, p, 1, 0)
		if err != nil {
			return nil, err
		}
		if p == FP16 {
			serve = plan
		}
		gb := float64(plan.Whole.Used()) / 1e9
		row.Running[string(p)] = gb
		running = append(running, way{string(p), gb})
	}
	tune, err := ask(Full, BF16, 1, tuneTokens)
	if err != nil {
		return nil, err
	}
	lora, err := ask(LoRA, BF16, 1, tuneTokens)
	if err != nil {
		return nil, err
	}
	pretrain, err := ask(Pretrain, BF16, 1, pretrainedOn)
	if err != nil {
		return nil, err
	}
	for name, p := range map[string]*Plan{"full": tune, "lora": lora, "pretrain": pretrain, "inference": serve} {
		row.GPUs[name] = p.GPUs
		if p.Tokens > 0 {
			row.Hours[name] = p.GPUHours
		}
	}
	cell := func(en, zh, computed, quoted, holds string) {
		row.Cells = append(row.Cells, Cell{locale.Text(en, zh), computed, quoted, holds})
	}
	cell("training memory", "训练显存", fmt.Sprintf(locale.Text("full %s, LoRA %s, QLoRA 8-bit %s, 4-bit %s", "全参 %s，LoRA %s，QLoRA 8 位 %s、4 位 %s"),
		gigabytes(row.Training["full"]), gigabytes(row.Training["lora"]), gigabytes(row.Training["qlora_int8"]), gigabytes(row.Training["qlora_int4"])), r.Train.String(), nearest(r.Train, train, gigabytes))
	cell("inference memory", "推理显存", fmt.Sprintf(locale.Text("FP16 %s, 8-bit %s, 4-bit %s", "FP16 %s，8 位 %s，4 位 %s"),
		gigabytes(row.Running["fp16"]), gigabytes(row.Running["int8"]), gigabytes(row.Running["int4"])), r.Infer.String(), nearest(r.Infer, running, gigabytes))
	loading := float64(serve.CPUMemory) / 1e9
	cell("CPU memory", "内存", gigabytes(loading), r.CPU.String(), nearest(r.CPU, []way{
		{locale.Text("the 16-bit weights pass through memory once", "16 位权重完整经过内存一次"), loading},
		{locale.Text("twice the 16-bit weights (a copy while loading)", "两倍 16 位权重（加载时多一份副本）"), 2 * loading},
		{locale.Text("weights mapped from the disk or read in parts", "权重按内存映射或分片读取"), loading / 2}}, gigabytes))
	var ways []way
	for _, w := range []struct {
		name string
		task Task
		p    Precision
	}{{locale.Text("full training, mixed-precision Adam, sharded (ZeRO stage 3)", "全参混合精度 Adam 训练，全部分片（ZeRO 第 3 阶段）"), Full, BF16},
		{locale.Text("16-bit LoRA", "16 位 LoRA"), LoRA, BF16}, {locale.Text("full training in bf16 alone, sharded", "全参纯 bf16 训练，全部分片"), Full, PureBF16}} {
		p, err := ask(w.task, w.p, 1, 0)
		if err != nil {
			return nil, err
		}
		ways = append(ways, way{w.name + locale.Text(" on ", "，使用 ") + g.Name, float64(p.GPUs)})
	}
	cards := func(p *Plan) string { return fmt.Sprintf("%d x %s", p.GPUs, g.Name) }
	cell("compute", "算力", fmt.Sprintf(locale.Text("full %s, LoRA %s, FP16 inference %s", "全参 %s，LoRA %s，FP16 推理 %s"), cards(tune), cards(lora), cards(serve)), locale.Text(r.Compute[0], r.Compute[1]),
		nearest(r.Cards, ways, count))
	cell("training time", "训练时间", fmt.Sprintf(locale.Text("full %s, LoRA %s on those cards for 100M tokens; pretraining on 1T tokens %s card-hours", "上述卡数下 1 亿 token：全参 %s，LoRA %s；1 万亿 token 预训练需 %s 卡时"),
		duration(tune.Hours), duration(lora.Hours), thousands(pretrain.GPUHours)), locale.Text(r.Time[0], r.Time[1]), r.tokens(tune))
	need := func(n int) string {
		if n == 1 {
			return locale.Text("not needed", "不需要")
		}
		return fmt.Sprintf(locale.Text("%d or more", "%d 张以上"), n)
	}
	cell("multi-GPU", "多卡需求", fmt.Sprintf(locale.Text("full: %s (%s); LoRA: %s", "全参：%s（%s）；LoRA：%s"), need(tune.GPUs), tune.Layout, need(lora.GPUs)), locale.Text(r.Multi[0], r.Multi[1]),
		nearest(r.MoreCards, ways, count))
	cell("scenario", "适用场景", fmt.Sprintf(locale.Text("%d users of %d tokens at a time on %s", "%[3]s 可同时服务 %[1]d 个 %[2]d token 的用户"), serve.Users, tableContext, cards(serve)), locale.Text(r.Scenario[0], r.Scenario[1]),
		locale.Text("is a matter of load and budget, not of size alone", "取决于负载与预算，不只取决于规模"))
	return row, nil
}

// training are the ways to train a size, for one text and for a few at a time.
func (r *quoted) training(row *Row, ask func(Task, Precision, int, float64) (*Plan, error)) ([]way, error) {
	var ways []way
	for _, batch := range []int{1, quotedBatches} {
		texts := fmt.Sprintf(locale.Text("%d text(s) at a time", "每次 %d 条文本"), batch)
		for _, w := range []struct {
			key, name string
			task      Task
			p         Precision
		}{
			{"qlora_int4", "QLoRA 4-bit", QLoRA, INT4}, {"qlora_int8", "QLoRA 8-bit", QLoRA, INT8}, {"lora", "LoRA 16-bit", LoRA, BF16},
			{"full_pure_bf16", locale.Text("full, bf16 alone", "全参纯 bf16"), Full, PureBF16}, {"full", locale.Text("full, mixed-precision Adam", "全参混合精度 Adam"), Full, BF16},
		} {
			p, err := ask(w.task, w.p, batch, 0)
			if err != nil {
				return nil, err
			}
			gb := float64(p.Whole.Used()) / 1e9
			ways = append(ways, way{w.name + locale.Text(", ", "，") + texts, gb})
			if batch == 1 {
				row.Training[w.key] = gb
			}
			if w.p == PureBF16 { // moments in 8 bits halve the optimiser
				ways = append(ways, way{locale.Text("full, bf16 with 8-bit Adam, ", "全参 bf16 加 8 位 Adam，") + texts, gb - float64(p.Whole.Optimizer)/2e9})
			}
		}
	}
	return ways, nil
}

// tokens says how much text full fine-tuning reads in the quoted time.
func (r *quoted) tokens(tune *Plan) string {
	read := func(days float64) float64 { return days * 24 * 3600 * tune.TokensPerS }
	if r.Days[1] == 0 {
		return fmt.Sprintf(locale.Text("holds for full fine-tuning on %.1[1]f billion tokens and more with those cards", "适用于上述卡数下全参微调 %.0[2]f 亿 token 以上"), read(r.Days[0])/1e9, read(r.Days[0])/1e8)
	}
	return fmt.Sprintf(locale.Text("holds for full fine-tuning on %.1[1]f to %.1[2]f billion tokens with those cards", "适用于上述卡数下全参微调 %.0[3]f 至 %.0[4]f 亿 token"),
		read(r.Days[0])/1e9, read(r.Days[1])/1e9, read(r.Days[0])/1e8, read(r.Days[1])/1e8)
}

func duration(hours float64) string {
	return progress.Duration(time.Duration(min(hours, 1e6) * float64(time.Hour)))
}

// thousands writes a whole number with commas.
func thousands(x float64) string {
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
