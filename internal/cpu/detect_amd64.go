package cpu

import "golang.org/x/sys/cpu"

func detect() Level {
	x := &cpu.X86
	// Every processor with AVX2 also has F16C, which x/sys/cpu does not report.
	if !(x.HasAVX2 && x.HasFMA) {
		return Portable
	}
	if !(x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL) {
		return AVX2
	}
	if !x.HasAVX512VNNI {
		return AVX512
	}
	if !x.HasAVX512BF16 {
		return AVX512VNNI
	}
	return AVX512BF16
}
