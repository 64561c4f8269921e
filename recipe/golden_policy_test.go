package recipe

import (
	"path/filepath"
	"testing"

	"danlu/data"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
	"danlu/task"
	"danlu/tensor"
	"danlu/train"
)

// responses is a batch of prompts and responses; reference data keeps one value per response token, [rows, longest].
type responses struct {
	*data.Batch
	prompts, lengths []int
	longest          int
}

func newResponses(prompts, answers [][]int32, longest int) responses {
	r := responses{longest: longest}
	var rows []data.Sequence
	for i := range prompts {
		s := data.Sequence{IDs: append(append([]int32(nil), prompts[i]...), answers[i]...)}
		for k, id := range s.IDs {
			if k < len(prompts[i]) {
				id = data.Ignore
			}
			s.Labels = append(s.Labels, id)
		}
		rows = append(rows, s)
		r.prompts, r.lengths = append(r.prompts, len(prompts[i])), append(r.lengths, len(answers[i]))
	}
	r.Batch = data.PadBatch(rows, 0, 0)
	return r
}

func (r responses) tokens() int {
	n := 0
	for _, l := range r.lengths {
		n += l
	}
	return n
}

// spread moves values [rows, longest] to the places that predict their tokens [B, T].
func (r responses) spread(x []float32) *tensor.Tensor {
	out := make([]float32, r.B*r.T)
	for i, n := range r.lengths {
		copy(out[i*r.T+r.prompts[i]-1:], x[i*r.longest:i*r.longest+n])
	}
	return tensor.FromF32(out, r.B, r.T)
}

// gathered is the inverse; places without a response token hold 0.
func (r responses) gathered(x []float32) []float32 {
	out := make([]float32, r.B*r.longest)
	for i, n := range r.lengths {
		copy(out[i*r.longest:i*r.longest+n], x[i*r.T+r.prompts[i]-1:])
	}
	return out
}

// row is one response's values.
func (r responses) row(x []float32, i int) []float64 {
	out := make([]float64, r.lengths[i])
	for k := range out {
		out[k] = float64(x[i*r.longest+k])
	}
	return out
}

// flatten joins rows of values as [rows, longest].
func (r responses) flatten(x [][]float64) []float32 {
	out := make([]float32, r.B*r.longest)
	for i, row := range x {
		for k, v := range row {
			out[i*r.longest+k] = float32(v)
		}
	}
	return out
}

func values(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	return x.F32()
}

type grpoCase struct {
	Hyper struct {
		GroupSize     int `json:"group_size"`
		MaxCompletion int `json:"max_completion"`
	} `json:"hyper"`
	Prompts     [][]int32            `json:"prompt_ids"`
	Completions [][]int32            `json:"completion_ids"`
	Masks       [][]int32            `json:"completion_mask"`
	Rewards     []float64            `json:"rewards"`
	Advantages  map[string][]float32 `json:"advantages"`
	EqualGroup  struct {
		Rewards    []float64 `json:"rewards"`
		Advantages []float32 `json:"advantages"`
	} `json:"equal_group"`
	Overlong []struct {
		Length int     `json:"length"`
		Max    int     `json:"max"`
		Cache  int     `json:"cache"`
		Reward float64 `json:"reward"`
	} `json:"dapo_overlong"`
	Cases map[string]struct {
		Loss       float64 `json:"loss"`
		KL         float64 `json:"mean_k3_kl"`
		Advantages string  `json:"advantages"`
		ClipLow    float64 `json:"eps_low"`
		ClipHigh   float64 `json:"eps_high"`
		Beta       float64 `json:"beta"`
	} `json:"cases"`
}

// groupAdvantages computes the advantages that the reference data names.
func groupAdvantages(t *testing.T, rewards []float64, n int, name string) []float32 {
	t.Helper()
	kind := map[string]string{"group_std_ddof1_eps1e-4": "group", "group_mean_only": "none", "batch_std": "batch", "rloo": "rloo", "reinforce_pp_baseline": "reinforce_pp_baseline",
		"group_std_ddof0_eps1e-4": "group_population"}[name]
	a, err := train.GroupAdvantages(rewards, n, kind)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	out := make([]float32, len(a))
	for i := range a {
		out[i] = float32(a[i])
	}
	return out
}

