//go:build unix

package loopback

import "syscall"

// detached has a program in a session of its own: clients that end their servers
// end the whole process group, and a browser is not part of the server.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
