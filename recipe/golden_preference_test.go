package recipe

import (
	"path/filepath"
	"testing"

	"danlu/data"
	"danlu/internal/numtest"
	"danlu/tensor"
	"danlu/train"
)

type preferenceCase struct {
	Hyper struct {
		Beta       float64 `json:"beta"`
		IPOBeta    float64 `json:"ipo_beta"`
		Smoothing  float64 `json:"label_smoothing"`
		SimPOBeta  float64 `json:"simpo_beta"`
		SimPOGamma float64 `json:"simpo_gamma"`
		ORPOBeta   float64 `json:"orpo_beta"`
		CPOAlpha   float64 `json:"cpo_alpha"`
		KTOBeta    float64 `json:"kto_beta"`
		KTOGood    float64 `json:"kto_wd"`
		KTOBad     float64 `json:"kto_wu"`
	} `json:"hyper"`
	IDs          [][]int32 `json:"batch_ids"`
	Attention    [][]int32 `json:"attention_mask"`
	Completion   [][]int32 `json:"completion_mask"`
	Policy       []float32 `json:"policy_logps"`
	Reference    []float32 `json:"reference_logps"`
	KLIDs        [][]int32 `json:"kto_kl_ids"`
	KLAttention  [][]int32 `json:"kto_kl_attention_mask"`
	KLCompletion [][]int32 `json:"kto_kl_completion_mask"`
	Cases        map[string]struct {
		Loss       float64   `json:"loss"`
		PerExample []float32 `json:"per_example"`
		Chosen     []float32 `json:"chosen_rewards"`
		Rejected   []float32 `json:"rejected_rewards"`
		Margins    []float64 `json:"margins"`
		Accuracy   float64   `json:"accuracy"`
		NLL        *float64  `json:"nll"`
		LogOdds    []float64 `json:"log_odds"`
		KL         *float64  `json:"kl"`
	} `json:"cases"`
}

// objective is a case's loss and how its rewards are scaled against the ones in the file, which all use beta.
func (c preferenceCase) objective(name string) (p train.Preference, scale float32) {
	p, scale = train.Preference{Loss: name, Beta: c.Hyper.Beta}, 1
	switch name {
	case "robust", "cdpo":
		p.Smoothing = c.Hyper.Smoothing
	case "ipo", "ipo_sum":
		p.Beta, scale = c.Hyper.IPOBeta, float32(c.Hyper.IPOBeta/c.Hyper.Beta)
	case "simpo":
		p.Beta, p.Gamma = c.Hyper.SimPOBeta, c.Hyper.SimPOGamma
	case "orpo":
		p.Beta, p.PromptNLL = c.Hyper.ORPOBeta, true
	case "cpo":
		p.Alpha = c.Hyper.CPOAlpha
	case "dpo_plus_sft":
		p.Loss, p.FTX = "sigmoid", 1
	}
	return p, scale
}