func TestGoldenGRPO(t *testing.T) {
	dir := numtest.Goldens(t, "training/grpo")
	var c grpoCase
	readGolden(t, filepath.Join(dir, "case.json"), &c)
	f := openTensors(t, filepath.Join(dir, "tensors.safetensors"))
	policy, reference := openGolden(t, filepath.Join(dir, "policy")), openGolden(t, filepath.Join(dir, "reference"))
	answers := make([][]int32, len(c.Completions))
	for i, ids := range c.Completions {
		for k, m := range c.Masks[i] {
			if m == 1 {
				answers[i] = append(answers[i], ids[k])
			}
		}
	}
	x := newResponses(c.Prompts, answers, len(c.Completions[0]))
	near(t, "policy_logprobs", x.gathered(policy.scores(x.Batch)), x.gathered(x.spread(values(t, f, "policy_logprobs")).F32()), 1e-5, 2e-5)
	near(t, "ref_logprobs", x.gathered(reference.scores(x.Batch)), x.gathered(x.spread(values(t, f, "ref_logprobs")).F32()), 1e-5, 2e-5)
	for name, want := range c.Advantages {
		near(t, name, groupAdvantages(t, c.Rewards, c.Hyper.GroupSize, name), want, 2e-6, 2e-6)
	}
	near(t, "equal group", groupAdvantages(t, c.EqualGroup.Rewards, len(c.EqualGroup.Rewards), "group_std_ddof1_eps1e-4"), c.EqualGroup.Advantages, 0, 0)
	for _, o := range c.Overlong {
		if got := task.Overlong(o.Length, o.Max, o.Cache); got != o.Reward {
			t.Errorf("overlong %d of %d: want %v, got %v", o.Length, o.Max, o.Reward, got)
		}
	}
	for name, want := range c.Cases {
		t.Run(name, func(t *testing.T) {
			p := train.Policy{Loss: name, ClipLow: want.ClipLow, ClipHigh: want.ClipHigh, KL: want.Beta}
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			y, count := *x.Batch, float64(p.Normaliser(x.B, x.tokens(), c.Hyper.MaxCompletion))
			y.Extra = map[string]*tensor.Tensor{"old": x.spread(values(t, f, "old_logprobs")),
				"advantages": vector(groupAdvantages(t, c.Rewards, c.Hyper.GroupSize, want.Advantages)), "per_token": scalarTensor(count / float64(x.tokens()))}
			if p.KL != 0 {
				y.Extra["reference"] = x.spread(values(t, f, "ref_logprobs"))
			}
			o := policy.run(p.Objective(), &y, 1/count, "", nil)
			nearLoss(t, "loss", o.scalar("loss"), want.Loss, 1e-5, 3e-6)
			if p.KL != 0 {
				nearLoss(t, "kl", o.scalar("kl"), want.KL, 1e-5, 3e-6)
			}
			checkGrads(t, f, name+".grad.", o.grads, 1e-8, 2e-5)
		})
	}
	numtest.Count(t, "training/grpo", len(c.Cases)+len(c.Advantages)+len(c.Overlong)+1)
}

type ppoCase struct {
	Hyper struct {
		Gamma     float64 `json:"gamma"`
		Lambda    float64 `json:"lam"`
		Clip      float64 `json:"clip"`
		ValueClip float64 `json:"vclip"`
		ValueCoef float64 `json:"vf_coef"`
		KLCoef    float64 `json:"kl_coef"`
		Entropy   float64 `json:"ent_coef"`
	} `json:"hyper"`
	DualClip float64   `json:"dual_clip_c"`
	IDs      [][]int32 `json:"ids"`
	Prompt   []int     `json:"prompt_len"`
	Response []int     `json:"response_len"`
	Scores   []float64 `json:"scores"`
	Cases    map[string]struct {
		Policy       float64 `json:"policy_loss"`
		Value        float64 `json:"value_loss"`
		Entropy      float64 `json:"entropy"`
		Total        float64 `json:"total"`
		ClipFraction float64 `json:"clip_fraction"`
		KL           float64 `json:"approx_kl_k1"`
	} `json:"cases"`
	Estimators map[string][]float64 `json:"kl_estimators"`
	Adaptive   struct {
		Target  float64 `json:"target"`
		Horizon float64 `json:"horizon"`
		N       int     `json:"n_steps"`
		Steps   []struct {
			KL     float64 `json:"kl_observed"`
			Before float64 `json:"coef_before"`
			After  float64 `json:"coef_after"`
		} `json:"steps"`
	} `json:"adaptive_kl"`
}

