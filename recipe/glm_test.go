package recipe

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/data"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/tokenizer"
)

// glmShapes are small shapes of the families whose rows have a prefix, for the built-in vocabulary with GLM's tokens
// behind it.
var glmShapes = map[string]string{
	"glm": `{"architectures":["GLMModel"],"model_type":"glm","vocab_size":4160,"hidden_size":32,"num_attention_heads":2,"num_layers":2,"max_sequence_length":128,
		"block_position_encoding":true,"relative_encoding":false}`,
	"glm-130b": `{"model_class":"GLM130B","model_type":"glm-130b","vocab_size":4160,"hidden_size":32,"inner_hidden_size":40,"num_attention_heads":2,"num_layers":2,
		"max_sequence_length":128,"layernorm_order":"post","position_encoding_2d":false,"no_glu":false}`,
	"chatglm-6b": `{"architectures":["ChatGLMModel"],"model_type":"chatglm","vocab_size":4160,"hidden_size":32,"inner_hidden_size":40,"num_attention_heads":2,
		"num_layers":2,"max_sequence_length":128,"position_encoding_2d":true}`,
}

// glmShape writes a shape's config.json and returns the words of a recipe that starts from it.
func glmShape(t *testing.T, name string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(glmShapes[name]), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"model_name_or_path=" + path, "train_from_scratch=true", "tokenizer_name_or_path=glm-tiny", "seed=3", "cutoff_len=64"}
}

