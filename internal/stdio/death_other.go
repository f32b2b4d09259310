//go:build !linux

package stdio

import (
	"os"
	"os/exec"
)

// start starts a child.
func start(cmd *exec.Cmd) error { return cmd.Start() }

// awaitExit cannot wait here without reaping; the group is signalled right after.
func awaitExit(*os.Process) {}
