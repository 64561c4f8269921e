package eval

import (
	"context"

	"danlu/sandbox"
)

// Isolated runs programs by package sandbox, one after another.
type Isolated struct{ Limits sandbox.Limits }

// Run implements Sandbox: a program passes when it ends by itself with status 0.
func (i Isolated) Run(ctx context.Context, program string) (bool, error) {
	r, err := sandbox.Run(ctx, program, "", i.Limits)
	return err == nil && r.Exit == 0 && r.Over == "", err
}
