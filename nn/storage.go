package nn

import (
	"fmt"
	"strings"

	"danlu/dtype"
)

// Storage is the element type in which each weight is kept, by its published name; weights that are not in it are
// float32.
type Storage map[string]dtype.DType

// of is the type of a weight; of weights that experts share by name, that of the first.
func (s Storage) of(name string) dtype.DType {
	if strings.Contains(name, "%d") {
		name = fmt.Sprintf(name, 0)
	}
	if d, ok := s[name]; ok {
		return d
	}
	return dtype.F32
}

// runs cuts layers from to, excluding to, into runs of layers that keep their weights alike, and returns the runs' ends.
// prefix holds a %d for the layer.
func (s Storage) runs(prefix string, from, to int) []int {
	if len(s) == 0 {
		return []int{to}
	}
	head, _, _ := strings.Cut(prefix, "%d")
	kinds := make([]map[string]dtype.DType, to-from)
	for name, d := range s {
		rest, ok := strings.CutPrefix(name, head)
		if !ok {
			continue
		}
		var layer int
		number, part, ok := strings.Cut(rest, ".")
		if n, err := fmt.Sscanf(number, "%d", &layer); !ok || n != 1 || err != nil || layer < from || layer >= to {
			continue
		}
		if kinds[layer-from] == nil {
			kinds[layer-from] = map[string]dtype.DType{}
		}
		kinds[layer-from][part] = d
	}
	var ends []int
	for i := range kinds {
		if i+1 == len(kinds) || !alike(kinds[i], kinds[i+1]) {
			ends = append(ends, from+i+1)
		}
	}
	return ends
}

func alike(a, b map[string]dtype.DType) bool {
	if len(a) != len(b) {
		return false
	}
	for k, d := range a {
		if b[k] != d {
			return false
		}
	}
	return true
}
