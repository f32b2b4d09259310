package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// serveEmbedded runs serve with the embedded authorization server until the test
// ends, and returns the first line of standard output and all of it.
func serveEmbedded(t *testing.T, dataDir string) (endpoint string, stdout *told) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stile.yaml")
	text := "listen: 127.0.0.1:0\ndata_dir: " + dataDir + "\naudit: audit.jsonl\n" +
		"servers:\n  notes:\n    path: /mcp\n    url: http://127.0.0.1:1/mcp\n    policy:\n      rules: [{tools: [x], scopes: notes:read}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stdout, done := newTold(), make(chan int, 1)
	stderr := newTold()
	go func() { done <- run(ctx, []string{"serve", "-c", file}, strings.NewReader(""), stdout, stderr) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != exitOK {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
	stdout.wait(t, "setup?token=", 1)
	return regexp.MustCompile(`http\S+/mcp`).FindString(stdout.String()), stdout
}

// A name that was rebound to this machine reaches no page of the authorization
// server either: a browser would let the page of that name fill in the forms.
func TestAuthServerAtAReboundName(t *testing.T) {
	endpoint, _ := serveEmbedded(t, t.TempDir())
	root := strings.TrimSuffix(endpoint, "/mcp")
	for _, path := range []string{"/authserver/signin", "/authserver/setup?token=x", "/register", "/.well-known/oauth-authorization-server"} {
		for host, refused := range map[string]bool{"": false, "evil.example": true, "evil.example:8080": true} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, root+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if refused && answer.StatusCode != http.StatusNotFound {
				t.Errorf("%s at %q: %d", path, host, answer.StatusCode)
			}
			if !refused && answer.StatusCode == http.StatusNotFound {
				t.Errorf("%s: %d", path, answer.StatusCode)
			}
		}
	}
}

// The link for the first account is printed although the path of data_dir is too
// long for a socket.
func TestLinkWithoutASocket(t *testing.T) {
	_, stdout := serveEmbedded(t, filepath.Join(t.TempDir(), strings.Repeat("x", 100)))
	if !strings.Contains(stdout.String(), "with this link that works once") {
		t.Error(stdout)
	}
}