func TestGoldenPPO(t *testing.T) {
	dir := numtest.Goldens(t, "training/ppo")
	var c ppoCase
	readGolden(t, filepath.Join(dir, "case.json"), &c)
	f := openTensors(t, filepath.Join(dir, "tensors.safetensors"))
	prompts, answers, longest := make([][]int32, len(c.IDs)), make([][]int32, len(c.IDs)), 0
	for i, ids := range c.IDs {
		n := c.Prompt[i]
		prompts[i], answers[i] = ids[:n], ids[n:n+c.Response[i]]
		longest = max(longest, c.Response[i])
	}
	x := newResponses(prompts, answers, longest)
	checkAdvantages(t, c, f, x)
	checkControllers(t, c)
	norm := 1 / float64(x.tokens())
	shared := map[string]*tensor.Tensor{"old_values": x.spread(values(t, f, "old_values")), "returns": x.spread(values(t, f, "returns")), "per_token": scalarTensor(1)}
	for name, want := range c.Cases {
		t.Run(name, func(t *testing.T) {
			p := train.PPO{Clip: c.Hyper.Clip, ValueClip: c.Hyper.ValueClip, ValueCoef: c.Hyper.ValueCoef, Entropy: c.Hyper.Entropy}
			policyNorm := norm
			switch name {
			case "clip":
			case "dual_clip":
				p.DualClip = c.DualClip
			case "seq_mean":
				p.SequenceMean, policyNorm = true, 1/float64(x.B)
			default:
				t.Fatalf("unknown case %q", name)
			}
			y := *x.Batch
			y.Extra = map[string]*tensor.Tensor{"advantages": x.spread(values(t, f, "advantages_whitened")), "old": x.spread(values(t, f, "old_logprobs")), "per_token": scalarTensor(norm / policyNorm)}
			o := openGolden(t, filepath.Join(dir, "policy")).run(p.PolicyObjective(), &y, policyNorm, "", nil)
			y.Extra = shared
			head := train.ScalarHead{Weight: "v_head.weight", Bias: "v_head.bias"}
			critic := openGolden(t, filepath.Join(dir, "critic")).run(p.ValueObjective(head), &y, norm, filepath.Join(dir, "critic", "value_head.safetensors"), headName)
			nearLoss(t, "policy loss", o.scalar("loss/policy_avg"), want.Policy, 3e-6, 3e-6)
			nearLoss(t, "value loss", critic.scalar("loss/value_avg"), want.Value, 3e-6, 3e-6)
			nearLoss(t, "entropy", o.scalar("policy/entropy_avg"), want.Entropy, 3e-6, 3e-6)
			nearLoss(t, "total", o.scalar("loss")+critic.scalar("loss"), want.Total, 3e-6, 3e-6)
			nearLoss(t, "clip fraction", o.scalar("policy/clipfrac_avg"), want.ClipFraction, 1e-6, 0)
			nearLoss(t, "approximate KL", o.scalar("policy/approxkl_avg"), want.KL, 3e-6, 3e-6)
			near(t, "new_logprobs", x.gathered(o.report["logp"].F32()), x.gathered(x.spread(values(t, f, "new_logprobs")).F32()), 1e-5, 2e-5)
			near(t, "new_values", x.gathered(critic.report["values"].F32()), x.gathered(x.spread(values(t, f, "new_values")).F32()), 1e-5, 2e-5)
			checkGrads(t, f, name+".grad.policy.", o.grads, 1e-6, 2e-5)
			checkGrads(t, f, name+".grad.critic.", critic.grads, 1e-6, 2e-5)
		})
	}
	numtest.Count(t, "training/ppo", len(c.Cases)+len(c.Adaptive.Steps)+len(c.Estimators)-1)
}

// headName maps a parameter of the value head to its name in value_head.safetensors, "" for others.
func headName(label string) string {
	if label == "v_head.weight" || label == "v_head.bias" {
		return label
	}
	return ""
}

func checkAdvantages(t *testing.T, c ppoCase, f *safetensors.File, x responses) {
	logp, ref, v := values(t, f, "old_logprobs"), values(t, f, "ref_logprobs"), values(t, f, "old_values")
	var rewards, advantages, returns [][]float64
	for i := range x.B {
		r := train.TokenRewards(x.row(logp, i), x.row(ref, i), c.Hyper.KLCoef, c.Scores[i])
		a, g := train.GAE(r, x.row(v, i), c.Hyper.Gamma, c.Hyper.Lambda)
		rewards, advantages, returns = append(rewards, r), append(advantages, a), append(returns, g)
	}
	near(t, "token_rewards", x.flatten(rewards), values(t, f, "token_rewards"), 3e-6, 0)
	near(t, "advantages", x.flatten(advantages), values(t, f, "advantages"), 3e-6, 0)
	near(t, "returns", x.flatten(returns), values(t, f, "returns"), 3e-6, 0)
	train.Whiten(advantages, false)
	near(t, "advantages_whitened", x.flatten(advantages), values(t, f, "advantages_whitened"), 3e-6, 0)
}

func checkControllers(t *testing.T, c ppoCase) {
	for kind, want := range c.Estimators {
		for i, r := range c.Estimators["logratio_policy_minus_ref"] {
			if kind == "logratio_policy_minus_ref" {
				continue
			}
			nearLoss(t, kind, float32(train.DivergenceEstimate(kind, r)), want[i], 1e-6, 1e-6)
		}
	}
	for _, s := range c.Adaptive.Steps {
		a := train.AdaptiveKL{Coefficient: s.Before, Target: c.Adaptive.Target, Horizon: c.Adaptive.Horizon}
		a.Observe(s.KL, c.Adaptive.N)
		nearLoss(t, "adaptive KL coefficient", float32(a.Coefficient), s.After, 0, 1e-6)
	}
}
