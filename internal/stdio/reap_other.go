//go:build !linux

package stdio

import "context"

// Reap does nothing here: only Linux containers make a program process number 1.
func Reap(ctx context.Context) { <-ctx.Done() }
