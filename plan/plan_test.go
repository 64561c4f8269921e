package plan

import (
	"encoding/csv"
	"fmt"
	"math"
	"strings"
	"testing"

	"danlu/internal/numtest"
	"danlu/pipeline"
)

// TestMixedAdam: weights, gradients and optimiser come to 16 bytes a parameter, 8 in bf16 alone, wherever they lie.
func TestMixedAdam(t *testing.T) {
	for _, c := range []struct {
		p    Precision
		want int64
	}{{BF16, 16}, {FP8, 16}, {FP32, 16}, {PureBF16, 8}} {
		p, err := New(Request{Model: "llama-7b", Task: Full, Precision: c.p, GPU: card(t, "h100"), GPUs: 8})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Whole.Weights + p.Whole.Gradients + p.Whole.Optimizer; got != c.want*p.Params {
			t.Errorf("%s: %d bytes for %d parameters", c.p, got, p.Params)
		}
		if got := p.Memory.Weights + p.Memory.Gradients + p.Memory.Optimizer; p.Layout.FSDP && math.Abs(float64(8*got-c.want*p.Params)) > 64 {
			t.Errorf("%s: %d bytes on each of %v", c.p, got, p.Layout)
		}
	}
}

// TestActivations follows arXiv:2205.05198, equation 1 and table 2, by hand: GPT-3's layer with 96 heads, 2,048 tokens.
func TestActivations(t *testing.T) {
	s := &Shape{Hidden: 12288, Heads: 96}
	for c, perToken := range map[Checkpointing]float64{KeepAll: 12288 * (34 + 80), Selective: 12288 * 34, KeepInput: 12288 * 2} {
		if got := s.activations(c, 2048, 3); got != 3*2048*perToken {
			t.Errorf("%s: %v bytes a token, want %v", c, got/3/2048, perToken)
		}
	}
}

// TestSizes: a made-up shape has nearly the size that its name says, and heads that eight cards can share.
func TestSizes(t *testing.T) {
	for name, want := range map[string]float64{"0.5B": 0.5e9, "1b": 1e9, "7B": 7e9, "13B": 13e9, "70B": 70e9, "304B": 304e9, "2000B": 2e12} {
		s, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if off := float64(s.ParamsTotal)/want - 1; !(math.Abs(off) < 0.01) || s.Heads%8 != 0 {
			t.Errorf("%s: %d parameters, %d heads", name, s.ParamsTotal, s.Heads)
		}
	}
}

// TestLatentCache: the one latent vector of DeepSeek-V3 is held by every card, grouped keys are shared out.
func TestLatentCache(t *testing.T) {
	for name, want := range map[string]int{"deepseek-v3": 1, "llama-3-8b": 8, "chatglm2-6b": 2, "llama-7b": 32} {
		s, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.CacheCuts != want {
			t.Errorf("%s: %d, want %d", name, s.CacheCuts, want)
		}
	}
}

// TestAdvice: every change that is named makes the request fit.
func TestAdvice(t *testing.T) {
	t.Setenv("DANLU_LANG", "en")
	for _, q := range []Request{
		{Model: "7B", Task: Full, GPU: card(t, "4090"), GPUs: 1},
		{Model: "13B", Task: Full, GPU: card(t, "A100-80GB"), GPUs: 2},
		{Model: "13B", Task: LoRA, Checkpointing: KeepAll, Batch: 16, GPU: card(t, "a6000"), GPUs: 1},
		{Model: "70B", Task: Inference, GPU: card(t, "a6000"), GPUs: 1},
		{Model: "7B", Task: Inference, Context: 1 << 17, Batch: 2, GPU: card(t, "a10"), GPUs: 1},
	} {
		p, err := New(q)
		if err != nil {
			t.Fatal(err)
		}
		if p.Fits || len(p.Advice) == 0 {
			t.Errorf("%s %s: fits %v, advice %q", q.Model, q.Task, p.Fits, p.Advice)
		}
		if err := q.complete(); err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, a := range p.Advice {
			for _, c := range q.changes() {
				if !strings.HasPrefix(a, c.text+" fits") {
					continue
				}
				named++
				changed := q
				c.apply(&changed)
				if again, err := New(changed); err != nil || !again.Fits {
					t.Errorf("%s %s: %q: %v", q.Model, q.Task, a, err)
				}
			}
			var n int
			if _, err := fmt.Sscanf(a, "--gpus %d", &n); err == nil {
				named++
				changed := q
				changed.GPUs = n
				if again, err := New(changed); err != nil || !again.Fits {
					t.Errorf("%s %s: %q: %v", q.Model, q.Task, a, err)
				}
			}
		}
		if together := strings.HasPrefix(p.Advice[0], "together"); named < len(p.Advice) && !together {
			t.Errorf("%s %s: only %d of %q were tried", q.Model, q.Task, named, p.Advice)
		}
	}
}

