package data

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/internal/numtest"
)

func readGolden(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

type infillCase struct {
	Name             string    `json:"name"`
	Variant          string    `json:"variant"`
	MaskToken        string    `json:"mask_token"`
	IDs              []int32   `json:"ids"`
	Spans            [][2]int  `json:"spans"`
	Order            []int     `json:"order"`
	PositionBase     int       `json:"position_base"`
	GenerationLength int       `json:"generation_length"`
	Prompt           []int32   `json:"prompt"`
	Answer           []int32   `json:"answer"`
	InputIDs         []int32   `json:"input_ids"`
	TargetIDs        []int32   `json:"target_ids"`
	LossMask         []int32   `json:"loss_mask"`
	Labels           []int32   `json:"labels"`
	LabelsPTuning    []int32   `json:"labels_ptuning"`
	PositionIDs      [][]int32 `json:"position_ids"`
	Sep              int       `json:"sep"`
	Allowed          [][]int   `json:"attention_allowed"`
}

func TestGoldenInfilling(t *testing.T) {
	dir := numtest.Goldens(t, "training/glm_infilling")
	count := 0
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		var file struct {
			Special map[string]int32 `json:"special_ids"`
			Cases   []infillCase     `json:"cases"`
		}
		readGolden(t, path, &file)
		id := func(name string) int32 {
			v, ok := file.Special[name]
			if !ok {
				return -1
			}
			return v
		}
		tokens := GLMTokens{Mask: id("[MASK]"), GMask: id("[gMASK]"), SMask: id("[sMASK]"), SOP: id("sop"), EOP: id("eop"), EOS: id("eos")}
		for _, c := range file.Cases {
			count++
			t.Run(c.Name, func(t *testing.T) { checkInfill(t, c, tokens, id) })
		}
	}
	numtest.Count(t, "training/glm_infilling", count)
}

func checkInfill(t *testing.T, c infillCase, tokens GLMTokens, id func(string) int32) {
	var got Layout
	var err error
	switch c.Variant {
	case "glm", "glm_sentence":
		spans := make([]Span, len(c.Spans))
		for i, s := range c.Spans {
			spans[i] = Span{s[0], s[1]}
		}
		got, err = BlankInfill(c.IDs, spans, c.Order, id(c.MaskToken), tokens, c.PositionBase)
	case "glm_gmask":
		got, err = GenerationInfill(c.IDs, c.GenerationLength, tokens)
	case "glm130b_gmask":
		got = GLM130B(c.Prompt, c.Answer, tokens)
	case "chatglm6b":
		got = ChatGLM6B(c.Prompt, c.Answer, tokens, false)
		if c.LabelsPTuning != nil {
			if p := ChatGLM6B(c.Prompt, c.Answer, tokens, true); !slices.Equal(p.Labels, c.LabelsPTuning) {
				t.Errorf("labels_ptuning: want %v, got %v", c.LabelsPTuning, p.Labels)
			}
		}
	case "chatglm2_causal":
		got = ChatGLM2(c.Prompt, c.Answer, tokens)
	default:
		t.Fatalf("unknown variant %q", c.Variant)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.IDs, c.InputIDs) {
		t.Errorf("input_ids: want %v, got %v", c.InputIDs, got.IDs)
	}
	if c.TargetIDs != nil {
		want := slices.Clone(c.TargetIDs)
		for i := range want {
			if c.LossMask[i] == 0 {
				want[i] = Ignore
			}
		}
		if !slices.Equal(got.Targets, want) {
			t.Errorf("targets: want %v, got %v", want, got.Targets)
		}
	}
	if c.Labels != nil {
		if !slices.Equal(got.Labels, c.Labels) {
			t.Errorf("labels: want %v, got %v", c.Labels, got.Labels)
		}
		if !slices.Equal(got.Targets, shift(c.Labels)) {
			t.Errorf("targets: want the shifted labels, got %v", got.Targets)
		}
	}
	if c.TargetIDs == nil && c.Labels == nil {
		t.Error("the case has neither target_ids nor labels")
	}
	if len(got.Positions) != len(c.PositionIDs) {
		t.Fatalf("position rows: want %d, got %d", len(c.PositionIDs), len(got.Positions))
	}
	for i := range c.PositionIDs {
		if !slices.Equal(got.Positions[i], c.PositionIDs[i]) {
			t.Errorf("position row %d: want %v, got %v", i, c.PositionIDs[i], got.Positions[i])
		}
	}
	if got.Prefix != c.Sep {
		t.Errorf("sep: want %d, got %d", c.Sep, got.Prefix)
	}
	for q := range c.Allowed {
		for k := range c.Allowed[q] {
			if got.Allowed(q, k) != (c.Allowed[q][k] == 1) {
				t.Fatalf("attention from %d to %d: want %d", q, k, c.Allowed[q][k])
			}
		}
	}
}

type sftCase struct {
	Special map[string]int32 `json:"special_ids"`
	Chats   [][]struct {
		Role    string  `json:"role"`
		Content []int32 `json:"content"`
	} `json:"chats"`
	Masks []struct {
		IDs      []int32 `json:"ids"`
		Mask     []int32 `json:"assistant_mask"`
		Variants map[string]struct {
			Labels  []int32 `json:"labels"`
			Targets int     `json:"target_tokens"`
		} `json:"variants"`
	} `json:"loss_masks"`
	Packing struct {
		PaddedIDs    [][]int32 `json:"padded_ids"`
		PaddedMask   [][]int32 `json:"padded_attention_mask"`
		PaddedLabels [][]int32 `json:"padded_labels"`
		IDs          []int32   `json:"packed_ids"`
		Labels       []int32   `json:"packed_labels"`
		Positions    []int32   `json:"packed_positions"`
		DocIDs       []int32   `json:"packed_doc_ids"`
		CuSeqlens    []int     `json:"cu_seqlens"`
	} `json:"packing"`
	Plans struct {
		Lengths   []int      `json:"lengths"`
		SeqLength int        `json:"seq_length"`
		BFD       [][][2]int `json:"bfd"`
		Wrapped   [][][2]int `json:"wrapped"`
	} `json:"pack_plans"`
}

