package loopback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
)

func TestMain(m *testing.M) {
	switch os.Getenv("LOOPBACK_ROLE") {
	case "browser": // writes down what it was called with
		if err := os.WriteFile(os.Getenv("LOOPBACK_FILE"), []byte(strings.Join(os.Args[1:], "\n")), 0o600); err != nil {
			panic(err)
		}
	case "broken":
		os.Exit(4)
	case "terminal": // reads two lines of its terminal
		t := openTerminal()
		fmt.Println("ready", t != nil)
		for range 2 {
			line, err := t.line(context.Background())
			fmt.Printf("<%s> %v\n", line, err)
		}
	default:
		os.Exit(m.Run())
	}
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestOpeners(t *testing.T) {
	has := func(names ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			if slices.Contains(names, name) {
				return "/bin/" + name, nil
			}
			return "", exec.ErrNotFound
		}
	}
	for _, tc := range []struct {
		goos, browser string
		look          func(string) (string, error)
		want          string
	}{
		{"linux", "", has("xdg-open"), "/bin/xdg-open"},
		{"linux", "firefox", has("xdg-open", "firefox"), "/bin/firefox"},
		{"linux", "chrome", has("xdg-open", "firefox"), "/bin/xdg-open"},
		{"linux", "firefox:chrome", has("xdg-open", "firefox:chrome"), "/bin/xdg-open"},
		{"linux", "firefox %s", has("xdg-open", "firefox %s"), "/bin/xdg-open"},
		{"linux", "sh -c", has("xdg-open", "sh -c"), "/bin/xdg-open"},
		{"linux", "", has(), ""},
		{"darwin", "", has("open"), "/bin/open"},
		{"windows", "", has(), "rundll32 url.dll,FileProtocolHandler"},
	} {
		got, err := openerFor(tc.goos, env("BROWSER", tc.browser), tc.look)
		if strings.Join(got, " ") != tc.want || (err != nil) != (tc.want == "") || err != nil && !errors.Is(err, errNoBrowser) {
			t.Errorf("%s with BROWSER=%s: %q, %v", tc.goos, tc.browser, got, err)
		}
	}
}

func TestScreenless(t *testing.T) {
	for _, tc := range []struct {
		goos string
		env  func(string) string
		want bool
	}{
		{"linux", env(), true},
		{"linux", env("DISPLAY", ":0"), false},
		{"linux", env("WAYLAND_DISPLAY", "wayland-0"), false},
		{"linux", env("DISPLAY", ":0", "SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22"), true},
		{"linux", env("SSH_TTY", "/dev/pts/1", "BROWSER", "/opt/helper"), false},
		{"darwin", env(), false},
		{"darwin", env("SSH_TTY", "/dev/ttys1"), true},
		{"windows", env(), false},
		{"windows", env("SSH_CONNECTION", "x", "BROWSER", "x"), true},
	} {
		none := func(string) ([]string, error) { return nil, nil }
		if got := (surroundings{tc.goos, tc.env, none, 1000}).screenless(); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.goos, got, tc.want)
		}
	}
}

