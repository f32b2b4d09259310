package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/stiletest"
)

// TestServePortTaken says what to do about it.
func TestServePortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"serve", "--listen", address, "--", self(t)}, nil, &out, &errs)
	want := "stile: " + address + " is taken: give another address with --listen, such as 127.0.0.1:0\n"
	if code != exitFailed || errs.String() != want || out.Len() > 0 {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
}

// TestServeURLThatIsNotThere warns, serves all the same, in lines of a terminal, and
// ends in good order with the terminal.
func TestServeURLThatIsNotThere(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	cmd := exec.Command("stile", "serve", "--api-key", "--listen", "127.0.0.1:0", "http://"+gone.Addr().String()+"/mcp")
	errs := newTold()
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	errs.wait(t, "does not take connections yet", 1)
	lines := bufio.NewScanner(out)
	for _, want := range []string{"stile serves http://127.0.0.1:", "API key, shown only now: stile_", "  send it as "} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) || len(lines.Text()) > 80 {
			t.Errorf("%q, want %q and at most 80 columns", lines.Text(), want)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGHUP: %v", err)
	}
}

// quickly runs serve without a file in this process until the test ends, and returns
// the endpoint and all that is printed.
func quickly(t *testing.T, args ...string) (endpoint string, stdout *told) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	stdout, stderr := newTold(), newTold()
	done := make(chan int, 1)
	go func() { done <- run(ctx, append([]string{"serve"}, args...), strings.NewReader(""), stdout, stderr) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != exitOK {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
	stdout.wait(t, "--server-url", 1)
	return regexp.MustCompile(`http\S+/mcp`).FindString(stdout.String()), stdout
}

// What is printed without a file fits a terminal and is looked at here. What is
// served has the scopes that init would propose, and asks for tokens of its own.
func TestServeWithoutAFile(t *testing.T) {
	endpoint, stdout := quickly(t, "--listen", "127.0.0.1:0", "--env", roleVar+"=hinted", "--", self(t))
	text := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(stdout.String(), "127.0.0.1:PORT")
	text = regexp.MustCompile(`token=[A-Z0-9]+`).ReplaceAllString(text, "token=TOKEN")
	golden(t, "serve.txt", text)
	for line := range strings.Lines(stdout.String()) {
		if line = strings.TrimSuffix(line, "\n"); printable(line) != line || len(line) > width {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
	refused, err := http.Post(endpoint, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = refused.Body.Close()
	if got := refused.Header.Get("WWW-Authenticate"); refused.StatusCode != http.StatusUnauthorized || !strings.Contains(got, `scope="hinted:read"`) {
		t.Errorf("%d %s", refused.StatusCode, got)
	}
	root := strings.TrimSuffix(endpoint, "/mcp")
	var resource struct {
		Servers []string `json:"authorization_servers"`
	}
	getJSON(t, root+"/.well-known/oauth-protected-resource/mcp", &resource)
	if len(resource.Servers) != 1 || resource.Servers[0] != root {
		t.Errorf("tokens are issued by %q", resource.Servers)
	}
	var issuer struct {
		Scopes []string `json:"scopes_supported"`
	}
	getJSON(t, root+"/.well-known/oauth-authorization-server", &issuer)
	for _, want := range []string{"hinted:read", "hinted:write", "hinted:admin"} {
		if !slices.Contains(issuer.Scopes, want) {
			t.Errorf("%s is not among %q", want, issuer.Scopes)
		}
	}
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if stiletest.Update() {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", name, diff)
	}
}

func getJSON(t *testing.T, url string, v any) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// Accounts outlive the process where the address is the same the next time, and
// nothing is left behind where it is another.
func TestServeWithoutAFileKeeps(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	t.Setenv("TMPDIR", t.TempDir())
	t.Run("kept", func(t *testing.T) {
		_, stdout := quickly(t, "--listen", address, "--env", roleVar+"=hinted", "--", self(t))
		dir := filepath.Join(os.Getenv("XDG_STATE_HOME"), "stile", "at-"+strings.ReplaceAll(address, ":", "-"))
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 || !strings.Contains(stdout.String(), dir+"\n") {
			t.Errorf("%v %v\n%s", info, err, stdout)
		}
	})
	t.Run("not kept", func(t *testing.T) {
		_, stdout := quickly(t, "--listen", "127.0.0.1:0", "--env", roleVar+"=hinted", "--", self(t))
		if !strings.Contains(stdout.String(), "forgotten when it ends") {
			t.Error(stdout)
		}
	})
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A server that is started after Stile is waited for.
func TestServeWaitsForTheServer(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	stdout, stderr := newTold(), newTold()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--listen", "127.0.0.1:0", "http://" + address + "/mcp"}, nil, stdout, stderr)
	}()
	stderr.wait(t, "waiting for it", 1)
	late, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: late, Config: &http.Server{Handler: stiletest.NewNotes(stiletest.NotesOptions{})}}
	server.Start()
	defer server.Close()
	stdout.wait(t, "notes:admin", 1)
	cancel()
	if code := <-done; code != exitOK || strings.Count(stderr.String(), "waiting for it") != 1 {
		t.Errorf("%d %s", code, stderr)
	}
}

// A server that does not say what it offers is not served: there would be no scopes
// to ask people for.
func TestServeNeedsToKnow(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer closed.Close()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"not there":       {[]string{"--timeout", "10ms", "http://" + gone.Addr().String() + "/mcp"}, ""},
		"own credentials": {[]string{closed.URL}, "401"},
		"no MCP server":   {[]string{"--", "true"}, "the command"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"serve", "--listen", "127.0.0.1:0"}, tc.args...), nil, &out, &errs)
		if code != exitFailed || out.Len() > 0 || !strings.Contains(errs.String(), tc.want) ||
			!strings.Contains(errs.String(), "does not say what it offers") || !strings.Contains(errs.String(), "--api-key") {
			t.Errorf("%s: %d %s%s", name, code, &out, &errs)
		}
	}
}

// What is to be typed is what a shell and a reader of JSON take, however long the
// name is.
func TestClientLines(t *testing.T) {
	for _, name := range []string{"notes", strings.Repeat("n", 32)} {
		const url = "http://127.0.0.1:65535/mcp"
		for _, c := range clientLines(name, url) {
			for line := range strings.SplitSeq(c.text, "\n") {
				if len(line) > 76 {
					t.Errorf("%s: %d columns: %s", c.client, len(line), line)
				}
			}
			if strings.HasPrefix(c.client, "Cursor") {
				var file struct {
					Servers map[string]struct{ URL string } `json:"mcpServers"`
				}
				if err := json.Unmarshal([]byte(c.text), &file); err != nil || file.Servers[name].URL != url {
					t.Errorf("%s: %v %+v", c.client, err, file)
				}
				continue
			}
			program, arguments, _ := strings.Cut(c.text, " ")
			shell := program + `() { for one; do printf '%s' "$one" | tr '\n' ' '; echo; done; }` + "\n" + program + " " + arguments
			got, err := exec.Command("sh", "-c", shell).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v %s", c.client, err, got)
			}
			words := strings.Split(strings.TrimSpace(string(got)), "\n")
			last := strings.TrimSpace(words[len(words)-1])
			if c.client != "VS Code" {
				if last != url {
					t.Errorf("%s: %q", c.client, words)
				}
				continue
			}
			var added struct{ Name, Type, URL string }
			if err := json.Unmarshal([]byte(last), &added); err != nil || added.Name != name || added.Type != "http" || added.URL != url {
				t.Errorf("%s: %v %+v", c.client, err, added)
			}
		}
	}
}
