//go:build unix && !linux

package stdio

import (
	"os/exec"
	"syscall"
)

func setDeathSignal(*syscall.SysProcAttr) {}

// awaitExit returns when the child has ended. It is reaped here too: what is left
// of its group is killed right after, while the kernel gives no new process the
// number of a group that somebody is in.
func awaitExit(cmd *exec.Cmd) { _ = cmd.Wait() }
