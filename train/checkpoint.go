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
}

const (
	stateFile     = "trainer_state.json"
	optimizerFile = "optimizer.safetensors"
	sumsFile      = "checksums.json"
	prefix        = "checkpoint-"
)

// stateJSON is trainer_state.json: Hugging Face's keys beside our own.
type stateJSON struct {
	State
	Epoch   float64  `json:"epoch"`
	Max     int64    `json:"max_steps"`
	History []Record `json:"log_history"`
}

// saved lists the states that a resumed run needs: float32 parameters and the optimiser's.
func (t *trainer) saved() []*graph.StateSpec {
	var specs []*graph.StateSpec
	for _, s := range t.Stepper.c.Store.Specs() {
		if s.Role == graph.Param || s.Role == graph.Buffer || s.Role == graph.OptState {
			specs = append(specs, s)
		}
	}
	return specs
}

// save writes checkpoint-N under a temporary name, syncs it and renames it, and then drops old ones.
func (t *trainer) save(best bool) error {
	dir := filepath.Join(t.Dir, prefix+strconv.FormatInt(t.state.Step, 10))
	if err := os.MkdirAll(t.Dir, 0o755); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	tmp, err := os.MkdirTemp(t.Dir, ".checkpoint-")
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
	return t.prune(dir)
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
	var infos []safetensors.Info
	for _, s := range t.saved() {
		for i := range s.Parts() {
			infos = append(infos, safetensors.Info{Name: s.PartName(i), DType: s.Type.DType, Shape: s.PartType().Shape})
		}
	}
	err := safetensors.Write(filepath.Join(dir, optimizerFile), infos, nil, func(i safetensors.Info) (*tensor.Tensor, error) {
		return t.Stepper.c.Store.Get(i.Name)
	})
	if err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, stateFile), stateJSON{State: t.state, Epoch: t.Loader.Progress(), Max: t.Steps, History: t.log.history}); err != nil {
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
	for _, name := range []string{stateFile, optimizerFile} {
		if want[name] == "" {
			return fmt.Errorf("train: %s: %s: is missing", dir, name)
		}
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

// load restores parameters, moments and the place in the data from a checkpoint.
func (t *trainer) load(dir string) error {
	if err := VerifyCheckpoint(dir); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	var s stateJSON
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("train: %s: %s: %w", dir, stateFile, err)
	}
	f, err := safetensors.Open(filepath.Join(dir, optimizerFile))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, spec := range t.saved() {
		for i := range spec.Parts() {
			x, err := f.Tensor(spec.PartName(i))
			if err == nil {
				err = t.Stepper.c.Store.Set(spec.PartName(i), x)
			}
			if err != nil {
				return fmt.Errorf("train: %s: %w", dir, err)
			}
		}
	}
	if err := t.Loader.Restore(s.Data); err != nil {
		return fmt.Errorf("train: %s: %w", dir, err)
	}
	t.state = s.State
	return nil
}
