// Package pjrt binds the C interface of PJRT, through which XLA's compilers and runtimes for processors, GPUs and TPUs
// are loaded as plugins: shared libraries found at run time. There is no cgo; calls go through purego. With the build
// tag noxla the binary is static and no plugin can be loaded.
//
// The C interface passes one struct to each function, which begins with its own size; both sides take what the other
// knows. Here are the structs of version 0.83, which later versions extend at their ends.
package pjrt