// story is a text file of simple sentences.
func story(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "story.txt")
	var b strings.Builder
	for i := range 60 {
		fmt.Fprintf(&b, "The cat sat on mat %d. 小猫坐在垫子上。It was happy! 它很高兴。\n", i%7)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// pretrainedGLM is a model that has learned the story by filling blanks, with what its run logged.
func pretrainedGLM(t *testing.T, name string, more ...string) (string, []map[string]any) {
	t.Helper()
	return runRecipe(t, context.Background(), append(append(glmShape(t, name), "stage=pt", "pretraining_objective=infilling", "dataset="+story(t), "text_unit=line",
		"infilling_short=0.4", "infilling_sentence=0.2", "output_dir="+t.TempDir(), "per_device_train_batch_size=8", "max_steps=60", "learning_rate=1e-2"), more...)...)
}

func TestInfillingLearns(t *testing.T) {
	for name := range glmShapes {
		t.Run(name, func(t *testing.T) {
			dir, lines := pretrainedGLM(t, name, "val_size=0.2", "eval_strategy=steps", "eval_steps=60")
			if first, end := lines[0]["loss"].(float64), last(lines, "loss"); !(end < first/2) || !(last(lines, "eval_loss") < first/2) {
				t.Errorf("loss from %v to %v, of held-out texts %v", first, end, last(lines, "eval_loss"))
			}
			// The folder knows its blanks without the recipe.
			c, err := family.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			tok, err := tokenizer.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.Model.(family.BlankFiller).Blanks(), tok.Blanks(); got != want || len(want.Missing()) > 0 {
				t.Errorf("the config's blanks are %v, the tokenizer's %v", got, want)
			}
		})
	}
}

func TestInfillingResumes(t *testing.T) {
	words := func(dir string, steps int) []string {
		return append(glmShape(t, "glm"), "stage=pt", "pretraining_objective=infilling", "dataset="+story(t), "output_dir="+dir, "lr_scheduler_type=constant",
			"per_device_train_batch_size=2", "gradient_accumulation_steps=2", fmt.Sprintf("max_steps=%d", steps))
	}
	whole, parts := t.TempDir(), t.TempDir()
	runRecipe(t, context.Background(), words(whole, 4)...)
	runRecipe(t, context.Background(), words(parts, 2)...)
	runRecipe(t, context.Background(), words(parts, 4)...)
	sameModel(t, whole, parts)
}

// The rows of one piece are numbered by the family as the objective numbers them.
func TestFamiliesNumberAsInfilling(t *testing.T) {
	ids := []int32{10, 11, 12, 13, 14, 15, 16}
	tokens := data.GLMTokens{Mask: 50, GMask: 51, SMask: 54, SOP: 52, EOP: 53, EOS: 2}
	for name, config := range glmShapes {
		m, _, err := family.Parse(name, []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		f := m.(family.BlankFiller)
		f.SetBlanks(tokenizer.Blanks{Mask: 50, GMask: 51, SMask: 54, SOP: 52, EOP: 53})
		for _, mask := range []int32{50, 51, 54} {
			l, err := data.BlankInfill(ids, []data.Span{{Start: 2, End: 4}, {Start: 5, End: 7}}, []int{0, 1}, mask, tokens, 0)
			if err != nil {
				t.Fatal(err)
			}
			positions, prefix := f.Layout(l.IDs)
			rows := 2
			if name == "glm-130b" { // has one row, in which what fills a [gMASK] counts on
				rows = 1
			}
			if name == "glm-130b" && mask == 51 {
				for i := range l.Positions[0] {
					l.Positions[0][i] = int32(i)
				}
			}
			for p := range rows {
				if !slices.Equal(positions[p], l.Positions[p]) {
					t.Errorf("%s: mask %d: row %d: want %v, got %v", name, mask, p, l.Positions[p], positions[p])
				}
			}
			if prefix != l.Prefix {
				t.Errorf("%s: mask %d: prefix: want %d, got %d", name, mask, l.Prefix, prefix)
			}
		}
	}
}

// Instructions have their share of the tokens, and are laid out as questions with an answer to be written.
func TestInfillingInstructionShare(t *testing.T) {
	var asked []any
	for i := range 40 {
		asked = append(asked, map[string]any{"instruction": fmt.Sprintf("Where is the cat number %d?", i), "output": "It sat on the mat."})
	}
	r, err := Parse(nil, "test", append(glmShape(t, "glm"), "stage=pt", "pretraining_objective=infilling", "dataset="+story(t)+","+writeRows(t, asked...), "text_unit=line",
		"infilling_instruction_share=0.25", "output_dir="+t.TempDir(), "quiet=true", "report_to=none"))
	if err != nil {
		t.Fatal(err)
	}
	j := &job{Recipe: r, RunOptions: RunOptions{NewEngine: func(string, int) (engine.Engine, error) { return cpu.New(cpu.Options{Threads: 1}) }, Stderr: os.Stderr}, outcome: &Outcome{}, run: &runDir{}}
	j.preview = func(x *rows) error {
		if share := x.set.Mix[1].TokenShare; !(math.Abs(share-0.25) < 0.01) {
			t.Errorf("instructions have %v of the tokens", share)
		}
		instructions := 0
		for i := range x.loader.RowsPerEpoch() {
			b, err := x.loader.Row(i)
			if err != nil {
				return err
			}
			s, err := x.set.Store.Sample(b.Samples[0][0])
			if err != nil {
				return err
			}
			if s.Source == 0 {
				continue
			}
			instructions++
			text := x.decode(b.IDs[:b.Tokens])
			if !strings.HasSuffix(text, "[gMASK]<sop>It sat on the mat.<eop>") || int(b.Prefix[0]) != slices.Index(b.IDs, j.infill.Tokens.SOP) {
				t.Errorf("row %q with a prefix of %d", text, b.Prefix[0])
			}
			if b.Scored != b.Tokens-int(b.Prefix[0])-1 {
				t.Errorf("%d of %d tokens are scored behind a prefix of %d", b.Scored, b.Tokens, b.Prefix[0])
			}
		}
		if instructions == 0 {
			t.Error("there are no instructions")
		}
		return errPreviewed
	}
	if err := j.carryOut(context.Background(), stages["pt"]); err != errPreviewed {
		t.Fatal(err)
	}
}

func TestInfillingRefuses(t *testing.T) {
	text := story(t)
	for _, c := range []struct{ what, want string }{
		{"model_name_or_path=llama-tiny train_from_scratch=true pretraining_objective=infilling", "GLM family"},
		{"model_name_or_path=glm-tiny train_from_scratch=true", "want infilling"},
		{"model_name_or_path=glm-tiny train_from_scratch=true pretraining_objective=infilling packing=true", "packing"},
		{"model_name_or_path=glm-tiny train_from_scratch=true pretraining_objective=infilling infilling_instruction_share=0.1", "both kinds"},
	} {
		_, err := attempt(t, "stage: pt\nreport_to: none\n", append(strings.Fields(c.what), "dataset="+text, "output_dir="+t.TempDir())...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.what, c.want, err)
		}
	}
}

// Every stage trains the families whose rows have a prefix and positions of their own.
func TestStagesTrainGLM(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	ask := "template=chatglm"
	var chats, tagged []any
	for i, p := range preferences(12) {
		q := p.(map[string]any)
		chats = append(chats, map[string]any{"instruction": q["instruction"], "output": q["chosen"]})
		tagged = append(tagged, map[string]any{"instruction": q["instruction"], "output": q[[]string{"chosen", "rejected"}[i%2]], "kto_tag": i%2 == 0})
	}
	pairs, single, marked := writeRows(t, preferences(12)...), writeRows(t, chats...), writeRows(t, tagged...)
	for name := range glmShapes {
		t.Run(name, func(t *testing.T) {
			base, _ := pretrainedGLM(t, name, "max_steps=2")
			run := func(words ...string) (string, []map[string]any) {
				t.Helper()
				return runRecipe(t, context.Background(), append([]string{"model_name_or_path=" + base, ask, "cutoff_len=64", "per_device_train_batch_size=4", "learning_rate=1e-3",
					"output_dir=" + t.TempDir()}, words...)...)
			}
			sft, lines := run("stage=sft", "dataset="+single, "max_steps=12", "learning_rate=1e-2")
			if first, end := lines[0]["loss"].(float64), last(lines, "loss"); !(end < 0.75*first) {
				t.Errorf("sft: loss from %v to %v", first, end)
			}
			if _, lines = run("stage=sft", "finetuning_type=lora", "dataset="+single, "max_steps=12", "learning_rate=1e-2"); !(last(lines, "loss") < lines[0]["loss"].(float64)) {
				t.Errorf("lora: loss from %v to %v", lines[0]["loss"], last(lines, "loss"))
			}
			_, lines = run("stage=dpo", "dataset="+pairs, "max_steps=9")
			if !(math.Abs(lines[0]["loss"].(float64)-math.Ln2) < 1e-5) || !(last(lines, "rewards/accuracies") > 0.9) {
				t.Errorf("dpo: first loss %v, accuracy %v", lines[0]["loss"], last(lines, "rewards/accuracies"))
			}
			if _, lines = run("stage=kto", "dataset="+marked, "max_steps=9"); !(last(lines, "rewards/chosen") > last(lines, "rewards/rejected")) {
				t.Errorf("kto: rewards %v and %v", last(lines, "rewards/chosen"), last(lines, "rewards/rejected"))
			}
			rm, lines := run("stage=rm", "dataset="+pairs, "max_steps=12")
			if !(last(lines, "accuracy") > 0.9) {
				t.Errorf("rm: accuracy %v", last(lines, "accuracy"))
			}
			draw := []string{"dataset=" + single, "max_steps=2", "max_completion_length=8", "max_new_tokens=8"}
			// The policy that drew the answers is the one that is trained: its ratio begins at one.
			_, lines = run(append(draw, "stage=grpo", "num_generations=2", "reward_model="+rm, "beta=0.1")...)
			if kl := lines[0]["kl"].(float64); !(math.Abs(kl) < 1e-4) {
				t.Errorf("grpo: the first divergence from the reference is %v", kl)
			}
			_, lines = run(append(draw, "stage=ppo", "reward_model="+rm, "reward_model_type=full")...)
			if kl := lines[0]["objective/kl"].(float64); !(math.Abs(kl) < 1e-4) {
				t.Errorf("ppo: the first divergence from the reference is %v", kl)
			}
			_, lines = run("stage=distill", "teacher_model="+sft, "dataset="+single, "max_steps=9", "learning_rate=1e-2")
			if first, end := lines[0]["loss"].(float64), last(lines, "loss"); !(end < first/2) {
				t.Errorf("distill: loss from %v to %v", first, end)
			}
		})
	}
}
