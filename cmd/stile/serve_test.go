package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/goccy/go-yaml/ast"

	"github.com/stile-mcp/stile/stiletest"
)

// patience is how long a test waits for what must come. Nothing is asserted about
// how long it takes.
const patience = 20 * time.Second

// told is what a process writes, to be waited for.
type told struct {
	mu   sync.Mutex
	more *sync.Cond
	text strings.Builder
	late bool
}

func newTold() *told {
	w := &told{}
	w.more = sync.NewCond(&w.mu)
	return w
}

func (w *told) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.more.Broadcast()
	return w.text.Write(p)
}

func (w *told) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// wait waits until text stands there n times.
func (w *told) wait(t *testing.T, text string, n int) {
	t.Helper()
	timer := time.AfterFunc(patience, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.late = true
		w.more.Broadcast()
	})
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for strings.Count(w.text.String(), text) < n {
		if w.late {
			t.Fatalf("%q was to be told %d times: %s", text, n, w.text.String())
		}
		w.more.Wait()
	}
}

// serving is a `stile serve` of its own process, between an issuer and a notes
// server of this one.
type serving struct {
	dir    string
	file   string
	issuer *stiletest.Issuer
	notes  string        // URL
	listen chan struct{} // a GET stream reached the notes server
	cmd    *exec.Cmd
	stderr *told
	urls   []string // of the line it prints
	client *http.Client
}

const servedPolicy = `baseline: notes:read
rules:
  - tools: [list_notes, slow]
    scopes: notes:read
  - tools: [delete_note]
    scopes: notes:write
`

// servedConfig is where %POLICY% says where the policy stands, and %MORE% is the
// test's own.
const servedConfig = `listen: 127.0.0.1:0
audit: audit.jsonl
issuers: [{issuer: "%ISSUER%"}]
%MORE%
servers:
  notes:
    path: /mcp
    url: %NOTES%
    policy_file: policy.yaml
`

// newServing writes a configuration and does not start it yet.
func newServing(t *testing.T, more string, options stiletest.NotesOptions) *serving {
	t.Helper()
	s := &serving{dir: t.TempDir(), issuer: stiletest.NewIssuerServer(t, stiletest.IssuerOptions{}),
		listen: make(chan struct{}, 8), client: &http.Client{Transport: &http.Transport{}}}
	notes := stiletest.NewNotes(options)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			s.listen <- struct{}{}
		}
		notes.ServeHTTP(w, r)
	}))
	s.notes = server.URL + "/mcp"
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		_ = notes.Close()
		server.CloseClientConnections()
		server.Close()
	})
	s.file = s.write(t, "stile.yaml", strings.Replace(servedConfig, "%MORE%", more, 1))
	s.write(t, "policy.yaml", servedPolicy)
	return s
}

// write puts a file in the place of another at once, as editors do.
func (s *serving) write(t *testing.T, name, text string) (path string) {
	t.Helper()
	text = strings.NewReplacer("%ISSUER%", s.issuer.URL(), "%NOTES%", s.notes).Replace(text)
	path = filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs `stile serve` until t ends or stop.
func (s *serving) start(t *testing.T) *serving {
	t.Helper()
	s.stderr = newTold()
	s.cmd = exec.Command("stile", "serve", "-c", s.file)
	s.cmd.Stderr = s.stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
		if strings.Contains(s.stderr.String(), "eyJ") {
			t.Errorf("a token on standard error: %s", s.stderr)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	urls, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "stile serves ")
	if err != nil || !ok {
		t.Fatalf("the line of the start is %q (%v): %s", line, err, s.stderr)
	}
	s.urls = strings.Fields(urls)
	return s
}

// signal sends a signal.
func (s *serving) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// stopped waits for the end and returns the exit code.
func (s *serving) stopped(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return s.cmd.ProcessState.ExitCode()
}

// reload sends SIGHUP and waits for what is told about it.
func (s *serving) reload(t *testing.T, says string) {
	t.Helper()
	before := strings.Count(s.stderr.String(), says)
	s.signal(t, syscall.SIGHUP)
	s.stderr.wait(t, says, before+1)
}

const (
	reloaded    = "configuration reloaded"
	notReloaded = "configuration not reloaded; the old one goes on"
)

func (s *serving) token(scopes string) string {
	return s.issuer.Token(stiletest.Claims{Scope: scopes, Audience: []string{s.urls[0]}})
}

// send sends one request of 2025 to the first endpoint.
func (s *serving) send(t *testing.T, method, session, body string) (*http.Response, error) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.urls[0], reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Authorization": "Bearer " + s.token("notes:read"), "MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": session} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return s.client.Do(r)
}

