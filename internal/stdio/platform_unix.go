//go:build unix

package stdio

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// Inherited are the variables that every child gets from this process where they
// are set; "*" stands for any ending. All others have to be named.
var Inherited = []string{"PATH", "HOME", "LANG", "LC_*", "TMPDIR", "USER", "LOGNAME", "SHELL", "TERM", "TZ"}

func isProgram(file string) bool {
	info, err := os.Stat(file)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

func programNames(file string) []string { return []string{file} }

// setGroup gives the child a process group of its own, so that what it starts can
// be ended with it and a Ctrl-C in our terminal does not reach it before Stop.
func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	setDeathSignal(cmd.SysProcAttr)
}

// group is the process group of a child. Its number, that of the child, must not
// be used once the child was reaped: it may be another's then.
type group struct {
	mu     sync.Mutex
	pid    int
	reaped bool
}

func newGroup(p *os.Process) *group { return &group{pid: p.Pid} }

// terminate asks the whole group to end.
func (g *group) terminate() { g.signal(syscall.SIGTERM) }

// kill ends the whole group.
func (g *group) kill() { g.signal(syscall.SIGKILL) }

func (g *group) signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.reaped {
		_ = syscall.Kill(-g.pid, s)
	}
}

// reap waits for the child, kills what is left of its group, and reaps it.
func (g *group) reap(cmd *exec.Cmd) {
	awaitExit(cmd)
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = syscall.Kill(-g.pid, syscall.SIGKILL)
	_ = cmd.Wait() // its error is in ProcessState, or that there was a Wait before
	g.reaped = true
}

// signalName is the name of the signal that ended a process, if one did.
func signalName(s *os.ProcessState) string {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() { //nolint:misspell // the name in package syscall
		return status.Signal().String()
	}
	return ""
}
