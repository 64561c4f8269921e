package family

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
	"danlu/vision"
)

func init() { register("yi-vl", newYiVL, "LlavaLlamaForCausalLM") }

// YiVL is Yi-VL (arXiv:2403.04652, section 7.3): the patches of a CLIP vision tower, through a projector with norms, take
// the place of an image token in a Yi decoder. The tower's last layer and final norm are in the checkpoint but unused.
type YiVL struct {
	Llama
	Tower      clipTower
	Select     int // which hidden state of the tower, counted from the end
	Activation graph.ActivationKind

	towerPath string // as the config names the tower
	pad       bool   // pictures are padded to squares
}

// clipTower is the vision tower's own config.json.
type clipTower struct {
	HiddenSize   int     `json:"hidden_size"`
	Intermediate int     `json:"intermediate_size"`
	NumLayers    int     `json:"num_hidden_layers"`
	NumHeads     int     `json:"num_attention_heads"`
	ImageSize    int     `json:"image_size"`
	PatchSize    int     `json:"patch_size"`
	Channels     int     `json:"num_channels"`
	NormEps      float64 `json:"layer_norm_eps"`
	HiddenAct    string  `json:"hidden_act"`
}

// YiImageToken stands for a picture in a text.
const YiImageToken = -200

func newYiVL(c *Config) (Model, error) {
	m := &YiVL{Select: -c.IntOr("mm_vision_select_layer", -2), Tower: clipTower{Channels: 3, NormEps: 1e-5, HiddenAct: "gelu"}}
	tower := c.StringOr("mm_vision_tower", "")
	m.towerPath, m.pad = tower, c.StringOr("image_aspect_ratio", "square") == "pad"
	var data json.RawMessage
	if !c.get("vision_config", &data) { // presets hold the tower's config themselves
		var err error
		if data, err = readTowerConfig(filepath.Dir(c.path), tower); err != nil {
			return nil, c.Errorf("mm_vision_tower", "%v", err)
		}
	}
	if err := json.Unmarshal(data, &m.Tower); err != nil {
		return nil, c.Errorf("mm_vision_tower", "its config.json: %v", err)
	}
	t := &m.Tower
	if t.HiddenSize < 1 || t.NumHeads < 1 || t.HiddenSize%t.NumHeads != 0 || t.PatchSize < 1 || t.ImageSize < t.PatchSize || t.NumLayers < m.Select || t.Intermediate < 1 || m.Select < 1 ||
		max(t.HiddenSize, t.Intermediate, t.ImageSize, t.NumLayers) > 1<<20 {
		return nil, c.Errorf("mm_vision_tower", "its config.json: the sizes do not fit each other")
	}
	switch t.HiddenAct {
	case "gelu":
		m.Activation = graph.GELU
	case "quick_gelu":
		m.Activation = graph.QuickGELU
	default:
		return nil, c.Errorf("mm_vision_tower", "its config.json: hidden_act %q is not supported", t.HiddenAct)
	}
	c.Want("mm_projector_type", "mlp2x_gelu_Norm")
	c.Want("mm_vision_select_feature", "patch")
	c.Want("mm_use_im_start_end", false)
	c.ignore("freeze_mm_mlp_adapter", "image_grid_pinpoints", "mm_hidden_size", "mm_use_im_patch_token", "tune_mm_mlp_adapter", "use_mm_proj")
	m.Llama = *readLlama(c, 10000)
	m.QKVBias = c.BoolOr("attention_bias", false)
	m.OutBias = m.QKVBias
	if _, err := m.done(c, "yi-vl"); err != nil {
		return nil, err
	}
	return m, nil
}

// towerFolders are where a tower may lie below the model's folder: released models name it by the path of their own
// download, of which the first part is kept here too.
func towerFolders(tower string) (list []string) {
	for _, path := range []string{tower, filepath.Dir(tower)} {
		if path = filepath.Clean(path); path != "." && filepath.IsLocal(path) {
			list = append(list, path)
		}
	}
	return list
}

// readTowerConfig reads the config of the tower that a model names.
func readTowerConfig(dir, tower string) ([]byte, error) {
	for _, path := range towerFolders(tower) {
		if data, err := os.ReadFile(filepath.Join(dir, path, "config.json")); err == nil {
			return data, nil
		}
	}
	return nil, fmt.Errorf("no config.json of the vision tower %q beside the model", tower)
}

// patches is the number of patches of a picture.
func (t *clipTower) patches() int {
	side := t.ImageSize / t.PatchSize
	return side * side
}

