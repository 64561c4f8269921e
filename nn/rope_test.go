package nn

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"danlu/internal/numtest"
)

// ropeRow is a row of tables.json.
type ropeRow struct {
	Name        string  `json:"name"`
	Dim         int     `json:"rotary_dim"`
	Theta       float64 `json:"rope_theta"`
	MaxPosition int     `json:"max_position_embeddings"`
	Scaling     *struct {
		Type            string    `json:"type"`
		RopeType        string    `json:"rope_type"`
		Factor          float64   `json:"factor"`
		Original        int       `json:"original_max_position_embeddings"`
		Low             float64   `json:"low_freq_factor"`
		High            float64   `json:"high_freq_factor"`
		BetaFast        float64   `json:"beta_fast"`
		BetaSlow        float64   `json:"beta_slow"`
		AttentionFactor *float64  `json:"attention_factor"`
		MScale          float64   `json:"mscale"`
		MScaleAllDim    float64   `json:"mscale_all_dim"`
		Truncate        *bool     `json:"truncate"`
		Short           []float64 `json:"short_factor"`
		Long            []float64 `json:"long_factor"`
	} `json:"rope_scaling"`
	SeqLen          *int                 `json:"seq_len"`
	AttentionFactor float64              `json:"attention_factor"`
	InvFreq         []float64            `json:"inv_freq"`
	InvFreq64       []float64            `json:"inv_freq_f64"`
	ScaleMultiplier *float64             `json:"mla_softmax_scale_multiplier"`
	Cos             map[string][]float64 `json:"cos_f64_at"`
}

func TestGoldenRopeScaling(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(numtest.Goldens(t, "training/rope_scaling"), "tables.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct{ Rows []ropeRow }
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	for _, row := range g.Rows {
		r := Rope{Dim: row.Dim, Theta: row.Theta, MaxPosition: row.MaxPosition}
		if s := row.Scaling; s != nil {
			r.Scaling = Scaling{Type: s.RopeType, Factor: s.Factor, OriginalMaxPosition: s.Original, LowFreqFactor: s.Low, HighFreqFactor: s.High, BetaFast: s.BetaFast,
				BetaSlow: s.BetaSlow, AttentionFactor: s.AttentionFactor, MScale: s.MScale, MScaleAllDim: s.MScaleAllDim, NoTruncate: s.Truncate != nil && !*s.Truncate,
				ShortFactor: s.Short, LongFactor: s.Long}
			if r.Scaling.Type == "" {
				r.Scaling.Type = s.Type
			}
		}
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", row.Name, err)
			continue
		}
		length := 0
		if row.SeqLen != nil {
			length = *row.SeqLen
		}
		inv, factor := r.InvFreq(length)
		if !(math.Abs(factor-row.AttentionFactor) <= 1e-9) {
			t.Errorf("%s: attention factor %v, want %v", row.Name, factor, row.AttentionFactor)
		}
		want := row.InvFreq64
		tol := 1e-12
		if want == nil {
			want, tol = row.InvFreq, 1e-6
		}
		if len(inv) != len(want) {
			t.Errorf("%s: %d frequencies, want %d", row.Name, len(inv), len(want))
			continue
		}
		for i := range inv {
			if !(math.Abs(inv[i]-want[i]) <= tol*want[i]) || !(math.Abs(inv[i]-row.InvFreq[i]) <= 1e-6*row.InvFreq[i]) {
				t.Errorf("%s: frequency %d is %v, want %v", row.Name, i, inv[i], want[i])
				break
			}
		}
		if row.ScaleMultiplier != nil {
			m := YarnMScale(r.Scaling.Factor, r.Scaling.MScaleAllDim)
			if !(math.Abs(m*m-*row.ScaleMultiplier) <= 1e-9) {
				t.Errorf("%s: softmax scale multiplier %v, want %v", row.Name, m*m, *row.ScaleMultiplier)
			}
		}
	}
	numtest.Count(t, "training/rope_scaling", len(g.Rows))
}

func TestAlibiSlopes(t *testing.T) {
	// Press et al., section 3: 8 heads have 1/2, 1/4, ..., 1/256.
	for i, s := range AlibiSlopes(8) {
		if want := math.Exp2(-float64(i + 1)); !(math.Abs(float64(s)-want) <= 1e-9) {
			t.Errorf("slope %d is %v, want %v", i, s, want)
		}
	}
	if got := AlibiSlopes(6); len(got) != 6 || got[4] != 0.5 || got[5] != 0.125 {
		t.Errorf("slopes of 6 heads: %v", got)
	}
}
