package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestServeStateless serves a command without sessions to a real client of each
// generation.
func TestServeStateless(t *testing.T) {
	const key, hash = "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	file := filepath.Join(t.TempDir(), "stile.yaml")
	text := "listen: 127.0.0.1:0\napi_keys: [{name: t, sha256: " + hash + ", scopes: a}]\nservers:\n  test:\n    path: /mcp\n    command: [" + strconv.Quote(self(t)) + "]\n" +
		"    env: {" + roleVar + ": server}\n    stateless: true\n    policy: {baseline: a, default: a}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("stile", "serve", "-c", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	lines.Scan()
	url := strings.TrimPrefix(lines.Text(), "stile serves ")
	first, second := connect(t, url, key), connect(t, url, key)
	if first.ID() != "" || second.ID() != "" {
		t.Errorf("sessions %q and %q", first.ID(), second.ID())
	}
	one, _ := pid(t, first)
	other, _ := pid(t, second)
	if one != other {
		t.Errorf("one caller's processes are %d and %d", one, other)
	}
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pid","arguments":{}}}`,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		res, err := withKey(key).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Mcp-Session-Id") != "" || !strings.Contains(string(text), `"result"`) {
			t.Errorf("%s: %d %s %v", body, res.StatusCode, text, res.Header)
		}
	}
}
