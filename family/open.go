package family

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"danlu/hub"
	"danlu/weights"
)

// Checkpoint is a model folder, a .safetensors file or a GGUF file that is open for reading.
type Checkpoint struct {
	Model   Model
	Config  []byte // config.json, or what a GGUF's metadata stand for
	Weights weights.Source
	// Vocabulary is a folder whose tokenizer is written in the place of the model's own; "": that.
	Vocabulary string
}

// Close closes the weights.
func (c *Checkpoint) Close() error { return c.Weights.Close() }

// Open reads the config at path, which may be ORG/NAME of the local store, and opens the weights beside it. skip names
// files that are not the model's.
func Open(path string, skip ...string) (*Checkpoint, error) {
	path = hub.Resolve(path)
	if _, err := os.Stat(path); err != nil {
		if _, ok := PresetConfig(path); ok {
			return nil, fmt.Errorf("family: %s is a shape without weights; give a model folder, a GGUF file or a downloaded ORG/NAME", path)
		}
		if hub.ValidID(path) {
			return nil, fmt.Errorf("family: %s: is neither here nor downloaded; danlu pull %s downloads it", path, path)
		}
	}
	src, err := weights.Open(path, weights.OpenOptions{Skip: skip})
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Weights: src}
	where := path
	if own, ok := src.(weights.Configured); ok {
		c.Config, err = own.Config()
	} else {
		if where = filepath.Join(path, configFile); isFile(path) {
			where = filepath.Join(filepath.Dir(path), configFile)
		}
		c.Config, err = readConfig(where)
	}
	if err == nil {
		c.Model, _, err = Parse(where, c.Config)
	}
	if err == nil {
		c.Weights, err = weights.Dequantized(src, c.Config)
	}
	if err != nil {
		src.Close()
		return nil, err
	}
	return c, nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && !st.IsDir()
}

const configFile = "config.json"

// maxConfig bounds config files, which have a few KB.
const maxConfig = 1 << 24

func readConfig(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && st.Size() > maxConfig {
		err = fmt.Errorf("%s: %d bytes exceed %d", path, st.Size(), maxConfig)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("family: %w", err)
	}
	return data, nil
}

// Shape makes a model without weights: of a preset, or of the config.json in a folder, at a path, or of the local store.
func Shape(name string) (Model, []byte, error) {
	name = hub.Resolve(name)
	where := name
	data, preset := PresetConfig(name)
	if st, err := os.Stat(name); err == nil {
		if st.IsDir() {
			where = filepath.Join(name, configFile)
		}
		if data, err = readConfig(where); err != nil {
			return nil, nil, err
		}
	} else if !preset {
		return nil, nil, fmt.Errorf("family: %s: neither a model folder nor a preset; presets are %s", name, strings.Join(Presets(), ", "))
	}
	m, _, err := Parse(where, data)
	return m, data, err
}
