package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// roleVar makes this test program something else: stile itself, or an MCP server
// that speaks stdio.
const roleVar = "STILE_TEST_ROLE"

// playRole plays it and reports whether there was one.
func playRole() bool {
	switch os.Getenv(roleVar) {
	case "stile":
		main()
	case "server":
		server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
		mcp.AddTool(server, &mcp.Tool{Name: "pid"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint("pid=", os.Getpid(), " ", os.Getenv("COLOUR"))}}}, nil, nil
		})
		_ = server.Run(context.Background(), &mcp.StdioTransport{})
	case "hinted":
		_ = hinted().Run(context.Background(), &mcp.StdioTransport{})
	default:
		return false
	}
	return true
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// withKey sends a key with every request.
type withKey string

func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// connect is a real client of an endpoint.
func connect(t *testing.T, url, key string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "t", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url,
		HTTPClient: &http.Client{Transport: withKey(key)}, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// pid asks the server behind for the number of its process.
func pid(t *testing.T, session *mcp.ClientSession) (number int, text string) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "pid"})
	if err != nil {
		t.Fatal(err)
	}
	text = result.Content[0].(*mcp.TextContent).Text
	if _, err := fmt.Sscanf(text, "pid=%d", &number); err != nil {
		t.Fatal(text)
	}
	return number, text
}

func gone(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
	return err != nil || strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !gone(pid); {
		if time.Now().After(end) {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// TestServeCommand runs stile serve -- COMMAND as a process, comes in with the key
// that it prints, and ends it in two ways.
func TestServeCommand(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("COLOUR", "blue")
			cmd := exec.Command(self(t), "serve", "--api-key", "--listen", "127.0.0.1:0", "--env", roleVar+"=server", "-e", "COLOUR", "--", self(t))
			cmd.Env = append(os.Environ(), roleVar+"=stile")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var url, key string
			for lines := bufio.NewScanner(out); key == "" && lines.Scan(); {
				if text, ok := strings.CutPrefix(lines.Text(), "stile serves "); ok {
					url = text
				}
				if text, ok := strings.CutPrefix(lines.Text(), "API key, shown only now: "); ok {
					key = text
				}
			}
			if res, err := http.Post(url, "application/json", strings.NewReader(`{}`)); err != nil || res.StatusCode != http.StatusUnauthorized {
				t.Errorf("without the key: %v %v", res, err)
			}
			child, text := pid(t, connect(t, url, key))
			if !strings.HasSuffix(text, " blue") {
				t.Errorf("the server sees %q", text)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if signal == syscall.SIGTERM && err != nil {
				t.Errorf("it ended with %v", err)
			}
			awaitGone(t, child)
		})
	}
}

// TestReloadKeepsProcesses reloads a configuration that runs a command: sessions
// go on unless the change is about how it is run.
func TestReloadKeepsProcesses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stile.yaml")
	const key, hash = "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	write := func(colour, scope string) {
		text := fmt.Sprintf("listen: 127.0.0.1:0\napi_keys: [{name: t, sha256: %s, scopes: %s}]\nservers:\n  test:\n    path: /mcp\n    command: [%q]\n"+
			"    env: {%s: server, COLOUR: %s}\n    policy: {baseline: %s, default: %s}\n", hash, scope, self(t), roleVar, colour, scope, scope)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("blue", "one")
	s := newServer(file, &process{ctx: t.Context(), stdout: &strings.Builder{}, stderr: &strings.Builder{}, around: system()})
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	listener := httptest.NewServer(s)
	defer listener.Close()
	session := connect(t, listener.URL+"/mcp", key)
	before, _ := pid(t, session)
	write("blue", "two")
	s.reload()
	if after, _ := pid(t, session); after != before {
		t.Error("a change of the policy ended the process")
	}
	write("red", "two")
	s.reload()
	if after, text := pid(t, connect(t, listener.URL+"/mcp", key)); after == before || !strings.HasSuffix(text, " red") {
		t.Errorf("after a change of the environment the server says %q", text)
	}
	awaitGone(t, before)
	if res, err := http.Get(listener.URL + "/readyz"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("not ready: %v %v", res, err)
	}
	last, _ := pid(t, connect(t, listener.URL+"/mcp", key))
	s.leave(s.current.Load())
	awaitGone(t, last)
}

// TestUnreadyCommand has a program that is not there.
func TestUnreadyCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stile.yaml")
	text := "listen: 127.0.0.1:0\nservers:\n  test:\n    path: /mcp\n    command: [no-such-server]\n    policy: {rules: [{tools: [x], anonymous: true}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(file, &process{ctx: t.Context(), stdout: &strings.Builder{}, stderr: &strings.Builder{}, around: system()})
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	defer s.leave(s.current.Load())
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var body struct{ Problems []string }
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != http.StatusServiceUnavailable || len(body.Problems) != 1 || !strings.Contains(body.Problems[0], "test") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
