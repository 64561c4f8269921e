// Package recipe reads training recipes and runs their stages.
//
// A recipe is a flat YAML mapping with LLaMA-Factory's keys, defaults and meaning, plus the keys of this project; the
// fields of Model, Data, Method, Reinforce, Distill, Optim, Output, Generation and Export are the one table of keys
// that do something. A key is one of three things: implemented (a field), without meaning here (Load lists those that
// a recipe sets, for one line on standard error), or an error that names the nearest key.
package recipe
