package main

import "runtime"

// peakRSS is the memory that the runtime has from the system, in bytes: Windows keeps no peak that the standard library
// can read.
func peakRSS() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys)
}