// TestLayouts: a layout uses all cards, and the first is the plain one.
func TestLayouts(t *testing.T) {
	q := Request{Model: "llama-3-70b", Task: Full, GPU: card(t, "h100"), GPUs: 96}
	if err := q.complete(); err != nil {
		t.Fatal(err)
	}
	list := q.layouts(96)
	if len(list) == 0 || list[0] != (Layout{DP: 96, TP: 1, PP: 1, CP: 1, EP: 1}) {
		t.Fatalf("%v", list)
	}
	for _, l := range list {
		if l.GPUs() != 96 || q.shape.Heads%l.TP != 0 || l.PP > q.shape.Layers || l.TP > q.GPU.PerNode {
			t.Errorf("%v", l)
		}
	}
}

func TestBadRequests(t *testing.T) {
	g := card(t, "A100-80GB")
	for _, c := range []struct {
		q    Request
		want string
	}{
		{Request{Model: "7B", Task: "sft", GPU: g}, `task: want pretrain, full`},
		{Request{Model: "7B", Task: Full, Precision: INT4, GPU: g}, "--task qlora"},
		{Request{Model: "7B", Task: QLoRA, Precision: BF16, GPU: g}, "--task lora"},
		{Request{Model: "7B", Task: Full, Precision: FP8, GPU: g}, "no fp8"},
		{Request{Model: "7B", Task: Full, Precision: "fp12", GPU: g}, `got "fp12"`},
		{Request{Model: "7B", Task: Full, Checkpointing: "some", GPU: g}, "checkpointing: want"},
		{Request{Model: "0.001B", Task: Full, GPU: g}, "want 0.3B to 5000B"},
		{Request{Model: "no-such-model", Task: Full, GPU: g}, "no-such-model"},
		{Request{Model: "7B", Task: Full, Context: -1, GPU: g}, "context: want 1 to"},
		{Request{Model: "7B", Task: Full, Batch: 1 << 40, GPU: g}, "batch: want 1 to"},
		{Request{Model: "7B", Task: Full, Tokens: math.NaN(), GPU: g}, "tokens: want"},
		{Request{Model: "7B", Task: Full, Price: math.Inf(1), GPU: g}, "price: want"},
		{Request{Model: "7B", Task: Full, GPUs: -1, GPU: g}, "gpus: want"},
		{Request{Model: "7B", Task: Full, GPUs: 1 << 20, GPU: g}, "gpus: want"},
		{Request{Model: "7B", Task: Full}, "gpu: is missing"},
	} {
		if _, err := New(c.q); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want %q", c.q, err, c.want)
		}
	}
}

// TestExtremes: what no machine has is refused by its size, not by an overflow.
func TestExtremes(t *testing.T) {
	for _, task := range Tasks {
		p, err := New(Request{Model: "2000B", Task: task, Context: maxContext, Batch: maxBatch, GPUs: 1, GPU: card(t, "a10")})
		if err != nil {
			t.Fatal(err)
		}
		if m := p.Memory; p.Fits || min(m.Weights, m.Activations, m.KVCache, m.Temporary, m.Reserved) < 0 || m.Total < 1<<59 || !(p.TokensPerS >= 0) {
			t.Errorf("%s: %+v", task, p)
		}
	}
}

