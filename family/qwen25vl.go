package family

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
	"danlu/vision"
)

func init() { register("qwen2.5-vl", newQwen25VL, "Qwen2_5_VLForConditionalGeneration") }

// Qwen25VL is Qwen2.5-VL (arXiv:2502.13923): a vision tower with attention inside windows, except in a few layers, whose
// patches are merged two by two and take the place of image tokens in a Qwen2.5 decoder with three-row rotary positions.
type Qwen25VL struct {
	Llama
	Tower qwenTower
	MRoPE vision.MRoPE
}

// qwenTower is the vision tower.
type qwenTower struct {
	Depth           int     `json:"depth"`
	HiddenSize      int     `json:"hidden_size"`
	Intermediate    int     `json:"intermediate_size"`
	NumHeads        int     `json:"num_heads"`
	Channels        int     `json:"in_chans"`
	InChannels      int     `json:"in_channels"`
	OutHidden       int     `json:"out_hidden_size"`
	PatchSize       int     `json:"patch_size"`
	Merge           int     `json:"spatial_merge_size"`
	Window          int     `json:"window_size"`
	FullBlocks      []int   `json:"fullatt_block_indexes"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	TemporalPatch   int     `json:"temporal_patch_size"`
	HiddenAct       string  `json:"hidden_act"`
}

// towerEps is fixed in the released code.
const towerEps = 1e-6

func newQwen25VL(c *Config) (Model, error) {
	m := &Qwen25VL{Tower: qwenTower{Channels: 3, PatchSize: 14, Merge: 2, Window: 112, TokensPerSecond: 2, TemporalPatch: 2, HiddenAct: "silu"}}
	var raw json.RawMessage
	if !c.get("vision_config", &raw) {
		return nil, c.Errorf("vision_config", "is missing")
	}
	if err := json.Unmarshal(raw, &m.Tower); err != nil {
		return nil, c.Errorf("vision_config", "%v", err)
	}
	t := &m.Tower
	if t.InChannels > 0 {
		t.Channels = t.InChannels
	}
	for _, f := range []struct {
		key string
		v   int
	}{{"depth", t.Depth}, {"hidden_size", t.HiddenSize}, {"intermediate_size", t.Intermediate}, {"num_heads", t.NumHeads}, {"in_chans", t.Channels}, {"out_hidden_size", t.OutHidden},
		{"patch_size", t.PatchSize}, {"spatial_merge_size", t.Merge}, {"window_size", t.Window}, {"temporal_patch_size", t.TemporalPatch}} {
		if f.v < 1 || f.v > 1<<20 {
			return nil, c.Errorf("vision_config", "%s: want 1 to %d, got %d", f.key, 1<<20, f.v)
		}
	}
	if t.HiddenSize%t.NumHeads != 0 || t.HiddenSize/t.NumHeads%4 != 0 || t.HiddenAct != "silu" {
		return nil, c.Errorf("vision_config", "want heads of a size that is a multiple of 4 and hidden_act silu")
	}
	m.Llama = *readLlama(c, 1e6)
	m.QKVBias = true
	m.readWindow(c)
	if len(m.Rope.Sections) == 0 {
		c.Errorf("rope_scaling", "mrope_section is missing")
	}
	m.MRoPE = vision.MRoPE{ImageToken: int32(c.Token("image_token_id")), VideoToken: int32(c.Token("video_token_id")), Merge: t.Merge, TokensPerSecond: t.TokensPerSecond}
	c.ignore("vision_start_token_id", "vision_end_token_id", "vision_token_id", "image_token_id", "video_token_id")
	if _, err := m.done(c, "qwen2.5-vl"); err != nil {
		return nil, err
	}
	m.info.PositionRows = 3
	return m, nil
}

// PatchValues is the number of pixel values of a patch.
func (t *qwenTower) PatchValues() int {
	return t.Channels * t.TemporalPatch * t.PatchSize * t.PatchSize
}

// Hidden implements Model.
func (m *Qwen25VL) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	if b.Images != nil {
		x = b.Place(x, m.Features(b))
	} else if b.Cache == nil {
		m.declareTower(b)
	}
	return m.decoder(b, b.Illustrate(x))
}

// declareTower declares the tower's parameters in a graph of text alone, so that they are loaded and saved with it.
func (m *Qwen25VL) declareTower(b *nn.Build) {
	probe := *b
	probe.Taps = false
	merged := m.Tower.Merge * m.Tower.Merge
	probe.Images = nn.ImageInputs(b.G, merged, m.Tower.PatchValues(), merged, 1)
	m.Features(&probe)
}

// Features implements Viewer: the merged patches as tokens [P/M, D], in raster order.
func (m *Qwen25VL) Features(b *nn.Build) *graph.Value {
	t, in := &m.Tower, b.Images
	p, merged := in.Patches.Shape[0], t.Merge*t.Merge
	kernel := b.Weight(b.G, "visual.patch_embed.proj.weight", graph.Init{Std: m.Std}, nil, t.HiddenSize, t.Channels, t.TemporalPatch, t.PatchSize, t.PatchSize)
	x := graph.Project(in.Patches, graph.ReshapeTo(kernel, t.HiddenSize, t.PatchValues()), nil, b.Policy.Compute, b.Policy.Residual)
	b.Tap(b.G, "visual.patch_embed", x)
	byWindow := func(x *graph.Value, order *graph.Value) *graph.Value {
		width := x.Len() / order.Len()
		return graph.ReshapeTo(graph.Rows(graph.ReshapeTo(x, order.Len(), width), order), x.Shape...)
	}
	x = graph.ReshapeTo(byWindow(x, in.Order), 1, p, t.HiddenSize)
	// Positions come in raster order of merge blocks, like the patches.
	pos := graph.ReshapeTo(graph.Join(0, byWindow(graph.ReshapeTo(graph.Cut(in.Positions, 0, 0, 1), p), in.Order),
		byWindow(graph.ReshapeTo(graph.Cut(in.Positions, 0, 1, 2), p), in.Order)), 2, 1, p)
	k := t.HiddenSize / t.NumHeads
	inv, _ := nn.Rope{Dim: k / 2, Theta: 10000}.InvFreq(0)
	cos, sin := graph.RotaryTables(pos, b.G.Const(nn.Frequencies(slices.Concat(inv, inv), false)), []int{k / 4, k / 4}, 1)
	for from := 0; from < t.Depth; {
		full := slices.Contains(t.FullBlocks, from)
		to := from + 1
		for to < t.Depth && slices.Contains(t.FullBlocks, to) == full {
			to++
		}
		x = m.blocks(b, x, cos, sin, from, to, full)
		from = to
	}
	h := b.RMSNorm(b.G, "visual.merger.ln_q", x, towerEps)
	h = graph.ReshapeTo(h, p/merged, merged*t.HiddenSize)
	h = nn.Linear{Name: "visual.merger.mlp.0", Out: merged * t.HiddenSize, Bias: true, Std: m.Std}.Build(b, b.G, h)
	h = nn.Linear{Name: "visual.merger.mlp.2", Out: t.OutHidden, Bias: true, Std: m.Std}.Build(b, b.G, graph.Activate(h, graph.GELU))
	b.Tap(b.G, "visual.merger_window_order", h)
	h = graph.Rows(h, in.Inverse)
	b.Tap(b.G, "visual.features", h)
	return h
}

// blocks adds the tower's blocks from to, excluding to, with attention inside windows or, when full, inside pictures.
func (m *Qwen25VL) blocks(b *nn.Build, x, cos, sin *graph.Value, from, to int, full bool) *graph.Value {
	t := &m.Tower
	taps, tower := b.Taps, *b
	tower.Cache, tower.Mask = nil, graph.AttentionMask{Segments: b.Images.Windows}
	if full {
		tower.Mask.Segments = b.Images.Frames
	}
	tower.Taps = false
	mlp := nn.GatedMLP{Name: "mlp", Size: t.Intermediate, Bias: true, Activation: graph.SiLU, Std: m.Std}
	return tower.Layers("visual.blocks.%d.", from, to, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		b := &tower
		qkv := nn.Linear{Name: "attn.qkv", Out: 3 * t.HiddenSize, Bias: true, Std: m.Std}.Build(b, l, b.RMSNorm(l, "norm1", x, towerEps))
		heads := nn.Heads(qkv, 3*t.NumHeads)
		part := func(i int) *graph.Value { return graph.Cut(heads, 2, i*t.NumHeads, (i+1)*t.NumHeads) }
		q, key := graph.Rotate(part(0), cos, sin, false), graph.Rotate(part(1), cos, sin, false)
		y := nn.Attention{Name: "attn", Unmasked: true}.Build(b, l, q, key, part(2))
		x = nn.Add(x, nn.Linear{Name: "attn.proj", Out: t.HiddenSize, Bias: true, Std: m.Std}.Build(b, l, y))
		x = nn.Add(x, mlp.Build(b, l, b.RMSNorm(l, "norm2", x, towerEps)))
		if taps {
			l.OutputFrom("visual.block.%d", from, graph.ReshapeTo(x, x.Shape[1], x.Shape[2]))
		}
		return x
	})
}

// Layout implements Layouter for text alone: three rows that count alike.
func (m *Qwen25VL) Layout(ids []int32) (positions [][]int32, prefix int) {
	positions = make([][]int32, 3)
	for r := range positions {
		positions[r] = make([]int32, len(ids))
		for i := range ids {
			positions[r][i] = int32(i)
		}
	}
	return positions, 0
}

// PatchShape implements Viewer.
func (m *Qwen25VL) PatchShape() (values, merged int) {
	return m.Tower.PatchValues(), m.Tower.Merge * m.Tower.Merge
}

// Placeholders implements Viewer.
func (m *Qwen25VL) Placeholders() (picture, video int32) {
	return m.MRoPE.ImageToken, m.MRoPE.VideoToken
}

// PartOf implements Viewer.
func (m *Qwen25VL) PartOf(name string) Part { return partOf(name, "visual.", "visual.merger.") }

// The image processor's settings, and those for videos where they differ.
const (
	pictureSettings = "preprocessor_config.json"
	videoSettings   = "video_preprocessor_config.json"
)

// ProcessorFiles implements Viewer.
func (m *Qwen25VL) ProcessorFiles() []string { return []string{pictureSettings, videoSettings} }

// PicturePositions implements Viewer.
func (m *Qwen25VL) PicturePositions(ids []int32, media []vision.Media) ([][]int32, error) {
	rows, err := m.MRoPE.Positions(ids, media)
	return rows[:], err
}

// qwenEye are the processors of pictures and of videos, whose limits of size differ.
type qwenEye struct {
	*vision.QwenProcessor
	video *vision.QwenProcessor
}

// Grid implements Processor.
func (e *qwenEye) Grid(width, height, frames int) (vision.Grid, error) {
	if frames == 0 {
		return e.QwenProcessor.Grid(width, height, 1)
	}
	return e.video.Grid(width, height, frames)
}

// Video implements Processor.
func (e *qwenEye) Video(frames []*vision.RGB) (*vision.Patches, error) { return e.video.Video(frames) }

// FramesPerGrid implements Processor.
func (e *qwenEye) FramesPerGrid() int { return e.video.TemporalPatch }

// Processor implements Viewer.
func (m *Qwen25VL) Processor(dir string) (Processor, error) { return m.eye(dir) }

func (m *Qwen25VL) eye(dir string) (*qwenEye, error) {
	data, err := processorConfig(dir, pictureSettings)
	if err == nil && data == nil {
		err = fmt.Errorf("family: %s: holds no %s, by which pictures are read", dir, pictureSettings)
	}
	if err != nil {
		return nil, err
	}
	e := &qwenEye{}
	if e.QwenProcessor, err = vision.ParseQwenProcessor(filepath.Join(dir, pictureSettings), data); err != nil {
		return nil, err
	}
	e.video = e.QwenProcessor
	if data, err = processorConfig(dir, videoSettings); err == nil && data != nil {
		e.video, err = vision.ParseQwenProcessor(filepath.Join(dir, videoSettings), data)
	}
	if err != nil {
		return nil, err
	}
	t := &m.Tower
	for _, p := range []*vision.QwenProcessor{e.QwenProcessor, e.video} {
		if p.PatchSize != t.PatchSize || p.TemporalPatch != t.TemporalPatch || p.MergeSize != t.Merge {
			return nil, fmt.Errorf("family: %s: %s: patches of %d x %d x %d merged by %d, the vision tower takes %d x %d x %d merged by %d", dir, pictureSettings,
				p.TemporalPatch, p.PatchSize, p.PatchSize, p.MergeSize, t.TemporalPatch, t.PatchSize, t.PatchSize, t.Merge)
		}
	}
	return e, nil
}

// TowerInputs implements Viewer: patches [P, C] of all media.
func (m *Qwen25VL) TowerInputs(media []vision.Media, patches []float32) (map[string]*tensor.Tensor, error) {
	t := &m.Tower
	unit := t.Merge * t.Merge
	var windows, frames, order []int32
	var positions [2][]int32
	window, frame := int32(0), int32(0)
	for _, x := range media {
		g := x.Grid
		listed, ends := g.Windows(t.Merge, t.Window/t.PatchSize/t.Merge)
		base, at := int32(len(order)), 0
		perFrame := g.H * g.W / unit
		for i, place := range listed {
			if i == ends[at] {
				at++
			}
			order = append(order, base+place)
			for range unit {
				windows = append(windows, window+int32(at))
				frames = append(frames, frame+int32(int(place)/perFrame))
			}
		}
		window, frame = window+int32(len(ends)), frame+int32(g.T)
		p := g.PatchPositions(t.Merge)
		positions[0], positions[1] = append(positions[0], p[0]...), append(positions[1], p[1]...)
	}
	inverse := make([]int32, len(order))
	for i, place := range order {
		inverse[place] = int32(i)
	}
	n := len(order) * unit
	if len(patches) != n*t.PatchValues() {
		return nil, fmt.Errorf("family: qwen2.5-vl: %d pixel values for %d merged patches", len(patches), len(order))
	}
	return map[string]*tensor.Tensor{
		"patches":         tensor.FromF32(patches, n, t.PatchValues()),
		"patch_positions": tensor.FromI32(slices.Concat(positions[0], positions[1]), 2, 1, n),
		"patch_windows":   tensor.FromI32(windows, 1, n), "patch_frames": tensor.FromI32(frames, 1, n),
		"window_order": tensor.FromI32(order, len(order)), "window_inverse": tensor.FromI32(inverse, len(order)),
	}, nil
}
