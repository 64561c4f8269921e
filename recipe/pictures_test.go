package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/generate"
	"danlu/tokenizer"
	"danlu/vision"
	"danlu/weights"
)

// seeing are small shapes of the families that read pictures, whose vocabulary is the built-in one with more tokens.
var seeing = map[string]struct{ template, tower, merger string }{
	"qwen2.5-vl": {"qwen2_vl", "visual.blocks.0.attn.qkv.weight", "visual.merger.mlp.0.weight"},
	"yi-vl":      {"yi_vl", "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", "model.mm_projector.0.weight"},
}

const visionTokens = 4

func seeingFolder(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := tokenizer.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	data, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := tok.VocabSize()
	for i, w := range []string{"<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"} {
		file["added_tokens"] = append(file["added_tokens"].([]any), map[string]any{"id": v + i, "content": w, "special": true})
	}
	if data, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	write("tokenizer.json", string(data))
	text := fmt.Sprintf(`"vocab_size":%d,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,"rms_norm_eps":1e-6,
		"max_position_embeddings":1024,"tie_word_embeddings":true,"torch_dtype":"float32"`, v+visionTokens)
	if kind == "yi-vl" {
		write("config.json", `{"architectures":["LlavaLlamaForCausalLM"],"mm_vision_tower":"./vit","mm_projector_type":"mlp2x_gelu_Norm","image_aspect_ratio":"pad","rope_theta":10000.0,`+text+`}`)
		write("vit/config.json", `{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":28,"patch_size":14}`)
		write("vit/preprocessor_config.json", `{"size":28,"crop_size":28}`)
		return dir
	}
	write("config.json", fmt.Sprintf(`{"architectures":["Qwen2_5_VLForConditionalGeneration"],"image_token_id":%d,"video_token_id":%d,"rope_scaling":{"type":"mrope","mrope_section":[2,3,3]},
		"vision_config":{"depth":2,"hidden_size":16,"intermediate_size":24,"num_heads":2,"out_hidden_size":32,"window_size":56,"fullatt_block_indexes":[1]},%s}`, v+2, v+3, text))
	write("preprocessor_config.json", `{"min_pixels":784,"max_pixels":3136,"patch_size":14,"temporal_patch_size":2,"merge_size":2}`)
	return dir
}

