package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"danlu/data"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/tensor"
)

// State is where a run stands, as its checkpoints keep it.
type State struct {
	Step     int64      `json:"global_step"`
	Updates  int64      `json:"updates"` // steps that changed the parameters
	Skipped  int64      `json:"skipped_steps"`
	Bad      int        `json:"bad_steps_in_a_row"`
	Tokens   int64      `json:"num_input_tokens_seen"`
	Data     data.State `json:"data_state"`
	Best     *float64   `json:"best_metric"`
	BestStep int64      `json:"best_step"`
	Worse    int        `json:"evaluations_since_best"`
	Early    bool       `json:"stopped_early"`
}

// OptimizerFile holds, in a checkpoint, what a model's own files do not: moments, and float32 parameters where the files
// are rounded.
const OptimizerFile = "optimizer.safetensors"

const (
	stateFile = "trainer_state.json"

	sumsFile = "checksums.json"
	prefix   = "checkpoint-"
)

// stateJSON is trainer_state.json: Hugging Face's keys beside our own.
type stateJSON struct {
	State
	Epoch   float64        `json:"epoch"`
	Max     int64          `json:"max_steps"`
	BestDir *string        `json:"best_model_checkpoint"`
	History []Record       `json:"log_history"`
	Facts   map[string]any `json:"run"`
}

func (t *trainer) stateJSON() stateJSON {
	s := stateJSON{State: t.state, Epoch: t.Loader.Progress(), Max: t.Steps, History: t.log.history, Facts: t.Facts}
	if t.state.Best != nil {
		dir := t.checkpoint(t.state.BestStep)
		s.BestDir = &dir
	}
	return s
}

// checkpoint is the folder of a step's checkpoint.
func (t *trainer) checkpoint(step int64) string {
	return filepath.Join(t.Dir, prefix+strconv.FormatInt(step, 10))
}

// kept lists the states that stand in optimizer.safetensors: the optimiser's, and trained parameters of which the
// model's files keep fewer bits.
func (t *trainer) kept() []*graph.StateSpec {
	var specs []*graph.StateSpec
	for _, s := range t.Stepper.c.Store.Specs() {
		if s.Role == graph.OptState {
			specs = append(specs, s)
		}
	}
	for _, s := range t.Stepper.params {
		if t.SaveModel == nil || t.Rounded != nil && t.Rounded(s) {
			specs = append(specs, s)
		}
	}
	return specs
}

// save writes checkpoint-N under a temporary name, syncs it and renames it, and then drops old ones.
func (t *trainer) save() error {
	dir := t.checkpoint(t.state.Step)
	if err := os.MkdirAll(t.Dir, 0o755); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	tmp, err := os.MkdirTemp(t.Dir, "."+prefix)
	if err != nil {
		return fmt.Errorf("train: checkpoint: %w", err)
	}
	if err = t.write(tmp); err == nil {
		err = replaceDir(tmp, dir)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return fmt.Errorf("train: checkpoint at step %d: %w; earlier checkpoints are intact", t.state.Step, err)
	}
	t.saved = t.state.Step
	if err := t.takePlace(); err != nil {
		return err
	}
	return t.prune(t.checkpoint(t.state.Step))
}

