// Package data turns files of text, conversations and preferences into batches of token ids.
//
// The way of a row: a Files reader yields a Row (named fields with file and line), an Attr (an entry of
// dataset_info.json, or what Detect finds) turns it into an Example (system, tools, turns, answers), an Encoder
// turns the Example into a Sample of token ids and labels, a Store keeps the samples on disk, and a Loader packs
// and pads them into batches whose order is a pure function of (seed, epoch, position), so that a run resumes exactly.
//
// Shape letters: B rows of a batch, T tokens of a row, P rows of positions (1, or 2 for GLM).
// Labels hold the token itself where it is scored and Ignore elsewhere; Targets hold the token to be predicted at a
// place, that is the label of the next token of the same segment.
package data

// Ignore is the label of a token that is not scored.
const Ignore int32 = -100
