//go:build unix

package stdio

import (
	"os"
	"os/exec"
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

// terminate asks the whole group to end.
func terminate(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }

// kill ends the whole group. It must not be called once the child was reaped and
// its number may be another's.
func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

// signalName is the name of the signal that ended a process, if one did.
func signalName(s *os.ProcessState) string {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() { //nolint:misspell // the name in package syscall
		return status.Signal().String()
	}
	return ""
}
