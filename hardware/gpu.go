package hardware

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

//go:embed gpus.yaml
var gpusFile []byte

// GPU is what a card has by its vendor's data sheet.
type GPU struct {
	Name         string  `yaml:"name" json:"name"`
	MemoryGiB    float64 `yaml:"memory_gib" json:"memory_gib"`
	Bandwidth    float64 `yaml:"bandwidth_gb_s" json:"bandwidth_gb_s"` // of its memory, in 1e9 bytes a second
	TFLOPS16     float64 `yaml:"tflops_16bit" json:"tflops_16bit"`     // dense matrix products of bf16 or fp16
	TFLOPS32     float64 `yaml:"tflops_fp32" json:"tflops_fp32"`
	TOPSInt8     float64 `yaml:"tops_int8" json:"tops_int8,omitempty"`           // 0: none
	TFLOPSFP8    float64 `yaml:"tflops_fp8" json:"tflops_fp8,omitempty"`         // 0: none
	Link         float64 `yaml:"link_gb_s" json:"link_gb_s,omitempty"`           // to other cards of the node; 0: PCI Express only
	Network      float64 `yaml:"network_gb_s" json:"network_gb_s,omitempty"`     // from a card to other machines, one way; 0: unknown
	Watts        float64 `yaml:"watts" json:"watts"`                             // board power
	PerNode      int     `yaml:"per_node" json:"per_node"`                       // cards in a machine
	PricePerHour float64 `yaml:"price_per_hour" json:"price_per_hour,omitempty"` // US dollars, an assumption; 0: unknown
}

// Memory is the card's memory in bytes.
func (g *GPU) Memory() int64 { return int64(g.MemoryGiB * (1 << 30)) }

// check refuses a card of which a needed figure is missing.
func (g *GPU) check() error {
	for _, f := range []struct {
		key   string
		value float64
	}{{"memory_gib", g.MemoryGiB}, {"bandwidth_gb_s", g.Bandwidth}, {"tflops_16bit", g.TFLOPS16}, {"tflops_fp32", g.TFLOPS32}, {"watts", g.Watts}, {"per_node", float64(g.PerNode)}} {
		if !(f.value > 0 && f.value < 1e6) {
			return fmt.Errorf("%s: want a number above 0 and below 1e6, got %v", f.key, f.value)
		}
	}
	for _, f := range []struct {
		key   string
		value float64
	}{{"tops_int8", g.TOPSInt8}, {"tflops_fp8", g.TFLOPSFP8}, {"link_gb_s", g.Link}, {"network_gb_s", g.Network}, {"price_per_hour", g.PricePerHour}} {
		if !(f.value >= 0 && f.value < 1e6) {
			return fmt.Errorf("%s: want a number from 0 and below 1e6, got %v", f.key, f.value)
		}
	}
	return nil
}

// GPUs are the cards that a plan can be made for.
type GPUs []*GPU

// KnownGPUs are the built-in cards and those of a YAML file of the same form; file may be "". A card of the file takes
// the place of a built-in one of the same name.
func KnownGPUs(file string) (GPUs, error) {
	known, err := parseGPUs("gpus.yaml", gpusFile)
	if err != nil || file == "" {
		return known, err
	}
	data, err := readSmall(file)
	if err != nil {
		return nil, fmt.Errorf("hardware: %w", err)
	}
	more, err := parseGPUs(file, data)
	if err != nil {
		return nil, err
	}
	for _, g := range more {
		known = slices.DeleteFunc(known, func(k *GPU) bool { return plain(k.Name) == plain(g.Name) })
	}
	return append(known, more...), nil
}

// maxFile bounds a file of cards, in bytes.
const maxFile = 1 << 20

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: want at most %d bytes", file, maxFile)
	}
	return data, err
}

func parseGPUs(file string, data []byte) (GPUs, error) {
	dec, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithKnownFields(true))
	if err != nil {
		return nil, fmt.Errorf("hardware: %s: %w", file, err)
	}
	var list GPUs
	if err := dec.Load(&list); err != nil {
		return nil, fmt.Errorf("hardware: %s: want a list of cards: %s", file, strings.Join(strings.Fields(err.Error()), " "))
	}
	seen := map[string]bool{}
	for i, g := range list {
		if g == nil || plain(g.Name) == "" {
			return nil, fmt.Errorf("hardware: %s: card %d: name: is missing", file, i+1)
		}
		if err := g.check(); err != nil {
			return nil, fmt.Errorf("hardware: %s: %s: %w", file, g.Name, err)
		}
		if seen[plain(g.Name)] {
			return nil, fmt.Errorf("hardware: %s: %s: is there twice", file, g.Name)
		}
		seen[plain(g.Name)] = true
	}
	return list, nil
}

// Names lists the cards.
func (l GPUs) Names() []string {
	var names []string
	for _, g := range l {
		names = append(names, g.Name)
	}
	return names
}

// Find looks a card up by its name, or by a part of it that only one card has: "h100", "4090".
func (l GPUs) Find(name string) (*GPU, error) {
	want := plain(name)
	var found GPUs
	for _, g := range l {
		if plain(g.Name) == want {
			return g, nil
		}
		if want != "" && strings.Contains(plain(g.Name), want) {
			found = append(found, g)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("hardware: GPU %q: is not in the table, which has %s; --hardware FILE.yaml adds others", name, strings.Join(l.Names(), ", "))
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("hardware: GPU %q: could be %s", name, strings.Join(found.Names(), " or "))
}

// plain is a name without case, blanks and signs.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
}
