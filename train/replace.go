package train

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// NewRun is where, inside the folder of a run that is to be overwritten, the new run works until it has a checkpoint.
const NewRun = ".new"

// Staged is where a run that overwrites the one in dir works until its first checkpoint is complete.
func Staged(dir string) string { return filepath.Join(dir, NewRun) }

// Replace puts the run in Staged(dir) in the place of the one in dir, whose files it deletes. Only files that a run
// writes are deleted. A kill on the way is made good by Settle.
func Replace(dir string) error {
	staged := Staged(dir)
	marker := filepath.Join(staged, replaceMarker)
	if err := writeFile(marker, nil); err != nil {
		return err
	}
	return finishReplace(dir)
}

// replaceMarker says that the old run may go: the new one is complete enough.
const replaceMarker = ".replace"

func finishReplace(dir string) error {
	staged := Staged(dir)
	names, err := readNames(staged)
	if err != nil {
		return err
	}
	old, err := readNames(dir)
	if err != nil {
		return err
	}
	// What was moved already by a replacement cut short is no longer in staged, and must stay: the marker file, which
	// is deleted last of the old files, tells both cases apart.
	moving := filepath.Join(staged, movingMarker)
	if !slices.Contains(names, movingMarker) {
		for _, n := range old {
			if WrittenByRun(n) {
				if err := os.RemoveAll(filepath.Join(dir, n)); err != nil {
					return fmt.Errorf("train: %w", err)
				}
			}
		}
		if err := writeFile(moving, nil); err != nil {
			return err
		}
	}
	for _, n := range names {
		if n == replaceMarker || n == movingMarker {
			continue
		}
		if err := os.Rename(filepath.Join(staged, n), filepath.Join(dir, n)); err != nil {
			return fmt.Errorf("train: %w", err)
		}
	}
	if err := os.RemoveAll(staged); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return syncDir(dir)
}

const movingMarker = ".moving"

// Settle finishes a replacement that a kill cut short, drops a new run that had not come to a checkpoint, and clears
// checkpoints half written.
func Settle(dir string) error {
	staged := Staged(dir)
	if _, err := os.Stat(filepath.Join(staged, replaceMarker)); err == nil {
		if err := finishReplace(dir); err != nil {
			return err
		}
	}
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == NewRun || strings.HasPrefix(n, "."+prefix) {
			if err := os.RemoveAll(filepath.Join(dir, n)); err != nil {
				return fmt.Errorf("train: %w", err)
			}
		}
	}
	return nil
}

func readNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// logs are the files that a run writes from its start on; nothing is lost with them alone.
var logs = []string{metricsFile, trainerLogFile, samplesFile, "runs", "recipe.yaml", "answers", "corpus"}

// written are the other files of a run and of the model that it leaves; * stands for anything.
var written = []string{
	"checkpoint-*", stateFile, "all_results.json", "train_results.json", "eval_results.json", "training_*.png", "training_*.svg", "README.md",
	"config.json", "generation_config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json",
	"adapter_config.json", "adapter_model.safetensors", "value_head.safetensors",
	"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "*.tiktoken", "chat_template.jinja",
}

// WrittenByRun reports whether a name in a run's folder is one that runs write.
func WrittenByRun(name string) bool {
	return slices.ContainsFunc(append(slices.Clone(logs), written...), func(pattern string) bool {
		ok, _ := filepath.Match(pattern, name)
		return ok
	})
}

// OnlyLogs reports whether a folder holds nothing but the logs of a run that came to no checkpoint, or nothing.
func OnlyLogs(dir string) (bool, error) {
	names, err := readNames(dir)
	return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(logs, n) && !strings.HasPrefix(n, ".") }), err
}
