package interop_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// npmCommand is a server of the npm organisation of MCP as a command line.
func npmCommand(t *testing.T, name string, arguments ...string) []string {
	t.Helper()
	return append([]string{node(t), absolute(t, "node_modules/@modelcontextprotocol/"+name+"/dist/index.js")}, arguments...)
}

// startNpmEverything runs server-everything over HTTP, and returns where.
func startNpmEverything(t *testing.T) string {
	t.Helper()
	address := freeAddress(t)
	command := npmCommand(t, "server-everything", "streamableHttp")
	server := start(t, []string{"PORT=" + address[strings.LastIndex(address, ":")+1:]}, command[0], command[1:]...)
	server.awaitListening(address)
	return "http://" + address + "/mcp"
}

// TestInitWritesWhatCheckTakes asks servers that others wrote, over both transports,
// and has check read what init made of what they say.
func TestInitWritesWhatCheckTakes(t *testing.T) {
	binary := stileBinary(t)
	for name, tc := range map[string]struct {
		target []string
		want   []string
	}{
		"server-filesystem": {append([]string{"--name", "files", "--"}, npmCommand(t, "server-filesystem", t.TempDir())...), []string{
			"- scopes: files:read\n          tools:\n            - directory_tree", "- scopes: files:write\n          tools:\n            - create_directory\n",
			"- scopes: files:admin\n          tools:\n            - edit_file\n            - move_file\n            - write_file"}},
		"server-everything over HTTP": {[]string{startNpmEverything(t)}, []string{
			"baseline: everything:read\n", "- scopes: everything:write\n          tools:\n            - gzip-file-as-resource # reaches beyond the server\n",
			"demo://resource/dynamic/text/{resourceId}", "- simple-prompt\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "stile.yaml")
			if _, err := run(t, nil, binary, append([]string{"init", "-o", file}, tc.target...)...); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range append(tc.want, "default: deny\n") {
				if !strings.Contains(string(text), want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if strings.Contains(string(text), "api_keys:") {
				t.Error("there is a key that nobody asked for")
			}
			if _, err := run(t, nil, binary, "check", "-c", file); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestServeWithoutAFile goes the newcomer's path with nothing but a server: one
// command, an account by the printed link, the first login of a client, and a call
// that its own hints make a step-up for.
func TestServeWithoutAFile(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		target []string
		op     operation
	}{
		"a command": {append([]string{"--"}, npmCommand(t, "server-filesystem", dir)...), operation{kind: "tool", method: "tools/call",
			asks:   "secure-filesystem-server:read secure-filesystem-server:admin",
			target: target{Name: "write_file", Arguments: map[string]string{"path": filepath.Join(dir, "note"), "content": "buy milk"}}}},
		"a URL": {[]string{startNpmEverything(t)}, operation{kind: "tool", method: "tools/call",
			asks:   "everything:read everything:write",
			target: target{Name: "toggle-simulated-logging", Arguments: map[string]string{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			served := start(t, []string{"XDG_STATE_HOME=" + t.TempDir()}, stileBinary(t), append([]string{"serve", "--listen", "127.0.0.1:0"}, tc.target...)...)
			endpoint := link(served.line("stile serves "))
			a := &allower{reader: newReader(t)}
			a.reader.makeAccount(served.line("/authserver/setup?token="))
			r := driveGo(t, a.visit, endpoint, era2025, tc.op)
			if !r.OK {
				t.Errorf("%s\n%s", r.Error, served.stderr)
			}
			// The go-sdk registers anew for the step-up, so that the page knows no call
			// of this client that needed it.
			baseline, more, _ := strings.Cut(tc.op.asks, " ")
			if len(a.asked) != 2 || a.asked[0] != baseline || !sameScopes(a.asked[1], tc.op.asks) {
				t.Errorf("it asked for %q", a.asked)
			}
			if len(a.shown) != 2 || !strings.Contains(a.shown[0], "Nothing is changed.") || strings.Contains(a.shown[0], more) || !strings.Contains(a.shown[1], more) {
				t.Errorf("the person was shown %q", a.shown)
			}
			if n := len(r.withStatus(403)); n != 1 {
				t.Errorf("%d challenges\n%s", n, r)
			}
			if code := served.terminate(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(dir, "note")); err != nil || string(text) != "buy milk" {
		t.Errorf("the file says %q: %v", text, err)
	}
}

// TestDemoInABrowser looks at the page that draws the step-up.
func TestDemoInABrowser(t *testing.T) {
	b := startBrowser(t)
	demo := start(t, nil, stileBinary(t), "demo")
	b.open(link(demo.line("/demo")))
	b.heading("A step-up, as it happened")
	b.mustSay("insufficient_scope", "notes:read notes:write notes:admin", "Demo Agent", "Delete notes for good", "allowed before",
		"after the login", "after the step-up", "not offered through this gateway")
	b.look("demo")
	if code := demo.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
