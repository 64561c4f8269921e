package train

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"danlu/data"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/engine/ref"
	"danlu/family"
	"danlu/nn"
	"danlu/optim"
	"danlu/weights"
)

// sparseConfig is a small DeepSeek-V3 with a prediction module.
const sparseConfig = `{"architectures":["DeepseekV3ForCausalLM"],"hidden_act":"silu","hidden_size":32,"intermediate_size":48,"kv_lora_rank":12,
"max_position_embeddings":64,"moe_intermediate_size":16,"n_group":2,"n_routed_experts":8,"n_shared_experts":1,"norm_topk_prob":true,"num_attention_heads":2,
"num_experts_per_tok":2,"num_hidden_layers":3,"first_k_dense_replace":1,"num_key_value_heads":2,"num_nextn_predict_layers":1,"q_lora_rank":16,
"qk_nope_head_dim":8,"qk_rope_head_dim":8,"v_head_dim":8,"rms_norm_eps":1e-6,"rope_theta":10000,"routed_scaling_factor":1.5,"scoring_func":"sigmoid",
"topk_group":2,"topk_method":"noaux_tc","vocab_size":64,"tie_word_embeddings":false,"initializer_range":0.2}`

func sparseStepper(t *testing.T, eng engine.Engine, n NextToken, speed float64) (*Stepper, engine.Store) {
	t.Helper()
	m, _, err := family.Parse("config.json", []byte(sparseConfig))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Check(m); err != nil {
		t.Fatal(err)
	}
	store := eng.NewStore()
	s, err := NewStepper(StepConfig{Engine: eng, Store: store, Model: m, Policy: nn.Float32, Objective: n.Objective(), BiasSpeed: speed, Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); store.Close() })
	if err := weights.Init(store, store.Specs(), 2); err != nil {
		t.Fatal(err)
	}
	return s, store
}

// twoDocuments is a batch of one packed row and one padded row.
func twoDocuments() *data.Batch {
	rng := rand.New(rand.NewPCG(3, 3))
	text := func(n int) data.Sequence {
		s := data.Sequence{}
		for range n {
			s.IDs = append(s.IDs, int32(rng.IntN(64)))
		}
		return s
	}
	x := data.PackRow([]data.Sequence{text(9), text(7)}, 16, 0)
	y := data.PadBatch([]data.Sequence{text(11)}, 16, 0)
	both := *x
	both.B, both.Rows, both.Scored, both.Tokens = 2, 2, x.Scored+y.Scored, x.Tokens+y.Tokens
	both.IDs, both.Targets, both.Segments, both.Positions = append(x.IDs, y.IDs...), append(x.Targets, y.Targets...), append(x.Segments, y.Segments...), append(x.Positions, y.Positions...)
	both.Labels = nil
	return &both
}

func newCPU(t *testing.T) engine.Engine {
	t.Helper()
	eng, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

func TestNextTokenTermsAgreeOnBothEngines(t *testing.T) {
	n := NextToken{ZLoss: 1e-2, Balance: 0.1, Sequence: 0.1, MTP: 0.3}
	x := twoDocuments()
	var all []map[string]float64
	for _, eng := range []engine.Engine{newCPU(t), ref.New()} {
		s, _ := sparseStepper(t, eng, n, 0)
		r, err := s.Accumulate(context.Background(), x, 1/float64(x.Scored), true)
		if err != nil {
			t.Fatal(err)
		}
		norm, err := s.GradNorm(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		r["grad_norm"] = norm
		for k, v := range s.Loads() {
			r[k] = v
		}
		all = append(all, r)
	}
	for _, name := range []string{"loss", "z_loss", "mtp_loss", "balance_loss", "sequence_balance_loss", "grad_norm", "moe/max_violation", "moe/idle_experts"} {
		a, ok := all[0][name]
		if b := all[1][name]; !ok || !(math.Abs(a-b) <= 2e-5*max(1, math.Abs(b))) {
			t.Errorf("%s: %v on the CPU engine, %v on the reference engine", name, a, b)
		}
	}
	// Even loads would make the Switch loss the number of experts of a token; a loss of chance is log(vocabulary).
	if b := all[1]["balance_loss"]; !(b >= 2 && b < 4) {
		t.Errorf("balance loss %v", b)
	}
	if l := all[1]["mtp_loss"]; !(math.Abs(l-math.Log(64)) < 1.5) {
		t.Errorf("prediction loss %v", l)
	}
}

func TestPredictionLossSkipsOtherDocuments(t *testing.T) {
	s, _ := sparseStepper(t, newCPU(t), NextToken{MTP: 1}, 0)
	x := twoDocuments()
	r, err := s.Evaluate(context.Background(), x, 1)
	if err != nil {
		t.Fatal(err)
	}
	// The second document of the first row says other things: what the module predicts inside the first stays.
	other := *x
	other.IDs, other.Targets = append([]int32(nil), x.IDs...), append([]int32(nil), x.Targets...)
	for i := 9; i < 16; i++ {
		other.Targets[i] = data.Ignore
	}
	first, err := s.Evaluate(context.Background(), &other, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := 9; i < 16; i++ {
		other.IDs[i] = (other.IDs[i] + 7) % 64
	}
	again, err := s.Evaluate(context.Background(), &other, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !(first["mtp_loss"] < r["mtp_loss"]) || first["mtp_loss"] != again["mtp_loss"] {
		t.Errorf("prediction loss %v, without the second document %v, and with another one %v", r["mtp_loss"], first["mtp_loss"], again["mtp_loss"])
	}
}

func TestBiasUpdatesEvenLoads(t *testing.T) {
	s, store := sparseStepper(t, newCPU(t), NextToken{}, 0.02)
	x := twoDocuments()
	var first, last float64
	for i := range 60 {
		if _, err := s.Accumulate(context.Background(), x, 1/float64(x.Scored), true); err != nil {
			t.Fatal(err)
		}
		if last = s.Loads()["moe/max_violation"]; i == 0 {
			first = last
		}
		if err := s.Apply(context.Background(), 0, 1, int64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if !(last < 0.6*first) {
		t.Errorf("violation from %v to %v", first, last)
	}
	bias, err := store.Get("model.layers.1.mlp.gate.e_score_correction_bias")
	if err != nil {
		t.Fatal(err)
	}
	moved := false
	for _, v := range bias.F32() {
		moved = moved || v != 0
	}
	if !moved {
		t.Error("no bias has moved")
	}
}

func TestTermsThatAModelCannotHave(t *testing.T) {
	m, _, err := family.Preset("llama-tiny")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []NextToken{{Balance: 1}, {Sequence: 1}, {MTP: 1}} {
		if err := n.Check(m); err == nil {
			t.Errorf("%+v: want an error", n)
		}
	}
}