// TestExperts: cards that share experts hold only their own together, of what a dense layout of the same cards gathers.
func TestExperts(t *testing.T) {
	q := Request{Model: "qwen3-235b-a22b", Task: Full, GPU: card(t, "h100"), GPUs: 96}
	if err := q.complete(); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, l := range q.layouts(96) {
		if l.DP%l.EP != 0 || q.shape.Experts%l.EP != 0 {
			t.Errorf("%v of %d experts", l, q.shape.Experts)
		}
		if l.EP == 1 {
			continue
		}
		found = true
		dense := l
		dense.EP = 1
		with, err := q.memory(l)
		if err != nil {
			t.Fatal(err)
		}
		without, err := q.memory(dense)
		if err != nil {
			t.Fatal(err)
		}
		saved := 2 * 2 * float64(q.shape.Routed) * (1 - 1/float64(l.EP)) / float64(l.TP) / float64(q.shape.Layers)
		if got := float64(without.Temporary - with.Temporary); with.Weights != without.Weights || !(math.Abs(got-saved) < 2) {
			t.Errorf("%v: %.0f bytes saved, want %.0f", l, got, saved)
		}
	}
	if !found {
		t.Error("no layout shares experts")
	}
}

// TestUnevenStages: 61 layers are cut into stages of which the largest has to fit.
func TestUnevenStages(t *testing.T) {
	p, err := New(Request{Model: "deepseek-v3", Task: Inference, GPU: card(t, "A100-80GB")})
	if err != nil {
		t.Fatal(err)
	}
	stage := (61 + p.Layout.PP - 1) / p.Layout.PP
	if want := float64(p.Whole.Weights) * float64(stage) / 61 / float64(p.Layout.TP); !p.Fits || p.Layout.PP < 2 || !(math.Abs(float64(p.Memory.Weights)-want) < 2) {
		t.Errorf("%v: %d bytes of weights, want %.0f", p.Layout, p.Memory.Weights, want)
	}
}

