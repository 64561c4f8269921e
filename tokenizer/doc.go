// Package tokenizer turns text into token ids and back, exactly as the published tokenizers of each model family do,
// trains new vocabularies and merges existing ones.
//
// One type, Tokenizer, serves every format: tokenizer.json (Hugging Face tokenizers), vocab.json with merges.txt,
// SentencePiece .model files (BPE and unigram), tiktoken rank files and the vocabulary inside a GGUF. Load picks the
// file; the rest of the program never asks which it was.
//
// Encoding is a fixed sequence: added tokens are cut out of the text, each remaining segment is normalised, cut into
// pre-tokens by hand-written scanners, and each pre-token is merged (BPE, Sennrich et al. 2016, section 3.2; byte-level
// BPE, Radford et al. 2019, section 2.2) or segmented by a unigram model (Kudo 2018, section 3.2).
//
// Inside the package a SentencePiece vocabulary holds a plain space where the file writes U+2581, so that text needs no
// rewriting before it is looked up.
//
// Speed comes from two facts that do not change results. A merge across a border between two characters needs a piece
// that holds both sides of that border, so wherever no piece does, text is cut and each part is encoded alone; and short
// parts repeat, so each encoder state remembers them in a fixed-size table.
package tokenizer
