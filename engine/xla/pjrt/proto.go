package pjrt

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// CompileOptions are XLA's options of a compilation.
type CompileOptions struct {
	// Partitions is the number of devices over which the program is partitioned by its shardings; 0 and 1: one.
	Partitions int
	// Devices are the ids of the devices, in the order of the mesh; nil: the first ones.
	Devices []int
	// Flags override XLA's debug options for this compilation: string, bool or int each.
	Flags map[string]any
}

// Fields of CompileOptionsProto and what it holds (xla/pjrt/proto/compile_options.proto, xla/xla_data.proto).
const (
	optionsBuild      protowire.Number = 3
	optionsOverrides  protowire.Number = 7
	buildReplicas     protowire.Number = 4
	buildPartitions   protowire.Number = 5
	buildSPMD         protowire.Number = 6
	buildDevices      protowire.Number = 9
	buildShardy       protowire.Number = 19
	assignReplicas    protowire.Number = 1
	assignComputation protowire.Number = 2
	assignDevices     protowire.Number = 3
	computationIDs    protowire.Number = 1
	entryKey          protowire.Number = 1
	entryValue        protowire.Number = 2
	overrideString    protowire.Number = 1
	overrideBool      protowire.Number = 2
	overrideInt       protowire.Number = 3
)

// encode writes the options as a CompileOptionsProto.
func (o CompileOptions) encode() ([]byte, error) {
	partitions := max(o.Partitions, 1)
	var build []byte
	number := func(b []byte, field protowire.Number, x int) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(x))
	}
	message := func(b []byte, field protowire.Number, m []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
	}
	build = number(build, buildReplicas, 1)
	build = number(build, buildPartitions, partitions)
	if partitions > 1 {
		build = number(build, buildSPMD, 1)
		build = number(build, buildShardy, 1)
	}
	if o.Devices != nil {
		if len(o.Devices) != partitions {
			return nil, fmt.Errorf("pjrt: compile: %d devices for %d partitions", len(o.Devices), partitions)
		}
		assignment := number(number(nil, assignReplicas, 1), assignComputation, partitions)
		for _, id := range o.Devices {
			assignment = message(assignment, assignDevices, number(nil, computationIDs, id))
		}
		build = message(build, buildDevices, assignment)
	}
	options := message(nil, optionsBuild, build)
	for _, name := range slices.Sorted(maps.Keys(o.Flags)) {
		var value []byte
		switch x := o.Flags[name].(type) {
		case string:
			value = message(nil, overrideString, []byte(x))
		case bool:
			value = number(nil, overrideBool, int(protowire.EncodeBool(x)))
		case int:
			value = number(nil, overrideInt, x)
		default:
			return nil, fmt.Errorf("pjrt: compile: option %s: cannot be a %T", name, x)
		}
		options = message(options, optionsOverrides, message(message(nil, entryKey, []byte(name)), entryValue, value))
	}
	return options, nil
}
