package weights

// For tests that need later packages.
var (
	SparseLlama = sparseLlama
	Peak        = peak
)