// TestSpend: time, cost and energy follow from speed.
func TestSpend(t *testing.T) {
	p, err := New(Request{Model: "llama-7b", Task: Pretrain, Tokens: 1e12, GPU: card(t, "A100-80GB"), GPUs: 2048, Price: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !(math.Abs(p.GPUHours/82432-1) < 0.1) || p.Cost != 2*p.GPUHours || !(math.Abs(p.Energy-0.4*p.GPUHours) < 1) || !(math.Abs(p.Hours*2048-p.GPUHours) < 1) {
		t.Errorf("%+v", p)
	}
}

// TestGoldenTrainingMemory compares with the published rules for training, for one text of 2,048 tokens.
func TestGoldenTrainingMemory(t *testing.T) {
	cases := 0
	for _, r := range facts(t, "memory_facts.csv") {
		q := Request{Model: r["model"], Context: 2048, GPU: card(t, "H200")}
		setting := r["setting"]
		switch {
		case !strings.HasPrefix(r["what"], "training memory") || strings.Contains(setting, "2-bit"):
			continue
		case strings.Contains(setting, "mixed precision"):
			q.Task = Full
		case strings.Contains(setting, "pure bf16"):
			q.Task, q.Precision = Full, PureBF16
		case strings.Contains(setting, "8-bit"):
			q.Task, q.Precision = QLoRA, INT8
		case strings.Contains(setting, "QLoRA"):
			q.Task = QLoRA
		default:
			q.Task = LoRA
		}
		p, err := New(q)
		if err != nil {
			t.Fatal(err)
		}
		got, want := float64(p.Whole.Used())/1e9, number(t, r["value"])
		t.Logf("%-4s %-45s %6.1f GB, published %5.0f, %+.0f%%", q.Model, setting, got, want, 100*(got/want-1))
		if strings.Contains(setting, "less than") && !(got < want) || !(math.Abs(got/want-1) <= 0.25) {
			t.Errorf("%s, %s: %.1f GB, published %v", q.Model, setting, got, want)
		}
		cases++
	}
	numtest.Count(t, "planner_facts training memory", cases)
}

func TestReference(t *testing.T) {
	for _, lang := range []string{"en", "zh"} {
		t.Setenv("DANLU_LANG", lang)
		table, err := Reference(card(t, "A100-80GB"))
		if err != nil {
			t.Fatal(err)
		}
		if len(table.Rows) != 5 || len(table.Notes) != 4 {
			t.Fatalf("%d rows, notes %q", len(table.Rows), table.Notes)
		}
		for _, r := range table.Rows {
			if len(r.Cells) != 7 {
				t.Errorf("%s: %d columns", r.Size, len(r.Cells))
			}
			for _, c := range r.Cells {
				if c.Computed == "" || c.Quoted == "" || c.Holds == "" || strings.Contains(c.Computed+c.Holds, "%!") {
					t.Errorf("%s: %+v", r.Size, c)
				}
			}
		}
		var b strings.Builder
		if err := table.Write(&b, CSV); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
		if err != nil || len(rows) != 6 || len(rows[0]) != 22 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
		b.Reset()
		if err := table.Write(&b, Markdown); err != nil || strings.Count(strings.SplitN(b.String(), "\n", 2)[0], "|") != 9 {
			t.Errorf("%v\n%s", err, b.String())
		}
		if err := table.Write(&b, "pdf"); err == nil {
			t.Error("format pdf was accepted")
		}
	}
}

// TestNearest: a range holds for the way whose figure lies in it, and for none when all lie outside.
func TestNearest(t *testing.T) {
	t.Setenv("DANLU_LANG", "en")
	ways := []way{{"small", 10}, {"large", 100}}
	for r, want := range map[span]string{{9, 12}: "holds for small: 10 GB", {90, 0}: "holds for large: 100 GB", {20, 30}: "holds for none of the ways here; nearest: small, 10 GB"} {
		if got := nearest(r, ways, gigabytes); got != want {
			t.Errorf("%v: %q, want %q", r, got, want)
		}
	}
}

func TestPipeline(t *testing.T) {
	times := pipeline.Times{F: 1, B: 2, W: 1, FB: 3}
	for _, name := range []string{"1F1B", "ZB1P", "DualPipe", "DualPipeV"} {
		s, err := Pipeline(name, 4, 16, times)
		if err != nil {
			t.Fatal(err)
		}
		if s.Parameters == 0 || s.Most == 0 || !strings.HasPrefix(s.SVG, "<svg") || !(s.Share > 0 && s.Share < 0.5) {
			t.Errorf("%s: %d parameters, %d activations, share %v", name, s.Parameters, s.Most, s.Share)
		}
	}
	for _, bad := range []func() (*Simulation, error){
		func() (*Simulation, error) { return Pipeline("GPipe", 4, 16, times) },
		func() (*Simulation, error) { return Pipeline("1F1B", 1<<12, 1<<16, times) },
		func() (*Simulation, error) { return Pipeline("1F1B", 0, 4, times) },
		func() (*Simulation, error) { return Pipeline("1F1B", 4, 4, pipeline.Times{F: math.Inf(1)}) },
	} {
		if _, err := bad(); err == nil {
			t.Error("a bad schedule was accepted")
		}
	}
}

// TestModulesWithoutPrediction: prediction modules, which are not counted as parameters, are not counted as matrices.
func TestModulesWithoutPrediction(t *testing.T) {
	for _, name := range []string{"deepseek-v3", "deepseek-v3-tiny"} {
		s, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if plain := s.ParamsTotal - s.Matrices; !(plain >= 2*int64(s.Vocab*s.Hidden)) {
			t.Errorf("%s: of %d parameters %d lie in matrices of layers, which leaves %d for embedding, head and norms", name, s.ParamsTotal, s.Matrices, plain)
		}
	}
}
