package loopback

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// detached has a program in a process group of its own, so that Ctrl-C is not meant
// for it.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}
