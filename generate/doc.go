// Package generate turns a model into text: sampling, sequences over a paged cache, streaming. It works on token ids.
package generate
