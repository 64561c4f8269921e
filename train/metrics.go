package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Record is one logged line: step and epoch, then whatever was measured.
type Record map[string]any

// number makes a float fit for JSON, which has no NaN and no infinity.
func number(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Sprint(x)
	}
	return x
}

// runLog writes a run's records: metrics.jsonl, trainer_log.jsonl with LLaMA-Factory's keys, and TensorBoard events.
type runLog struct {
	dir     string
	files   []*os.File
	events  *eventWriter
	history []Record
	start   time.Time
	total   int64
}

const (
	metricsFile    = "metrics.jsonl"
	trainerLogFile = "trainer_log.jsonl"
	samplesFile    = "samples.jsonl"
)

// openRunLog continues the logs in dir after step, or starts them at step 0. Lines of later steps, which a run wrote
// after its last checkpoint, are cut.
func openRunLog(dir string, step, total int64, tensorboard bool, eventDir string) (*runLog, error) {
	l := &runLog{dir: dir, start: time.Now(), total: total}
	for _, f := range []struct{ name, key string }{{metricsFile, "step"}, {trainerLogFile, "current_steps"}} {
		path := filepath.Join(dir, f.name)
		kept, err := keepUntil(path, f.key, step)
		if err != nil {
			return nil, err
		}
		if f.name == metricsFile {
			for _, line := range kept {
				var r Record
				if json.Unmarshal(line, &r) == nil {
					l.history = append(l.history, r)
				}
			}
		}
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		l.files = append(l.files, file)
	}
	if _, err := keepUntil(filepath.Join(dir, samplesFile), "step", step); err != nil {
		return nil, err
	}
	if tensorboard {
		var err error
		if l.events, err = newEventWriter(eventDir, l.start); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// keepUntil rewrites a log without the lines after step and returns the lines kept.
func keepUntil(path, key string, step int64) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	var kept [][]byte
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var r map[string]any
		line := slices.Clone(scanner.Bytes())
		if json.Unmarshal(line, &r) != nil {
			continue // a line torn by a kill
		}
		if n, ok := r[key].(float64); ok && int64(n) <= step && step > 0 {
			kept = append(kept, line)
		}
	}
	var out bytes.Buffer
	for _, line := range kept {
		out.Write(line)
		out.WriteByte('\n')
	}
	if bytes.Equal(out.Bytes(), data) {
		return kept, nil
	}
	return kept, writeFile(path, out.Bytes())
}

// write logs a record under its step.
func (l *runLog) write(step int64, epoch float64, r Record) error {
	line := Record{"step": step, "epoch": math.Round(epoch*1e4) / 1e4}
	for k, v := range r {
		if x, ok := v.(float64); ok {
			v = number(x)
		}
		line[k] = v
	}
	l.history = append(l.history, line)
	if err := appendJSON(l.files[0], line); err != nil {
		return err
	}
	elapsed := time.Since(l.start)
	trainer := Record{"current_steps": step, "total_steps": l.total, "epoch": line["epoch"], "elapsed_time": clock(elapsed)}
	if l.total > 0 {
		trainer["percentage"] = math.Round(1e4*float64(step)/float64(l.total)) / 100
	}
	for from, to := range map[string]string{"loss": "loss", "eval_loss": "eval_loss", "learning_rate": "lr", "reward": "reward", "accuracy": "accuracy",
		"tokens_per_s": "throughput", "total_tokens": "total_tokens", "eta_s": "remaining_time"} {
		if v, ok := line[from]; ok {
			if from == "eta_s" {
				v = clock(time.Duration(r[from].(float64) * float64(time.Second)))
			}
			trainer[to] = v
		}
	}
	if err := appendJSON(l.files[1], trainer); err != nil {
		return err
	}
	if l.events == nil {
		return nil
	}
	now := time.Now()
	for k, v := range r {
		if x, ok := v.(float64); ok {
			if err := l.events.scalar(now, int(step), eventTag(k), x); err != nil {
				return err
			}
		}
	}
	return nil
}

// eventTag is transformers' name of a metric in TensorBoard.
func eventTag(key string) string {
	if rest, ok := bytes.CutPrefix([]byte(key), []byte("eval_")); ok {
		return "eval/" + string(rest)
	}
	return "train/" + key
}

// clock prints a duration as LLaMA-Factory does: h:mm:ss.
func clock(d time.Duration) string {
	s := int64(d.Seconds())
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// LogSample adds to samples.jsonl in a run's folder what the model wrote at a step.
func LogSample(dir string, step int64, prompt, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, samplesFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return errors.Join(appendJSON(f, Record{"step": step, "prompt": prompt, "text": text}), f.Close())
}

func appendJSON(f *os.File, r Record) error {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("train: %s: %w", f.Name(), err)
	}
	return nil
}

// plot draws the loss curves of the history.
func (l *runLog) plot() error {
	series := func(key string) curve {
		c := curve{name: key}
		for _, r := range l.history {
			if y, ok := r[key].(float64); ok {
				c.x, c.y = append(c.x, asFloat(r["step"])), append(c.y, y)
			}
		}
		return c
	}
	loss, eval := series("loss"), series("eval_loss")
	if len(loss.x) == 0 {
		return nil
	}
	loss.name = "original"
	smooth := curve{name: "smoothed", x: loss.x, y: smoothed(loss.y, 0.9)}
	if err := plotCurves(l.dir, "training_loss", "training loss", "loss", []curve{loss, smooth}); err != nil {
		return err
	}
	if len(eval.x) == 0 {
		return nil
	}
	return plotCurves(l.dir, "training_eval_loss", "validation loss", "loss", []curve{eval})
}

func asFloat(v any) float64 {
	switch x := v.(type) {
	case float64:
		return x
	case int64:
		return float64(x)
	case int:
		return float64(x)
	}
	return math.NaN()
}

func (l *runLog) close() error {
	var err error
	for _, f := range l.files {
		err = errors.Join(err, f.Close())
	}
	if l.events != nil {
		err = errors.Join(err, l.events.close())
	}
	return err
}

// writeFile writes data beside path, syncs it and renames it over path.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("train: %s: %w", path, err)
	}
	return nil
}

// writeJSON writes v as indented JSON.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("train: %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'))
}
