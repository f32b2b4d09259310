package stdio

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Inherited are the variables that every child gets from this process where they
// are set; "*" stands for any ending. All others have to be named.
var Inherited = []string{"PATH", "Path", "PATHEXT", "SYSTEMROOT", "SystemRoot", "SYSTEMDRIVE", "SystemDrive", "COMSPEC", "ComSpec",
	"APPDATA", "LOCALAPPDATA", "PROGRAMFILES", "ProgramFiles", "HOMEDRIVE", "HOMEPATH", "USERNAME", "USERPROFILE", "TEMP", "TMP",
	"LANG", "LC_*", "TZ"}

func isProgram(file string) bool {
	info, err := os.Stat(file)
	return err == nil && !info.IsDir()
}

func programNames(file string) []string {
	if filepath.Ext(file) != "" {
		return []string{file}
	}
	var names []string
	for _, ext := range strings.Split(".exe;.cmd;.bat;.com", ";") {
		names = append(names, file+ext)
	}
	return names
}

func setGroup(*exec.Cmd) {}

// group is the job object of a child: the child and what it starts, but for what
// it started before it was put in, right after its start. When the last handle is
// closed, as it is when this process ends in whatever way, all of it ends.
type group struct {
	mu      sync.Mutex
	process *os.Process
	job     windows.Handle // 0: there is none, or the child was reaped
}

func newGroup(p *os.Process) *group {
	g := &group{process: p}
	job, err := newJob()
	if err != nil {
		return g
	}
	joined := errors.New("no handle")
	if err := p.WithHandle(func(handle uintptr) { joined = windows.AssignProcessToJobObject(job, windows.Handle(handle)) }); err != nil || joined != nil {
		_ = windows.CloseHandle(job)
		return g
	}
	g.job = job
	return g
}

// newJob makes a job whose processes end with its last handle.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, err
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err != nil {
		_ = windows.CloseHandle(job)
		return 0, err
	}
	return job, nil
}

// terminate does nothing: there is no such signal. Stop goes on to kill.
func (g *group) terminate() {}

// kill ends the child and what it started.
func (g *group) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.job == 0 || windows.TerminateJobObject(g.job, 1) != nil {
		_ = g.process.Kill()
	}
}

// reap waits for the child and ends what it left behind.
func (g *group) reap(cmd *exec.Cmd) {
	_ = cmd.Wait() // its error is in ProcessState
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.job != 0 {
		_ = windows.CloseHandle(g.job)
		g.job = 0
	}
}

func signalName(*os.ProcessState) string { return "" }
