// Package xla is the engine for accelerators: a graph becomes StableHLO text, which a plugin's compiler makes a program
// for its devices. States are buffers of the devices that programs update in place.
//
// Primitive operations are in one table ([writer.primitive]); fused operations are written as their decompositions. A
// Repeat becomes a loop, so that compiling does not take longer for more layers.
//
// What differs from the processor's engine: an index out of range takes the nearest row rather than being an error, and
// results differ in last bits with the plugin's order of summation.
package xla
