//go:build !linux || !(amd64 || arm64)

package sandbox

import (
	"context"
	"fmt"
	"runtime"
)

func run(context.Context, string, string, Limits) (Result, error) {
	return Result{}, fmt.Errorf("%w: it takes the namespaces of Linux on amd64 or arm64, this is %s on %s", ErrNoIsolation, runtime.GOOS, runtime.GOARCH)
}