// chatML renders the reference chats as README.md describes.
type chatML struct{ special map[string]int32 }

func (c chatML) pairs(roles []string, contents [][]int32) []Pair {
	start, end, newline := c.special["im_start"], c.special["im_end"], c.special["newline"]
	var ids []int32
	var scored []bool
	add := func(s bool, x ...int32) {
		for _, id := range x {
			ids, scored = append(ids, id), append(scored, s)
		}
	}
	for i, role := range roles {
		answer := role == "assistant"
		add(false, start, c.special[role], newline)
		add(answer, contents[i]...)
		add(answer, end)
		add(false, newline)
	}
	return PairsFromMask(ids, scored)
}

func TestGoldenSFT(t *testing.T) {
	dir := numtest.Goldens(t, "training/sft")
	paths, err := filepath.Glob(filepath.Join(dir, "case*.json"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range paths {
		var c sftCase
		readGolden(t, path, &c)
		count += len(c.Masks) + 3
		var rows []Sequence
		for i, m := range c.Masks {
			var roles []string
			var contents [][]int32
			for _, turn := range c.Chats[i] {
				roles, contents = append(roles, turn.Role), append(contents, turn.Content)
			}
			pairs := chatML{c.Special}.pairs(roles, contents)
			for name, v := range m.Variants {
				e := &ChatEncoder{CutoffLen: 1 << 20, EfficientEOS: -1, TrainOnPrompt: name == "all_tokens", MaskHistory: name == "last_turn_only"}
				got, truncated := e.Join(pairs, nil)
				if truncated || !slices.Equal(got.IDs, m.IDs) || !slices.Equal(got.Labels, v.Labels) || got.Scored() != v.Targets {
					t.Errorf("%s chat %d %s: want %v %v %d, got %v %v %d", path, i, name, m.IDs, v.Labels, v.Targets, got.IDs, got.Labels, got.Scored())
				}
				if name == "assistant_only" {
					rows = append(rows, got)
				}
			}
		}
		checkPadded(t, c, rows)
		checkPacked(t, c, rows)
		checkPlans(t, c)
	}
	numtest.Count(t, "training/sft", count)
}

func checkPadded(t *testing.T, c sftCase, rows []Sequence) {
	b := PadBatch(rows, 0, 0)
	for i := range c.Packing.PaddedIDs {
		at := i * b.T
		if !slices.Equal(b.IDs[at:at+b.T], c.Packing.PaddedIDs[i]) || !slices.Equal(b.Labels[at:at+b.T], c.Packing.PaddedLabels[i]) {
			t.Errorf("padded row %d: got ids %v, labels %v", i, b.IDs[at:at+b.T], b.Labels[at:at+b.T])
		}
		for k, m := range c.Packing.PaddedMask[i] {
			if (b.Segments[at+k] != NoSegment) != (m == 1) {
				t.Errorf("padded row %d place %d: segment %d, attention mask %d", i, k, b.Segments[at+k], m)
			}
		}
	}
}

func checkPacked(t *testing.T, c sftCase, rows []Sequence) {
	b := PackRow(rows, 0, 0)
	for _, x := range []struct {
		name      string
		got, want []int32
	}{{"ids", b.IDs, c.Packing.IDs}, {"labels", b.Labels, c.Packing.Labels}, {"positions", b.Positions, c.Packing.Positions}, {"doc_ids", b.Segments, c.Packing.DocIDs}} {
		if !slices.Equal(x.got, x.want) {
			t.Errorf("packed %s: want %v, got %v", x.name, x.want, x.got)
		}
	}
	at := 0
	for i, s := range rows {
		if at += len(s.IDs); at != c.Packing.CuSeqlens[i+1] {
			t.Errorf("cu_seqlens %d: want %d, got %d", i+1, c.Packing.CuSeqlens[i+1], at)
		}
	}
	// Padded and packed rows train on the same tokens.
	if p := PadBatch(rows, 0, 0); p.Scored != b.Scored {
		t.Errorf("scored: padded %d, packed %d", p.Scored, b.Scored)
	}
}

func checkPlans(t *testing.T, c sftCase) {
	for _, p := range []struct {
		name string
		pack func([]int, int) ([][]Piece, error)
		want [][][2]int
	}{{"bfd", PackBFD, c.Plans.BFD}, {"wrapped", PackWrapped, c.Plans.Wrapped}} {
		rows, err := p.pack(c.Plans.Lengths, c.Plans.SeqLength)
		if err != nil {
			t.Fatal(err)
		}
		var got [][][2]int
		for _, row := range rows {
			var r [][2]int
			for _, piece := range row {
				r = append(r, [2]int{piece.Sample, piece.Tokens})
			}
			got = append(got, r)
		}
		if !slices.EqualFunc(got, p.want, func(a, b [][2]int) bool { return slices.Equal(a, b) }) {
			t.Errorf("%s: want %v, got %v", p.name, p.want, got)
		}
	}
}