// coloured writes pictures of one colour and a dataset that asks for it.
func coloured(t *testing.T) (dataset string, pictures map[string]string) {
	t.Helper()
	dir := t.TempDir()
	pictures = map[string]string{}
	var rows []string
	for word, c := range map[string]color.RGBA{"red": {220, 30, 30, 255}, "blue": {30, 30, 220, 255}, "green": {30, 200, 30, 255}} {
		img := image.NewRGBA(image.Rect(0, 0, 60, 40))
		for i := range img.Pix {
			img.Pix[i] = []uint8{c.R, c.G, c.B, c.A}[i%4]
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		pictures[word] = filepath.Join(dir, word+".png")
		if err := os.WriteFile(pictures[word], b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, fmt.Sprintf(`{"messages":[{"role":"user","content":"<image>\\nWhat colour?"},{"role":"assistant","content":"%s"}],"images":["%s.png"]}`, word, word))
	}
	rows = append(rows, `{"messages":[{"role":"user","content":"Say a word."},{"role":"assistant","content":"word"}],"images":[]}`)
	slices.Sort(rows)
	info := `{"colours":{"file_name":"rows.json","formatting":"sharegpt","columns":{"messages":"messages","images":"images"},
		"tags":{"role_tag":"role","content_tag":"content","user_tag":"user","assistant_tag":"assistant"}}}`
	for name, content := range map[string]string{"rows.json": "[" + strings.Join(rows, ",\n") + "]", "dataset_info.json": info} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, pictures
}

const pictureRecipe = "stage: sft\nreport_to: none\ndataset: colours\nfinetuning_type: full\ncutoff_len: 512\nper_device_train_batch_size: 2\ngradient_accumulation_steps: 2\noverwrite_output_dir: true\n"

// A model learns from scratch to name the colours of pictures, which needs its tower, projector and text part, and says
// them when it is loaded again.
func TestTrainPictures(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	for kind, names := range seeing {
		t.Run(kind, func(t *testing.T) {
			model, out := seeingFolder(t, kind), filepath.Join(t.TempDir(), "out")
			dataset, pictures := coloured(t)
			said, err := attempt(t, pictureRecipe+"train_from_scratch: true\nfreeze_vision_tower: false\nfreeze_multi_modal_projector: false\nmax_steps: 60\nlearning_rate: 0.01\n",
				"model_name_or_path="+model, "dataset_dir="+dataset, "output_dir="+out, "template="+names.template)
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			for word, path := range pictures {
				if got := told(t, out, names.template, path); got != word {
					t.Errorf("a %s picture: %q", word, got)
				}
			}
		})
	}
}

// told is what a model folder says about a picture.
func told(t *testing.T, dir, template, picture string) string {
	t.Helper()
	c, err := family.Open(dir, notModels...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	eng, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	specs, err := family.Params(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	store := eng.NewStore()
	defer store.Close()
	for _, s := range specs {
		if err := store.Declare(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := weights.Load(store, specs, c.Weights, weights.LoadOptions{Ignored: c.Model.Info().Ignored}); err != nil {
		t.Fatal(err)
	}
	r, err := generate.NewRunner(eng, store, c.Model, generate.Options{Context: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Shut()
	return colourOf(t, r, dir, template, picture, tok)
}

// colourOf asks a runner what colour a picture has.
func colourOf(t *testing.T, r *generate.Runner, dir, template, picture string, tok *tokenizer.Tokenizer) string {
	t.Helper()
	format, err := chat.Lookup(template, tok)
	if err != nil {
		t.Fatal(err)
	}
	eyes, err := r.Eyes(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer eyes.Close()
	img, err := vision.Load(picture)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := eyes.Picture(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	question := chat.NewQuestion(chat.PictureMark + "\nWhat colour?")
	p, err := chat.NewDialect(nil, format, tok).Prompt(&chat.Conversation{Messages: []*jinja.Dict{question}, Open: true})
	if err != nil {
		t.Fatal(err)
	}
	ids, shown, err := eyes.Lay(p.IDs, []*generate.Seen{seen}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seq, err := r.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(seq)
	end, _ := format.Stop()
	res, err := r.Write(context.Background(), seq, generate.Writing{Tokenizer: tok, Fresh: true, Request: generate.Request{Prompt: ids, Pictures: shown, MaxNew: 6, End: end}})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(res.Text)
}

// LLaMA-Factory's keys say which parts are trained; by default it is the text part alone.
func TestFrozenParts(t *testing.T) {
	for kind, names := range seeing {
		t.Run(kind, func(t *testing.T) {
			model, base := seeingFolder(t, kind), filepath.Join(t.TempDir(), "base")
			dataset, _ := coloured(t)
			run := func(out, keys string, words ...string) string {
				said, err := attempt(t, pictureRecipe+keys, append(words, "dataset_dir="+dataset, "output_dir="+out, "template="+names.template)...)
				if err != nil {
					t.Fatalf("%v\n%s", err, said)
				}
				return out
			}
			run(base, "train_from_scratch: true\nmax_steps: 1\nlearning_rate: 0.001\n", "model_name_or_path="+model)
			text := "model.layers.0.mlp.up_proj.weight"
			for _, c := range []struct {
				keys    string
				changed []string
			}{
				{"", []string{text}},
				{"freeze_multi_modal_projector: false\n", []string{text, names.merger}},
				{"freeze_multi_modal_projector: false\nfreeze_language_model: true\n", []string{names.merger}},
				{"freeze_vision_tower: false\nfreeze_language_model: true\n", []string{names.tower}},
			} {
				out := run(filepath.Join(t.TempDir(), "out"), "max_steps: 1\nlearning_rate: 0.01\n"+c.keys, "model_name_or_path="+base)
				for _, name := range []string{text, names.merger, names.tower} {
					if same := sameTensor(t, base, out, name); same == slices.Contains(c.changed, name) {
						t.Errorf("%q: %s is unchanged: %v", c.keys, name, same)
					}
				}
			}
		})
	}
}

// Text alone trains a model that sees, whose positions have rows of their own.
func TestTextTrainsSeeingModels(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("The cat sat on the mat.\n", 40)), 0o644); err != nil {
		t.Fatal(err)
	}
	for kind := range seeing {
		said, err := attempt(t, "stage: pt\nfinetuning_type: full\ntrain_from_scratch: true\ncutoff_len: 32\nmax_steps: 1\nreport_to: none\n",
			"model_name_or_path="+seeingFolder(t, kind), "dataset="+text, "output_dir="+filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Errorf("%s: %v\n%s", kind, err, said)
		}
	}
}

// sameTensor reports whether two model folders hold the same bytes for a tensor.
func sameTensor(t *testing.T, a, b, name string) bool {
	t.Helper()
	var data [2][]byte
	for i, dir := range []string{a, b} {
		f, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		data[i] = bytes.Clone(x.Data)
	}
	return bytes.Equal(data[0], data[1])
}
