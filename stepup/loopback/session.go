package loopback

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// surroundings are what tells of a desktop.
type surroundings struct {
	goos   string
	getenv func(string) string
	glob   func(pattern string) ([]string, error)
	uid    int
}

// desktop is which variables a program needs besides those of this process to be seen
// on the person's own desktop. MCP clients start their servers with HOME, PATH and a
// few others, so that a desktop of Linux has to be found by its sockets.
func (s surroundings) desktop() []string {
	if s.goos == "windows" || s.goos == "darwin" || s.getenv("DISPLAY") != "" || s.getenv("WAYLAND_DISPLAY") != "" {
		return nil
	}
	folder := s.getenv("XDG_RUNTIME_DIR")
	if folder == "" {
		folder = fmt.Sprintf("/run/user/%d", s.uid)
	}
	bus := s.first(filepath.Join(folder, "bus"))
	wayland, x := s.first(filepath.Join(folder, "wayland-*")), s.first("/tmp/.X11-unix/X*")
	if bus == "" || wayland == "" && x == "" {
		return nil // a desktop has a bus, and the display of another person has none of ours
	}
	env := []string{"XDG_RUNTIME_DIR=" + folder}
	add := func(name, value string) {
		if value != "" && s.getenv(name) == "" {
			env = append(env, name+"="+value)
		}
	}
	add("DBUS_SESSION_BUS_ADDRESS", "unix:path="+bus)
	if wayland != "" {
		add("WAYLAND_DISPLAY", filepath.Base(wayland))
	}
	if x != "" {
		add("DISPLAY", ":"+strings.TrimPrefix(filepath.Base(x), "X"))
	}
	add("XAUTHORITY", s.first(filepath.Join(folder, "gdm", "Xauthority")))
	return env
}

// first is the first path that fits a pattern and is no lock; empty without one.
func (s surroundings) first(pattern string) string {
	paths, err := s.glob(pattern)
	if err != nil {
		return ""
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, ".lock") {
			return path
		}
	}
	return ""
}

// screenless reports whether a browser that was opened here would be seen by nobody:
// there is no display, or the shell is a remote one. A program that $BROWSER names
// knows better.
func (s surroundings) screenless() bool {
	if s.getenv("BROWSER") != "" && s.goos != "windows" {
		return false
	}
	if s.getenv("SSH_CONNECTION") != "" || s.getenv("SSH_TTY") != "" {
		return true
	}
	return s.goos != "windows" && s.goos != "darwin" && s.getenv("DISPLAY") == "" && s.getenv("WAYLAND_DISPLAY") == "" && s.desktop() == nil
}

// here is where this process runs.
func here(goos string) surroundings {
	return surroundings{goos: goos, getenv: os.Getenv, glob: filepath.Glob, uid: os.Getuid()}
}
