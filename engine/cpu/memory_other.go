//go:build !unix

package cpu

// allocate returns zeroed memory.
func allocate(bytes int) ([]byte, error) {
	if bytes == 0 {
		return nil, nil
	}
	// Of float64, so that every element type is aligned.
	return bytesOf(make([]float64, (bytes+7)/8))[:bytes], nil
}

func release([]byte) error { return nil }
