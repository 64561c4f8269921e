package recipe

import (
	"path/filepath"
	"testing"

	"danlu/internal/numtest"
	"danlu/tensor"
	"danlu/train"
)

func TestGoldenRewardModel(t *testing.T) {
	dir := numtest.Goldens(t, "training/reward_model")
	var c struct {
		CenterCoef float64 `json:"center_coef"`
		Pairs      []struct {
			Margin float32 `json:"margin"`
		} `json:"pairs"`
		IDs       [][]int32 `json:"batch_ids"`
		Attention [][]int32 `json:"attention_mask"`
		Rewards   []float32 `json:"rewards"`
		Cases     map[string]struct {
			Loss     float64 `json:"loss"`
			Accuracy float64 `json:"accuracy"`
		} `json:"cases"`
	}
	readGolden(t, filepath.Join(dir, "case.json"), &c)
	model := openGolden(t, dir)
	grads := openTensors(t, filepath.Join(dir, "grads.safetensors"))
	x := maskedRows(c.IDs, c.Attention, c.Attention)
	n := float64(x.B / 2)
	margins := make([]float32, len(c.Pairs))
	for i, p := range c.Pairs {
		margins[i] = p.Margin
	}
	for name, want := range c.Cases {
		t.Run(name, func(t *testing.T) {
			r, y, norm := train.RewardModel{Head: train.SequenceClassificationHead}, *x, 1/n
			switch name {
			case "plain":
			case "margin":
				r.Margin, y.Extra = true, map[string]*tensor.Tensor{"margin": vector(margins)}
			case "centered":
				r.Centered = c.CenterCoef
			case "ranked_k":
				r.Ranked, norm = true, 1/(n*(2*n-1))
			default:
				t.Fatalf("unknown loss %q", name)
			}
			o := model.run(r.Objective(), &y, norm, "", nil)
			nearLoss(t, "loss", o.scalar("loss"), want.Loss, 1e-5, 3e-6)
			near(t, "rewards", o.report["rewards"].F32(), c.Rewards, 1e-5, 2e-5)
			if name != "ranked_k" {
				nearLoss(t, "accuracy", o.scalar("accuracy"), want.Accuracy, 1e-6, 0)
			}
			checkGrads(t, grads, name+".grad.", o.grads, 1e-5, 2e-5)
		})
	}
	numtest.Count(t, "training/reward_model", len(c.Cases))
}