// Clients start their servers with few variables; a desktop is found all the same.
func TestDesktop(t *testing.T) {
	const run = "/run/user/1000"
	for name, tc := range map[string]struct {
		goos  string
		env   func(string) string
		files []string
		want  string
	}{
		"Wayland":           {"linux", env(), []string{run + "/bus", run + "/wayland-0.lock", run + "/wayland-0", "/tmp/.X11-unix/X0"}, "XDG_RUNTIME_DIR=" + run + " DBUS_SESSION_BUS_ADDRESS=unix:path=" + run + "/bus WAYLAND_DISPLAY=wayland-0 DISPLAY=:0"},
		"X11":               {"linux", env("DBUS_SESSION_BUS_ADDRESS", "x"), []string{run + "/bus", "/tmp/.X11-unix/X1", run + "/gdm/Xauthority"}, "XDG_RUNTIME_DIR=" + run + " DISPLAY=:1 XAUTHORITY=" + run + "/gdm/Xauthority"},
		"elsewhere":         {"linux", env("XDG_RUNTIME_DIR", "/run/me"), []string{"/run/me/bus", "/run/me/wayland-1"}, "XDG_RUNTIME_DIR=/run/me DBUS_SESSION_BUS_ADDRESS=unix:path=/run/me/bus WAYLAND_DISPLAY=wayland-1"},
		"somebody else's":   {"linux", env(), []string{"/tmp/.X11-unix/X0"}, ""},
		"no desktop":        {"linux", env(), []string{run + "/bus"}, ""},
		"what it has is it": {"linux", env("DISPLAY", ":7"), []string{run + "/bus", run + "/wayland-0"}, ""},
		"macOS":             {"darwin", env(), []string{run + "/bus", run + "/wayland-0"}, ""},
	} {
		glob := func(pattern string) (found []string, err error) {
			for _, f := range tc.files {
				if ok, _ := filepath.Match(pattern, f); ok {
					found = append(found, f)
				}
			}
			return found, nil
		}
		s := surroundings{tc.goos, tc.env, glob, 1000}
		if got := strings.Join(s.desktop(), " "); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
		if tc.goos == "linux" && s.screenless() != (tc.want == "" && tc.env("DISPLAY") == "") {
			t.Errorf("%s: screenless is %v", name, s.screenless())
		}
	}
}

// What a shell would act on reaches the program as one argument.
func TestAddressReachesTheProgramWhole(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("$BROWSER is for other systems")
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "called")
	t.Setenv("BROWSER", self)
	t.Setenv("LOOPBACK_FILE", file)
	t.Setenv("LOOPBACK_ROLE", "browser")
	address := "https://idp.example.com/$(touch%20x);'&calc&'/?a=$HOME&b=;id&c=*"
	if err := openBrowser(address); err != nil {
		t.Fatal(err)
	}
	if called, err := os.ReadFile(file); err != nil || string(called) != address {
		t.Errorf("called with %q, %v", called, err)
	}
	t.Setenv("LOOPBACK_ROLE", "broken")
	if err := openBrowser(address); err == nil || strings.Contains(err.Error(), "idp.example.com") {
		t.Errorf("a browser that fails: %v", err)
	}
}

// The terminal is read line by line, and by nobody who is not in its foreground.
func TestTerminal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("there are no pseudo-terminals of this kind")
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "LOOPBACK_ROLE=terminal")
	screen, err := pty.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	seen := make([]byte, 0, 4096)
	await := func(text string) {
		t.Helper()
		for !strings.Contains(string(seen), text) {
			part := make([]byte, 1024)
			n, err := screen.Read(part)
			seen = append(seen, part[:n]...)
			if err != nil {
				t.Fatalf("never saw %q but %q: %v", text, seen, err)
			}
		}
	}
	await("ready true")
	_, _ = screen.WriteString("http://127.0.0.1:1/callback?code=1\nsecond\n")
	await("<http://127.0.0.1:1/callback?code=1> <nil>")
	await("<second> <nil>")
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

func FuzzReadPasted(f *testing.F) {
	const redirect = "http://127.0.0.1:4711/callback"
	for _, s := range []string{redirect + "?code=a&state=b", "code=a", "?error=x#y", "'" + redirect + "?code=1'", "https://x/?code=1", "%zz", "code=%zz", "#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		answer, err := readPasted(line, redirect)
		if (err == nil) != isAnswer(answer) {
			t.Errorf("%q: %v, %v", line, answer, err)
		}
		if before, _, ok := strings.Cut(line, "?"); ok && err == nil && strings.Contains(before, "//") && !strings.Contains(before, redirect) {
			t.Errorf("took the address of another: %q", line)
		}
	})
}
