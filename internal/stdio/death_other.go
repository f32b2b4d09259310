//go:build !linux

package stdio

import "os/exec"

// start starts a child.
func start(cmd *exec.Cmd) error { return cmd.Start() }
