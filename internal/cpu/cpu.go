// Package cpu says which instruction sets the kernels may use. The levels form a chain; each one contains those below it.
package cpu

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// Level is an instruction-set level.
type Level int32

// The levels, lowest first.
const (
	Portable   Level = iota // plain Go, on every architecture
	AVX2                    // AVX2, FMA and F16C
	AVX512                  // AVX-512 F, BW, DQ, VL
	AVX512VNNI              // the same and VNNI
	AVX512BF16              // the same, VNNI and BF16
	numLevels
)

// EnvVar is the environment variable that caps the level.
const EnvVar = "DANLU_CPU"

var names = [numLevels]string{"portable", "avx2", "avx512", "avx512vnni", "avx512bf16"}

// String is the level's name as DANLU_CPU spells it.
func (l Level) String() string {
	if l < 0 || l >= numLevels {
		return fmt.Sprintf("Level(%d)", int32(l))
	}
	return names[l]
}

// ParseLevel finds a level by name.
func ParseLevel(name string) (Level, error) {
	for l, n := range names {
		if n == name {
			return Level(l), nil
		}
	}
	return Portable, fmt.Errorf("cpu: %s: want one of %s, got %q", EnvVar, strings.Join(names[:], ", "), name)
}

var (
	detected = detect()
	active   atomic.Int32
	envErr   error
)

func init() {
	l := detected
	if name := os.Getenv(EnvVar); name != "" {
		limit, err := ParseLevel(name)
		if err != nil {
			envErr = err
		} else {
			l = min(l, limit)
		}
	}
	active.Store(int32(l))
}

// Active is the level that kernels use: what the machine has, capped by DANLU_CPU or set by SetLevel.
func Active() Level { return Level(active.Load()) }

// Detected is the highest level that the machine and its operating system support.
func Detected() Level { return detected }

// EnvError is the error of an unknown value of DANLU_CPU, nil when it is unset or valid. Commands report it and exit.
func EnvError() error { return envErr }

// Levels lists the levels that this machine can run, lowest first.
func Levels() []Level {
	var out []Level
	for l := Portable; l <= detected; l++ {
		out = append(out, l)
	}
	return out
}

// SetLevel makes kernels chosen from now on use level l, for tests. A level above Detected is a programmer's error.
// The returned function restores the level that was active.
func SetLevel(l Level) (undo func()) {
	if l < Portable || l > detected {
		panic(fmt.Sprintf("cpu: SetLevel(%v): the machine has %v", l, detected))
	}
	old := active.Swap(int32(l))
	return func() { active.Store(old) }
}
