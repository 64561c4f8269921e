// Package grammar holds replies to a form: JSON, a JSON Schema, a regular expression or a grammar of rules.
//
// Every source becomes one automaton over bytes (automaton.go, piece.go) whose edges read a range of bytes or call a rule;
// the rules' returns are a stack, so that the forms may nest. While a text is written, all the places that it can be at
// are one configuration; configurations and the ways between them are found once and kept (matcher.go). The tokens that
// may come next are those on the paths of the vocabulary's trie (vocabulary.go) that lead to a configuration, and are kept
// with it: a reply pays for a mask where it comes to a place for the first time.
//
// What a source asks for and no automaton here can hold is refused by name, before the first token.
package grammar