// patchValues is the number of pixel values of a patch.
func (t *clipTower) patchValues() int { return t.Channels * t.PatchSize * t.PatchSize }

// projectorEps is the projector norms' default in PyTorch.
const projectorEps = 1e-5

const clipPrefix = "model.vision_tower.vision_tower.vision_model."

// Hidden implements Model.
func (m *YiVL) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	if b.Images != nil {
		x = b.Place(x, m.Features(b))
		b.Tap(b.G, "inputs_embeds", x)
	} else if b.Cache == nil {
		probe := *b
		probe.Taps = false
		probe.Images = nn.ImageInputs(b.G, m.Tower.patches(), m.Tower.patchValues(), 1, m.Tower.patches())
		m.Features(&probe)
	}
	return m.decoder(b, b.Illustrate(x))
}

// Features implements Viewer: the pictures' patches as tokens [I·patches, D].
func (m *YiVL) Features(b *nn.Build) *graph.Value {
	t := &m.Tower
	images := b.Images.Patches.Shape[0] / t.patches()
	vec := func(name string) *graph.Value {
		return b.Weight(b.G, clipPrefix+name, graph.Init{Std: m.Std}, nil, t.HiddenSize)
	}
	kernel := b.Weight(b.G, clipPrefix+"embeddings.patch_embedding.weight", graph.Init{Std: m.Std}, nil, t.HiddenSize, t.Channels, t.PatchSize, t.PatchSize)
	places := b.Weight(b.G, clipPrefix+"embeddings.position_embedding.weight", graph.Init{Std: m.Std}, nil, t.patches()+1, t.HiddenSize)
	x := graph.Project(b.Images.Patches, graph.ReshapeTo(kernel, t.HiddenSize, t.patchValues()), nil, b.Policy.Compute, b.Policy.Residual)
	x = graph.ReshapeTo(x, images, t.patches(), t.HiddenSize)
	class := graph.BroadcastTo(graph.ReshapeTo(vec("embeddings.class_embedding"), 1, 1, t.HiddenSize), images, 1, t.HiddenSize)
	x = graph.Add(graph.Join(1, graph.Convert(class, x.DType), x), graph.Convert(places, x.DType))
	x = graph.Convert(b.LayerNorm(b.G, clipPrefix+"pre_layrnorm", x, t.NormEps), b.Policy.Residual)
	used := t.NumLayers + 1 - m.Select // the hidden state wanted is that after so many layers
	x = m.layers(b, x, 0, used)
	b.Tap(b.G, "vision_selected", x)
	m.declareUnused(b, x, used)
	x = graph.ReshapeTo(graph.Cut(x, 1, 1, x.Shape[1]), images*t.patches(), t.HiddenSize)
	for i, name := range []string{"model.mm_projector.0", "model.mm_projector.3"} {
		x = nn.Linear{Name: name, Out: m.HiddenSize, Bias: true, Std: m.Std}.Build(b, b.G, x)
		x = b.LayerNorm(b.G, fmt.Sprintf("model.mm_projector.%d", 3*i+1), x, projectorEps)
		if i == 0 {
			x = graph.Activate(x, graph.GELU)
		}
	}
	b.Tap(b.G, "image_features", graph.ReshapeTo(x, images, t.patches(), m.HiddenSize))
	return x
}

// declareUnused builds what the checkpoint holds and nobody uses.
func (m *YiVL) declareUnused(b *nn.Build, x *graph.Value, used int) {
	probe := *b
	probe.Taps = false
	b.LayerNorm(b.G, clipPrefix+"post_layernorm", m.layers(&probe, x, used, m.Tower.NumLayers), m.Tower.NormEps)
}

// layers are CLIP encoder layers: x += Attention(LayerNorm(x)); x += MLP(LayerNorm(x)).
func (m *YiVL) layers(b *nn.Build, x *graph.Value, from, to int) *graph.Value {
	t := &m.Tower
	tower := *b
	tower.Cache, tower.Mask, tower.Taps = nil, graph.AttentionMask{}, false
	return tower.Layers(clipPrefix+"encoder.layers.%d.", from, to, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		b := &tower
		h := b.LayerNorm(l, "layer_norm1", x, t.NormEps)
		linear := func(name string, x *graph.Value, out int) *graph.Value {
			return nn.Linear{Name: name, Out: out, Bias: true, Std: m.Std}.Build(b, l, x)
		}
		head := func(name string) *graph.Value {
			return nn.Heads(linear("self_attn."+name, h, t.HiddenSize), t.NumHeads)
		}
		y := nn.Attention{Name: "self_attn", Unmasked: true}.Build(b, l, head("q_proj"), head("k_proj"), head("v_proj"))
		x = nn.Add(x, linear("self_attn.out_proj", y, t.HiddenSize))
		h = graph.Activate(linear("mlp.fc1", b.LayerNorm(l, "layer_norm2", x, t.NormEps), t.Intermediate), m.Activation)
		return nn.Add(x, linear("mlp.fc2", h, t.HiddenSize))
	})
}

