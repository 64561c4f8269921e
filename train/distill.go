package train

import (
	"fmt"

	"danlu/dtype"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// Distill trains a student on a teacher's next-token distributions: alpha·cross-entropy + (1-alpha)·T²·divergence
// (Hinton et al., arXiv:1503.02531; Agarwal et al., arXiv:2306.13649). norm is one over the scored targets of the step.
// No logits of a whole batch are held, neither the student's nor the teacher's.
//
// Inputs beside the batch: teacher [B, T, Dt], the teacher's final hidden rows; or with TopK, teacher_ids [B, T, TopK]
// int32 and teacher_probs [B, T, TopK], the teacher's best tokens. The teacher's head is the state TeacherHead.
type Distill struct {
	// Beta 0 is KL(teacher‖student), 1 KL(student‖teacher), in between the generalised Jensen-Shannon divergence.
	Beta        float64
	Temperature float64
	Alpha       float64 // share of plain cross-entropy
	TopK        int     // the teacher's best tokens only, of which probabilities add up to 1; 0: the whole vocabulary
	// TeacherSize is Dt.
	TeacherSize int
}

// TeacherHead is the label of the teacher's output matrix [V, Dt] in the student's store. It is not part of checkpoints.
const TeacherHead = "teacher.head"

// Check reports options that do not go together.
func (d Distill) Check() error {
	if d.TopK > 0 && d.Beta != 0 {
		return fmt.Errorf("train: distill: the %d best tokens of a teacher serve forward_kl only", d.TopK)
	}
	return nil
}

// Objective builds the loss.
func (d Distill) Objective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		hidden, head := m.Hidden(b), m.Head(b)
		n := targets.Len()
		mask := graph.ReshapeTo(scored(targets), n)
		rows := graph.ReshapeTo(hidden, n, hidden.Last())
		var each *graph.Value
		if d.TopK > 0 {
			each = d.sparse(b, rows, head, targets)
		} else {
			teacher := b.G.State(graph.StateSpec{Label: TeacherHead, Type: graph.Of(dtype.F32, head.Shape[0], d.TeacherSize), Role: graph.CacheRole})
			x := graph.ReshapeTo(input(b, "teacher", targets.Shape[0], targets.Shape[1], d.TeacherSize), n, d.TeacherSize)
			op := graph.LinearKL{Compute: b.Policy.Compute, Beta: d.Beta, Temperature: d.Temperature}
			each = graph.Apply(op, rows, head, x, teacher)[0]
		}
		divergence := total(graph.Mul(each, mask), norm)
		report := map[string]*graph.Value{"divergence": divergence}
		loss := graph.MulScalar(divergence, (1-d.Alpha)*d.Temperature*d.Temperature)
		if d.Alpha != 0 {
			ce := nn.CrossEntropy(b.Score(hidden, head, targets, false), norm)
			report["cross_entropy"] = ce
			loss = graph.Add(loss, graph.MulScalar(ce, d.Alpha))
		}
		report["loss"] = loss
		return loss, report
	}
}

// sparse is KL(teacher‖student) over the teacher's best tokens; the student's probabilities are those of its whole
// softmax: rows [N, D], head [V, D] → [N].
func (d Distill) sparse(b *nn.Build, rows, head, targets *graph.Value) *graph.Value {
	n, k, size := rows.Shape[0], d.TopK, rows.Last()
	shape := append(targets.Shape[:2:2], k)
	ids := graph.ReshapeTo(b.G.Input("teacher_ids", graph.Of(dtype.I32, shape...)), n*k)
	p := graph.ReshapeTo(input(b, "teacher_probs", shape...), n, k)
	x := graph.MulScalar(rows, 1/d.Temperature)
	lse := b.Score(x, head, graph.ReshapeTo(targets, n, 1), false).LogSumExp
	chosen := graph.ReshapeTo(graph.Rows(head, ids), n, k, size)
	z := graph.Sum(graph.Mul(graph.Convert(chosen, dtype.F32), graph.ReshapeTo(graph.Convert(x, dtype.F32), n, 1, size)), -1)
	logq := graph.Sub(z, graph.ReshapeTo(lse, n, 1))
	logp := graph.Log(graph.Max(p, graph.ConstLike(p, 1e-30)))
	return graph.Sum(graph.Mul(p, graph.Sub(logp, logq)), 1)
}