// replaceDir puts tmp in the place of dir.
func replaceDir(tmp, dir string) error {
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	old := ""
	if _, err := os.Stat(dir); err == nil {
		old = tmp + ".old"
		if err := os.Rename(dir, old); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	if old != "" {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write fills a folder with a checkpoint.
func (t *trainer) write(dir string) error {
	if t.SaveModel != nil {
		if err := t.SaveModel(dir); err != nil {
			return err
		}
	}
	if !t.SaveOnlyModel {
		if err := t.writeStates(filepath.Join(dir, OptimizerFile)); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(dir, stateFile), t.stateJSON()); err != nil {
		return err
	}
	sums, err := checksums(dir)
	if err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, sumsFile), sums); err != nil {
		return err
	}
	return syncDir(dir)
}

func (t *trainer) writeStates(path string) error {
	var infos []safetensors.Info
	for _, s := range t.kept() {
		for i := range s.Parts() {
			infos = append(infos, safetensors.Info{Name: s.PartName(i), DType: s.Type.DType, Shape: s.PartType().Shape})
		}
	}
	return safetensors.Write(path, infos, nil, func(i safetensors.Info) (*tensor.Tensor, error) {
		return t.Stepper.c.Store.Get(i.Name)
	})
}

// checksums are the SHA-256 of a checkpoint's files by name.
func checksums(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for _, e := range entries {
		if e.IsDir() || e.Name() == sumsFile {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		sums[e.Name()] = hex.EncodeToString(h.Sum(nil))
	}
	return sums, nil
}

// VerifyCheckpoint checks that a folder holds a complete checkpoint whose files are as they were written.
func VerifyCheckpoint(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil {
		return fmt.Errorf("train: %s: not a complete checkpoint: %w", dir, err)
	}
	var want map[string]string
	if err := json.Unmarshal(data, &want); err != nil {
		return fmt.Errorf("train: %s: %s: %w", dir, sumsFile, err)
	}
	got, err := checksums(dir)
	if err != nil {
		return fmt.Errorf("train: %s: %w", dir, err)
	}
	if want[stateFile] == "" {
		return fmt.Errorf("train: %s: %s: is missing", dir, stateFile)
	}
	for name, sum := range want {
		if got[name] != sum {
			return fmt.Errorf("train: %s: %s: is missing or damaged", dir, name)
		}
	}
	return nil
}

// Checkpoints lists the checkpoint folders of a run, oldest first.
func Checkpoints(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	type numbered struct {
		step int64
		path string
	}
	var list []numbered
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if n, err := strconv.ParseInt(rest, 10, 64); ok && err == nil && e.IsDir() {
			list = append(list, numbered{n, filepath.Join(dir, e.Name())})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].step < list[j].step })
	var paths []string
	for _, c := range list {
		paths = append(paths, c.path)
	}
	return paths, nil
}

// Newest is the newest complete checkpoint of a run, "" when there is none; skipped says which newer ones are damaged.
func Newest(dir string) (path string, skipped []error, err error) {
	list, err := Checkpoints(dir)
	for i := len(list) - 1; i >= 0 && err == nil; i-- {
		if bad := VerifyCheckpoint(list[i]); bad != nil {
			skipped = append(skipped, bad)
			continue
		}
		return list[i], skipped, nil
	}
	return "", skipped, err
}

// prune drops all but the newest SaveLimit checkpoints, never the best one nor the one just written.
func (t *trainer) prune(newest string) error {
	list, err := Checkpoints(t.Dir)
	if err != nil || t.SaveLimit <= 0 {
		return err
	}
	best := filepath.Join(t.Dir, prefix+strconv.FormatInt(t.state.BestStep, 10))
	for len(list) > t.SaveLimit {
		if c := list[0]; c != newest && (t.state.Best == nil || c != best) {
			if err := os.RemoveAll(c); err != nil {
				return fmt.Errorf("train: %w", err)
			}
		}
		list = list[1:]
	}
	return nil
}

// ReadState reads where a checkpoint's run stood.
func ReadState(dir string) (State, error) {
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return State{}, fmt.Errorf("train: %w", err)
	}
	var s stateJSON
	if err := json.Unmarshal(raw, &s); err != nil {
		return State{}, fmt.Errorf("train: %s: %s: %w", dir, stateFile, err)
	}
	return s.State, nil
}

// load restores parameters, moments and the place in the data from a checkpoint.
func (t *trainer) load(dir string) error {
	if err := VerifyCheckpoint(dir); err != nil {
		return err
	}
	s, err := ReadState(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, OptimizerFile)); err != nil {
		return fmt.Errorf("train: %s: was saved with save_only_model and cannot be resumed; name it as model_name_or_path to go on from its weights", dir)
	}
	if err := t.loadParams(dir); err != nil {
		return err
	}
	if err := t.Loader.Restore(s.Data); err != nil {
		return fmt.Errorf("train: %s: %w", dir, err)
	}
	t.state = s
	return nil
}

// loadParams restores the parameters and, where the checkpoint holds them, the optimiser's states.
func (t *trainer) loadParams(dir string) error {
	if t.LoadModel != nil {
		if err := t.LoadModel(dir); err != nil {
			return err
		}
	}
	f, err := safetensors.Open(filepath.Join(dir, OptimizerFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for _, spec := range t.kept() {
		for i := range spec.Parts() {
			x, err := f.Tensor(spec.PartName(i))
			if err == nil {
				err = f.Guard(func() error { return t.Stepper.c.Store.Set(spec.PartName(i), x) })
			}
			if err != nil {
				return fmt.Errorf("train: %s: %w", dir, err)
			}
		}
	}
	return nil
}