// PatchShape implements Viewer.
func (m *YiVL) PatchShape() (values, merged int) { return m.Tower.patchValues(), 1 }

// Placeholders implements Viewer.
func (m *YiVL) Placeholders() (picture, video int32) { return YiImageToken, -1 }

// PartOf implements Viewer.
func (m *YiVL) PartOf(name string) Part {
	return partOf(name, "model.vision_tower.", "model.mm_projector.")
}

// ProcessorFiles implements Viewer: the tower's settings lie in a folder of its own.
func (m *YiVL) ProcessorFiles() (files []string) {
	for _, below := range append(towerFolders(m.towerPath), ".") {
		files = append(files, filepath.Join(below, configFile), filepath.Join(below, pictureSettings))
	}
	return files
}

// PicturePositions implements Viewer.
func (m *YiVL) PicturePositions(ids []int32, media []vision.Media) ([][]int32, error) {
	row := make([]int32, len(ids))
	for i := range row {
		row[i] = int32(i)
	}
	return [][]int32{row}, nil
}

// clipEye is CLIP's processor for pictures that are cut into a grid of patches.
type clipEye struct {
	*vision.ClipProcessor
	grid vision.Grid
}

// Grid implements Processor: all pictures get the same size.
func (e *clipEye) Grid(width, height, frames int) (vision.Grid, error) {
	if frames > 0 {
		return vision.Grid{}, errNoVideo
	}
	return e.grid, nil
}

// Image implements Processor.
func (e *clipEye) Image(img *vision.RGB) (*vision.Patches, error) {
	return &vision.Patches{Grid: e.grid, Values: e.ClipProcessor.Image(img)}, nil
}

// Video implements Processor.
func (e *clipEye) Video([]*vision.RGB) (*vision.Patches, error) { return nil, errNoVideo }

// FramesPerGrid implements Processor.
func (e *clipEye) FramesPerGrid() int { return 1 }

var errNoVideo = errors.New("family: yi-vl: reads pictures, not videos")

// Processor implements Viewer: the preprocessor_config.json of the tower's folder.
func (m *YiVL) Processor(dir string) (Processor, error) {
	for _, below := range append(towerFolders(m.towerPath), ".") {
		data, err := processorConfig(filepath.Join(dir, below), pictureSettings)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		p, err := vision.ParseClipProcessor(filepath.Join(dir, below, pictureSettings), data, m.pad)
		if err != nil {
			return nil, err
		}
		if t := &m.Tower; p.Side != t.ImageSize || t.Channels != 3 {
			return nil, fmt.Errorf("family: %s: %s: pictures of %d pixels a side, the vision tower takes %d", dir, pictureSettings, p.Side, t.ImageSize)
		}
		side := p.Side / m.Tower.PatchSize
		return &clipEye{p, vision.Grid{T: 1, H: side, W: side}}, nil
	}
	return nil, fmt.Errorf("family: %s: holds no %s of the vision tower, by which pictures are read", dir, pictureSettings)
}

// TowerInputs implements Viewer: pixels [I, C, side, side].
func (m *YiVL) TowerInputs(media []vision.Media, pixels []float32) (map[string]*tensor.Tensor, error) {
	t := &m.Tower
	side, n := t.ImageSize, t.Channels*t.ImageSize*t.ImageSize
	if len(pixels) != len(media)*n {
		return nil, fmt.Errorf("family: yi-vl: %d pixel values for %d pictures of %d", len(pixels), len(media), n)
	}
	patches := make([]float32, 0, len(pixels))
	for i := range media {
		for py := range side / t.PatchSize {
			for px := range side / t.PatchSize {
				for c := range t.Channels {
					for y := range t.PatchSize {
						at := i*n + (c*side+py*t.PatchSize+y)*side + px*t.PatchSize
						patches = append(patches, pixels[at:at+t.PatchSize]...)
					}
				}
			}
		}
	}
	return map[string]*tensor.Tensor{"patches": tensor.FromF32(patches, len(media)*t.patches(), t.patchValues())}, nil
}
