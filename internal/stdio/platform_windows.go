package stdio

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// terminate does nothing: there is no such signal. Stop goes on to kill.
func terminate(*os.Process) {}

// kill ends the child alone; what it started has to notice its closed input.
func kill(p *os.Process) { _ = p.Kill() }

func signalName(*os.ProcessState) string { return "" }