// ask is send with the answer read to its end.
func (s *serving) ask(t *testing.T, method, session, body string) (*http.Response, string) {
	t.Helper()
	res, err := s.send(t, method, session, body)
	if err != nil {
		t.Fatalf("%v: %s", err, s.stderr)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func call(tool string) string {
	args := "{}"
	if tool == "delete_note" {
		args = `{"id":"1"}`
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":1}}}`, tool, args)
}

// status is that of a call in a session.
func (s *serving) status(t *testing.T, session, tool string) int {
	t.Helper()
	res, _ := s.ask(t, http.MethodPost, session, call(tool))
	return res.StatusCode
}

// initialize opens a session.
func (s *serving) initialize(t *testing.T) string {
	t.Helper()
	res, text := s.ask(t, http.MethodPost, "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	id := res.Header.Get("Mcp-Session-Id")
	if res.StatusCode != http.StatusOK || id == "" {
		t.Fatalf("initialize: %d %q", res.StatusCode, text)
	}
	s.ask(t, http.MethodPost, id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return id
}

// The line of the start names every endpoint, once connections are taken.
func TestServeTellsWhereItIs(t *testing.T) {
	s := newServing(t, "", stiletest.NotesOptions{})
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "stile.yaml", string(text)+"  archive:\n    path: /archive\n    url: %NOTES%\n    policy_file: policy.yaml\n")
	s.start(t)
	if len(s.urls) != 2 || !strings.HasPrefix(s.urls[0], "http://127.0.0.1:") || !strings.HasSuffix(s.urls[0], "/mcp") || !strings.HasSuffix(s.urls[1], "/archive") {
		t.Fatalf("endpoints %q", s.urls)
	}
	for _, url := range s.urls {
		res, err := s.client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		challenge := res.Header.Get("WWW-Authenticate")
		want := strings.Replace(url, ".1:", ".1:", 1)
		base := want[:strings.LastIndex(want, "/")]
		if res.StatusCode != http.StatusUnauthorized || !strings.Contains(challenge, base+"/.well-known/oauth-protected-resource"+strings.TrimPrefix(url, base)) {
			t.Errorf("%s: %d %s", url, res.StatusCode, challenge)
		}
	}
	s.signal(t, syscall.SIGTERM)
	if code := s.stopped(t); code != 0 {
		t.Errorf("exit code %d: %s", code, s.stderr)
	}
}

// SIGHUP swaps the policy, keeps the port where it was not asked for by number,
// and a file with mistakes changes nothing.
func TestServeReloads(t *testing.T) {
	s := newServing(t, "", stiletest.NotesOptions{}).start(t)
	session := s.initialize(t)
	if got := s.status(t, session, "delete_note"); got != http.StatusForbidden {
		t.Fatalf("delete_note: %d", got)
	}
	open := strings.Replace(servedPolicy, "notes:write", "notes:read", 1)
	s.write(t, "policy.yaml", open)
	s.reload(t, reloaded)
	if got := s.status(t, session, "delete_note"); got != http.StatusOK {
		t.Errorf("after the reload: %d", got)
	}
	for name, bad := range map[string]struct{ file, text, says string }{
		"policy":        {"policy.yaml", servedPolicy + "  - tool: [x]\n", "tool"},
		"configuration": {"stile.yaml", "listn: x\n", "listn"},
		"not YAML":      {"stile.yaml", "{", "stile.yaml"},
	} {
		good, err := os.ReadFile(filepath.Join(s.dir, bad.file))
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, bad.file, bad.text)
		s.reload(t, notReloaded)
		if told := s.stderr.String(); !strings.Contains(told[strings.LastIndex(told, notReloaded):], bad.says) {
			t.Errorf("%s: does not say why: %s", name, told)
		}
		if got := s.status(t, session, "delete_note"); got != http.StatusOK {
			t.Errorf("%s: the old policy does not go on: %d", name, got)
		}
		s.write(t, bad.file, string(good))
	}
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	s.reload(t, notReloaded)
	if got := s.status(t, session, "delete_note"); got != http.StatusOK {
		t.Errorf("without a file the old policy does not go on: %d", got)
	}
}

// A changed file is noticed without a signal: the configuration, a policy beside
// it or elsewhere, and one that only came with an earlier reload.
func TestServeNoticesChanges(t *testing.T) {
	s := newServing(t, "", stiletest.NotesOptions{}).start(t)
	session := s.initialize(t)
	closed := servedPolicy
	open := strings.Replace(servedPolicy, "notes:write", "notes:read", 1)
	n := 0
	changes := func(name, text string, want int) {
		t.Helper()
		n++
		s.write(t, name, text)
		s.stderr.wait(t, reloaded, n)
		if got := s.status(t, session, "delete_note"); got != want {
			t.Errorf("after the change %d, of %s: %d, want %d", n, name, got, want)
		}
	}
	changes("policy.yaml", open, http.StatusOK)
	changes("policy.yaml", closed, http.StatusForbidden)
	s.write(t, "elsewhere/other.yaml", open)
	config := strings.NewReplacer("%MORE%", "", "policy.yaml", "elsewhere/other.yaml").Replace(servedConfig)
	changes("stile.yaml", config, http.StatusOK)
	changes("elsewhere/other.yaml", closed, http.StatusForbidden)
	changes("elsewhere/other.yaml", open, http.StatusOK)
}

// A session goes on over a reload, with and without data_dir; over a restart only
// with it.
func TestServeKeepsSessions(t *testing.T) {
	for _, tc := range []struct {
		more    string
		restart int
	}{{"", http.StatusNotFound}, {"data_dir: data", http.StatusOK}} {
		t.Run(tc.more, func(t *testing.T) {
			s := newServing(t, tc.more, stiletest.NotesOptions{}).start(t)
			session := s.initialize(t)
			for range 2 {
				s.reload(t, reloaded)
				if got := s.status(t, session, "list_notes"); got != http.StatusOK {
					t.Errorf("after a reload: %d", got)
				}
			}
			s.signal(t, syscall.SIGINT)
			if code := s.stopped(t); code != 0 {
				t.Fatalf("exit code %d: %s", code, s.stderr)
			}
			s.start(t)
			if got := s.status(t, session, "list_notes"); got != tc.restart {
				t.Errorf("after a restart: %d, want %d", got, tc.restart)
			}
		})
	}
}

// held is a notes server whose slow tool waits between its first and second step.
func held() (options stiletest.NotesOptions, under chan struct{}, release func()) {
	under, gate := make(chan struct{}, 8), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	return stiletest.NotesOptions{OnSlow: func(ctx context.Context, step int) error {
		if step > 1 {
			return nil
		}
		under <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, under, release
}

// arrives waits for what a channel tells.
func arrives(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal(what, "does not arrive")
	}
}

// reads waits for an answer to end.
func reads(t *testing.T, what string, c <-chan string) string {
	t.Helper()
	select {
	case text := <-c:
		return text
	case <-time.After(patience):
		t.Fatal(what, "does not end")
		return ""
	}
}

// answered reads an answer in the background.
func (s *serving) answered(t *testing.T, method, session, body string) chan string {
	t.Helper()
	done := make(chan string, 1)
	go func() {
		res, err := s.send(t, method, session, body)
		if err != nil {
			done <- err.Error()
			return
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			text = append(text, err.Error()...)
		}
		done <- string(text)
	}()
	return done
}

// SIGTERM ends the streams that wait for news at once, lets calls under way end,
// and exits with 0.
func TestServeStopsGently(t *testing.T) {
	options, under, release := held()
	s := newServing(t, "shutdown_timeout: 60s", options).start(t)
	t.Cleanup(release)
	session := s.initialize(t)
	stream := s.answered(t, http.MethodGet, session, "")
	arrives(t, "the stream", s.listen)
	slow := s.answered(t, http.MethodPost, session, call("slow"))
	arrives(t, "the call", under)
	s.signal(t, syscall.SIGTERM)
	if text := reads(t, "the stream", stream); strings.Contains(text, "error") {
		t.Errorf("the stream ended with %q", text)
	}
	s.stderr.wait(t, "stopping", 1)
	if _, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.urls[0], "http://"), "/mcp")); err == nil {
		t.Error("new connections are taken while it stops")
	}
	release()
	if text := reads(t, "the call", slow); !strings.Contains(text, "done in 3 steps") {
		t.Errorf("the call under way was answered %q", text)
	}
	if code := s.stopped(t); code != 0 {
		t.Errorf("exit code %d: %s", code, s.stderr)
	}
}

// When the time for that is over, calls are told to be repeated, also those that
// began under an older configuration, and the exit code is 0 all the same.
func TestServeStopsInTime(t *testing.T) {
	options, under, release := held()
	s := newServing(t, "shutdown_timeout: 100ms", options).start(t)
	t.Cleanup(release)
	session := s.initialize(t)
	older := s.answered(t, http.MethodPost, session, call("slow"))
	arrives(t, "the call", under)
	s.reload(t, reloaded)
	newer := s.answered(t, http.MethodPost, session, strings.Replace(call("slow"), `"id":7`, `"id":8`, 1))
	arrives(t, "the call", under)
	s.signal(t, syscall.SIGTERM)
	for id, answer := range map[string]chan string{`"id":7`: older, `"id":8`: newer} {
		text := reads(t, "the call", answer)
		if !strings.Contains(text, `"code":503`) || !strings.Contains(text, "repeat the call") || !strings.Contains(text, id) {
			t.Errorf("the call with %s was answered %q", id, text)
		}
	}
	if code := s.stopped(t); code != 0 {
		t.Errorf("exit code %d: %s", code, s.stderr)
	}
}

// A reload ends the streams that wait for news, so that they begin anew under the
// new policy, and not a call under way, whose record is in the old audit.
func TestServeReloadEndsStreams(t *testing.T) {
	options, under, release := held()
	s := newServing(t, "shutdown_timeout: 10ms", options).start(t)
	t.Cleanup(release)
	session := s.initialize(t)
	stream := s.answered(t, http.MethodGet, session, "")
	arrives(t, "the stream", s.listen)
	slow := s.answered(t, http.MethodPost, session, call("slow"))
	arrives(t, "the call", under)
	s.reload(t, reloaded)
	if text := reads(t, "the stream", stream); strings.Contains(text, "error") {
		t.Errorf("the stream ended with %q", text)
	}
	release()
	if text := reads(t, "the call", slow); !strings.Contains(text, "done in 3 steps") {
		t.Errorf("the call under way was answered %q", text)
	}
}

// An address that is taken is told by name, with exit code 1 and nothing on
// standard output.
func TestServeAddressInUse(t *testing.T) {
	s := newServing(t, "", stiletest.NotesOptions{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	s.write(t, "stile.yaml", strings.NewReplacer("%MORE%", "", "127.0.0.1:0", address).Replace(servedConfig))
	var stdout, stderr strings.Builder
	code := run(t.Context(), []string{"serve", "-c", s.file}, strings.NewReader(""), &stdout, &stderr)
	if code != exitFailed || stdout.Len() > 0 || !strings.Contains(stderr.String(), address) || !strings.Contains(stderr.String(), "address already in use") {
		t.Errorf("exit code %d, on standard output %q, on standard error %q", code, &stdout, &stderr)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "audit.jsonl")); err == nil {
		t.Error("an audit was begun")
	}
}

// run ends by itself when its context does, and leaves nothing open: the address
// can be taken again.
func TestServeInProcess(t *testing.T) {
	s := newServing(t, "", stiletest.NotesOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, stderr := newTold(), newTold()
	ended := make(chan int)
	go func() { ended <- run(ctx, []string{"serve", "-c", s.file}, strings.NewReader(""), stdout, stderr) }()
	stdout.wait(t, "\n", 1)
	url := strings.TrimSpace(strings.TrimPrefix(stdout.String(), "stile serves "))
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	listener, err := net.Listen("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/mcp"))
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
}

// A folder that cannot be watched is told, and signals work all the same.
func TestWatchWithoutFolder(t *testing.T) {
	s := newServing(t, "", stiletest.NotesOptions{})
	stderr := newTold()
	server := newServer(s.file, &process{ctx: t.Context(), stdout: io.Discard, stderr: stderr, around: system()})
	if err := server.open(); err != nil {
		t.Fatal(err)
	}
	defer server.listener.Close()
	defer func() { server.leave(server.current.Load()) }()
	server.current.Load().files = []string{filepath.Join(s.dir, "absent", "stile.yaml")}
	ctx, cancel := context.WithCancel(t.Context())
	hup, ended := make(chan os.Signal, 1), make(chan struct{})
	go func() {
		defer close(ended)
		server.watch(ctx, hup)
	}()
	stderr.wait(t, "configuration changes are not noticed", 1)
	hup <- syscall.SIGHUP
	stderr.wait(t, reloaded, 1)
	cancel()
	<-ended
}

func TestWatcherConcerns(t *testing.T) {
	w := &watcher{names: map[string]bool{"stile.yaml": true}}
	for name, want := range map[string]bool{
		"/etc/stile/stile.yaml": true, "/etc/stile/..data": true, "/etc/stile/stile.yaml~": false, "/etc/stile/.stile.yaml.swp": false,
		"/etc/stile/session.key": false, "/etc/stile/..data_tmp": false,
	} {
		if got := w.concerns(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}

// TestWhatWasWrittenIsForgotten holds that a gateway that serves does not keep the
// tree of its files, in which 10,000 rules take 25 MiB.
func TestWhatWasWrittenIsForgotten(t *testing.T) {
	for name, config := range map[string]string{
		"policy file": strings.Replace(servedConfig, "%MORE%", "", 1),
		"one file":    strings.Replace(strings.Replace(servedConfig, "%MORE%", "", 1), "policy_file: policy.yaml", "policy: {baseline: notes:read}", 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServing(t, "", stiletest.NotesOptions{})
			s.write(t, "stile.yaml", config)
			f, err := load(s.file, system())
			if err != nil {
				t.Fatal(err)
			}
			trees := []weak.Pointer[ast.MappingNode]{weak.Make(f.source.root.(*ast.MappingNode)), weak.Make(f.policies["notes"].src.root.(*ast.MappingNode))}
			runtime.GC()
			if trees[0].Value() == nil {
				t.Fatal("this test sees no tree")
			}
			f.forget()
			runtime.GC()
			for i, tree := range trees {
				if tree.Value() != nil {
					t.Errorf("tree %d is still there", i)
				}
			}
			runtime.KeepAlive(f)
		})
	}
}
