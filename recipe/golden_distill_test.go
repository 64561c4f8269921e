package recipe

import (
	"context"
	"math"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/tensor"
	"danlu/train"
)

type distillCase struct {
	IDs    [][]int32 `json:"ids"`
	Labels [][]int32 `json:"labels"`
	Cases  map[string]struct {
		Temperature float64  `json:"temperature"`
		Beta        float64  `json:"beta"`
		Loss        *float64 `json:"loss"`
		Loss64      float64  `json:"loss_f64"`
		TimesT2     float64  `json:"loss_times_T2"`
		K           int      `json:"k"`
		Alpha       float64  `json:"alpha"`
		CE          float64  `json:"ce_f64"`
		KD          float64  `json:"kd_times_T2_f64"`
	} `json:"cases"`
}

func TestGoldenDistillation(t *testing.T) {
	dir := numtest.Goldens(t, "training/distillation")
	var c distillCase
	readGolden(t, filepath.Join(dir, "case.json"), &c)
	f := openTensors(t, filepath.Join(dir, "tensors.safetensors"))
	student, teacher := openGolden(t, filepath.Join(dir, "student")), openGolden(t, filepath.Join(dir, "teacher"))
	var rows []data.Sequence
	for i := range c.IDs {
		rows = append(rows, data.Sequence{IDs: c.IDs[i], Labels: c.Labels[i]})
	}
	x := data.PadBatch(rows, 0, 0)
	hidden, head := teacher.hidden(x)
	size := hidden.Shape[2]
	if err := student.store.Declare(&graph.StateSpec{Label: train.TeacherHead, Type: graph.Of(dtype.F32, head.Shape...), Role: graph.CacheRole}); err != nil {
		t.Fatal(err)
	}
	if err := student.store.Set(train.TeacherHead, head); err != nil {
		t.Fatal(err)
	}
	norm := 1 / float64(x.Scored)
	for name, want := range c.Cases {
		t.Run(name, func(t *testing.T) {
			d := train.Distill{Beta: want.Beta, Temperature: want.Temperature, Alpha: want.Alpha, TopK: want.K, TeacherSize: size}
			loss := want.Loss64
			if want.Loss != nil {
				loss = *want.Loss
			}
			y := *x
			y.Extra = map[string]*tensor.Tensor{"teacher": hidden}
			if d.TopK > 0 {
				d.Temperature = 1
				ids, p := best(values(t, f, "teacher_logits"), x.B*x.T, d.TopK)
				y.Extra = map[string]*tensor.Tensor{"teacher_ids": tensor.FromI32(ids, x.B, x.T, d.TopK), "teacher_probs": tensor.FromF32(p, x.B, x.T, d.TopK)}
			}
			if err := d.Check(); err != nil {
				t.Fatal(err)
			}
			o := student.run(d.Objective(), &y, norm, "", nil)
			if d.Alpha == 0 {
				nearLoss(t, "divergence", o.scalar("divergence"), loss, 1e-5, 3e-6)
			} else {
				nearLoss(t, "loss", o.scalar("loss"), loss, 1e-5, 3e-6)
				nearLoss(t, "cross-entropy", o.scalar("cross_entropy"), want.CE, 1e-5, 3e-6)
			}
			if want.TimesT2 != 0 {
				nearLoss(t, "loss times T²", o.scalar("loss"), want.TimesT2, 1e-5, 3e-6)
			}
			checkDistillGrads(t, f, name, d, o, x)
		})
	}
	numtest.Count(t, "training/distillation", len(c.Cases))
}

// checkDistillGrads compares the reference gradients of a case, by weights and by logits, where the file has them. They
// are those of the divergence without T².
func checkDistillGrads(t *testing.T, f *safetensors.File, name string, d train.Distill, o outcome, x *data.Batch) {
	for _, n := range f.Names() {
		switch rest, ok := strings.CutPrefix(n, name+"."); {
		case ok && rest == "grad_logits":
			got := logitGrads(t, d, x, values(t, f, "student_logits"), values(t, f, "teacher_logits"))
			near(t, n, got, values(t, f, n), 1e-7, 2e-5)
		case ok && strings.HasPrefix(rest, "grad."):
			got := append([]float32(nil), o.grads[strings.TrimPrefix(rest, "grad.")]...)
			for i := range got {
				got[i] /= float32(d.Temperature * d.Temperature)
			}
			near(t, n, got, values(t, f, n), 1e-7, 2e-5)
		}
	}
}

// logitGrads is the gradient by given logits: heads that are the unit matrix make hidden rows logits.
func logitGrads(t *testing.T, d train.Distill, x *data.Batch, student, teacher []float32) []float32 {
	n := x.B * x.T
	v := len(student) / n
	unit := tensor.New(dtype.F32, v, v)
	for i := range v {
		unit.F32()[i*v+i] = 1
	}
	mask := tensor.New(dtype.F32, n)
	for i, id := range x.Targets {
		if id != data.Ignore {
			mask.F32()[i] = 1 / float32(x.Scored)
		}
	}
	g, err := graph.Build(func(g *graph.Graph) {
		s := g.Input("student", graph.Of(dtype.F32, n, v))
		w := g.Input("unit", graph.Of(dtype.F32, v, v))
		op := graph.LinearKL{Compute: dtype.F32, Beta: d.Beta, Temperature: d.Temperature}
		each := graph.Apply(op, s, w, g.Input("teacher", graph.Of(dtype.F32, n, v)), w)[0]
		loss := graph.Sum(graph.Mul(each, g.Input("mask", graph.Of(dtype.F32, n))))
		g.Output("grad", graph.Grad(loss, []*graph.Value{s}, graph.GradOptions{})[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	m := openEngine(t)
	p, err := m.Compile(g, m.NewStore(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), engine.Tensors{"student": tensor.FromF32(student, n, v), "teacher": tensor.FromF32(teacher, n, v), "unit": unit, "mask": mask})
	if err != nil {
		t.Fatal(err)
	}
	return out["grad"].F32()
}

// best is the renormalised distribution over the k largest of each row's logits.
func best(logits []float32, rows, k int) (ids []int32, probs []float32) {
	v := len(logits) / rows
	for r := range rows {
		z := logits[r*v : (r+1)*v]
		order := make([]int, v)
		for i := range order {
			order[i] = i
		}
		sort.Slice(order, func(i, j int) bool { return z[order[i]] > z[order[j]] })
		sum := 0.0
		for _, i := range order[:k] {
			sum += math.Exp(float64(z[i] - z[order[0]]))
		}
		for _, i := range order[:k] {
			ids, probs = append(ids, int32(i)), append(probs, float32(math.Exp(float64(z[i]-z[order[0]]))/sum))
		}
	}
	return ids, probs
}

// hidden computes a model's final hidden rows and reads its head.
func (g *goldenModel) hidden(x *data.Batch) (hidden, head *tensor.Tensor) {
	o := g.run(func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		h, w := m.Hidden(b), m.Head(b)
		return nn.CrossEntropy(b.Score(h, w, targets, false), norm), map[string]*graph.Value{"hidden": h, "head": graph.MulScalar(w, 1)}
	}, x, 1, "", nil)
	return o.report["hidden"], o.report["head"]
}
