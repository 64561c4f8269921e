package recipe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"danlu/internal/locale"
	"danlu/train"
)

// runDir is the folder of a run.
type runDir struct {
	final  string // output_dir
	path   string // where the run works: final, or a folder inside it while an old run is still there
	resume string // checkpoint to go on from; "": start
}

// staged reports whether the run still works beside an old one that it will overwrite.
func (d *runDir) staged() bool { return d.path != d.final }

// openRunDir decides where the run works and whether it goes on from a checkpoint.
func openRunDir(j *job) (*runDir, error) {
	d := &runDir{final: j.Output.Dir, path: j.Output.Dir}
	if err := os.MkdirAll(d.final, 0o755); err != nil {
		return nil, j.Errorf("output_dir", "%v", err)
	}
	if err := train.Settle(d.final); err != nil {
		return nil, err
	}
	switch resume := j.Output.Resume; resume {
	case "", "false", "true":
	default:
		if err := train.VerifyCheckpoint(resume); err != nil {
			return nil, j.Errorf("resume_from_checkpoint", "%v; want true, false or the folder of a checkpoint", err)
		}
		d.resume = resume
		return d, nil
	}
	empty, err := train.OnlyLogs(d.final)
	if err != nil || empty {
		return d, err
	}
	if j.Output.Overwrite {
		d.path = train.Staged(d.final)
		if err := os.MkdirAll(d.path, 0o755); err != nil {
			return nil, fmt.Errorf("recipe: %w", err)
		}
		return d, nil
	}
	newest, damaged, err := train.Newest(d.final)
	if err != nil {
		return nil, err
	}
	for _, bad := range damaged {
		fmt.Fprintf(j.Stderr, locale.Text("passed over: %v\n", "已跳过：%v\n"), bad)
	}
	switch {
	case newest == "" && j.Output.Resume != "true":
		return nil, j.Errorf("output_dir", "%s is not empty and holds no checkpoint to go on from; choose another folder, or set overwrite_output_dir: true to replace what is there", d.final)
	case j.Output.Resume == "false":
		return nil, j.Errorf("output_dir", "%s holds a run with checkpoints; leave resume_from_checkpoint out to go on from %s, or set overwrite_output_dir: true to replace it", d.final, filepath.Base(newest))
	}
	d.resume = newest
	return d, nil
}

// step is the step that the run goes on from.
func (d *runDir) step() (int64, error) {
	if d.resume == "" {
		return 0, nil
	}
	s, err := train.ReadState(d.resume)
	return s.Step, err
}

// replaceOld puts the new run in the old one's place, if that has not happened yet.
func (d *runDir) replaceOld() error {
	if !d.staged() {
		return nil
	}
	if err := train.Replace(d.final); err != nil {
		return err
	}
	d.path = d.final
	return nil
}

// close drops a run that came to nothing beside the old one.
func (d *runDir) close() error {
	if !d.staged() {
		return nil
	}
	if err := os.RemoveAll(d.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("recipe: %w", err)
	}
	return nil
}
