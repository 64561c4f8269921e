// Package nn holds the blocks that model families are built from, as functions that add graph operations.
//
// Shapes are written with one letter each, everywhere in this module:
//
//	B batch   T query length   S key length   N tokens (B·T)   D hidden   V vocabulary   L layers
//	H heads   G kv heads       K head dim     F ffn            E experts  R low rank     P position rows
//
// A graph with a cache has B = tokens of any sequences and T = 1.
package nn
