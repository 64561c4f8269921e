// Package danlu is the root of the module; the program is cmd/danlu. docs/architecture.md says how the packages fit.
package danlu
