package family

import (
	"embed"
	"fmt"
	"sort"
	"strings"
)

//go:embed presets/*.json
var presets embed.FS

// aliases are other names of presets.
var aliases = map[string]string{"llama-33b": "llama-30b", "llama-3.3-70b": "llama-3.1-70b", "deepseek-r1": "deepseek-v3"}

// Presets lists the names of the built-in shapes, sorted.
func Presets() []string {
	entries, err := presets.ReadDir("presets")
	if err != nil {
		panic(err) // embedded
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	for alias := range aliases {
		names = append(names, alias)
	}
	sort.Strings(names)
	return names
}

// PresetConfig returns the config.json of a built-in shape and whether there is one of that name.
func PresetConfig(name string) ([]byte, bool) {
	if to, ok := aliases[name]; ok {
		name = to
	}
	data, err := presets.ReadFile("presets/" + name + ".json")
	return data, err == nil
}

// Preset makes the model of a built-in shape.
func Preset(name string) (Model, *Config, error) {
	data, ok := PresetConfig(name)
	if !ok {
		return nil, nil, fmt.Errorf("family: preset %q: there is no such preset", name)
	}
	return Parse("preset "+name, data)
}