func TestGoldenPreference(t *testing.T) {
	dir := numtest.Goldens(t, "training/preference")
	var c preferenceCase
	readGolden(t, filepath.Join(dir, "case.json"), &c)
	grads := openTensors(t, filepath.Join(dir, "grads.safetensors"))
	policy, reference := openGolden(t, filepath.Join(dir, "policy")), openGolden(t, filepath.Join(dir, "reference"))
	x := maskedRows(c.IDs, c.Attention, c.Completion)
	logps, base := rowSums(policy.scores(x), x.B), rowSums(reference.scores(x), x.B)
	near(t, "policy_logps", logps, c.Policy, 1e-5, 2e-6)
	near(t, "reference_logps", base, c.Reference, 1e-5, 2e-6)
	count := 0
	for name, want := range c.Cases {
		count++
		t.Run(name, func(t *testing.T) {
			n := x.B / 2
			if name == "kto" {
				checkKTO(t, c, policy, reference, x, base, func(o outcome, kl float64) {
					nearLoss(t, "loss", o.scalar("loss"), want.Loss, 5e-6, 5e-6)
					nearLoss(t, "kl", float32(kl), *want.KL, 1e-5, 1e-5)
					near(t, "per_example", o.report["per_row"].F32(), want.PerExample, 5e-6, 5e-6)
					near(t, "chosen rewards", o.report["reward"].F32()[:n], want.Chosen, 1e-5, 5e-6)
					near(t, "rejected rewards", o.report["reward"].F32()[n:], want.Rejected, 1e-5, 5e-6)
					checkGrads(t, grads, name+".grad.", o.grads, 1e-8, 2e-5)
				})
				return
			}
			p, scale := c.objective(name)
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			y := *x
			y.Extra = map[string]*tensor.Tensor{}
			if p.NeedsReference() {
				y.Extra["reference"] = vector(base)
			}
			tokens := 0
			for i := range x.B / 2 * x.T {
				if x.Targets[i] != data.Ignore {
					tokens++
				}
			}
			if p.PromptNLL {
				y.Extra["next"], tokens = nextTokens(x)
			}
			if p.NeedsTokens() {
				y.Extra["per_token"] = scalarTensor(float64(n) / float64(tokens))
			}
			o := policy.run(p.Objective(), &y, 1/float64(n), "", nil)
			nearLoss(t, "loss", o.scalar("loss"), want.Loss, 0, 5e-6)
			near(t, "per_example", o.report["per_pair"].F32(), want.PerExample, 5e-6, 5e-6)
			near(t, "chosen rewards", unscaled(o.report["chosen"].F32(), scale), want.Chosen, 1e-5, 5e-6)
			near(t, "rejected rewards", unscaled(o.report["rejected"].F32(), scale), want.Rejected, 1e-5, 5e-6)
			nearLoss(t, "margins", o.scalar("rewards/margins")/scale, mean(want.Margins), 1e-5, 5e-6)
			nearLoss(t, "accuracy", o.scalar("rewards/accuracies"), want.Accuracy, 1e-6, 0)
			if want.NLL != nil {
				nearLoss(t, "nll", o.scalar("nll_loss"), *want.NLL, 0, 5e-6)
			}
			if want.LogOdds != nil {
				nearLoss(t, "log odds", o.scalar("log_odds_chosen"), mean(want.LogOdds), 1e-5, 5e-6)
			}
			checkGrads(t, grads, name+".grad.", o.grads, 1e-8, 2e-5)
		})
	}
	numtest.Count(t, "training/preference", count)
}

func unscaled(x []float32, scale float32) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = x[i] / scale
	}
	return y
}

func mean(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s / float64(len(x))
}

// nextTokens are the tokens that follow in each row, those of the prompt included, and how many of the first half's
// rows there are.
func nextTokens(x *data.Batch) (*tensor.Tensor, int) {
	next, n := make([]int32, x.B*x.T), 0
	for i := range next {
		next[i] = data.Ignore
		if (i+1)%x.T != 0 && x.Segments[i+1] != data.NoSegment {
			next[i] = x.IDs[i+1]
			if i < x.B/2*x.T {
				n++
			}
		}
	}
	return tensor.FromI32(next, x.B, x.T), n
}

func checkKTO(t *testing.T, c preferenceCase, policy, reference *goldenModel, x *data.Batch, base []float32, check func(o outcome, kl float64)) {
	k := train.KTO{Beta: c.Hyper.KTOBeta, DesirableWeight: c.Hyper.KTOGood, UndesirableWeight: c.Hyper.KTOBad}
	other := maskedRows(c.KLIDs, c.KLAttention, c.KLCompletion)
	wide := func(v []float32) []float64 {
		w := make([]float64, len(v))
		for i := range v {
			w[i] = float64(v[i])
		}
		return w
	}
	kl := k.Divergence(wide(rowSums(policy.scores(other), other.B)), wide(rowSums(reference.scores(other), other.B)))
	good := make([]float32, x.B)
	for i := range x.B / 2 {
		good[i] = 1
	}
	y := *x
	two := scalarTensor(2)
	y.Extra = map[string]*tensor.Tensor{"reference": vector(base), "desirable": vector(good), "kl": scalarTensor(kl), "per_good": two, "per_bad": two}
	check(policy.run(k.Objective(), &y, 1/float64(x.B), "", nil), kl)
}
