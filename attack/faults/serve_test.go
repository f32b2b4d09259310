//go:build linux

package faults_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// program is a running `stile serve`.
type program struct {
	cmd     *exec.Cmd
	address string
	file    string // stile.yaml
	audit   string // the file of the audit
	log     *lockedBuffer
	issuer  *issuer
	client  *http.Client
	exited  chan struct{}
}

// serving is what a test wants of the configuration.
type serving struct {
	upstream  http.Handler
	policy    string // default policyText
	audit     string // default a file of its own
	options   string // further lines of the top level
	protocol  string // what the upstream speaks; default 2026
	asking    string // further lines of the issuer
	limitOpen int    // descriptors the process may have; 0 as many as this one
}

// start runs the real program until t ends.
func start(t *testing.T, s serving) *program {
	t.Helper()
	upstream := httptest.NewServer(s.upstream)
	t.Cleanup(func() {
		upstream.CloseClientConnections()
		upstream.Close()
	})
	dir := t.TempDir()
	p := &program{address: freeAddress(t), file: filepath.Join(dir, "stile.yaml"), audit: s.audit,
		log: &lockedBuffer{}, issuer: newIssuer(t), exited: make(chan struct{}),
		client: &http.Client{Timeout: 2 * limit, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	if p.audit == "" {
		p.audit = filepath.Join(dir, "audit.jsonl")
	}
	if s.policy == "" {
		s.policy = policyText
	}
	p.issuer.resource = "http://" + p.address + "/mcp"
	p.configure(t, s, upstream.URL)
	p.run(t, s.limitOpen)
	return p
}

// configure writes the file, at once as an editor does that replaces it.
func (p *program) configure(t *testing.T, s serving, upstream string) {
	t.Helper()
	text := fmt.Sprintf("failed_logins_per_minute: off\nstreams_per_caller: off\nlisten: %s\naudit: %s\n%s\nissuers:\n  - issuer: %s\n%sservers:\n  notes:\n    path: /mcp\n    url: %s/mcp\n    protocol: \"%s\"\n    policy:\n%s",
		p.address, p.audit, s.options, p.issuer.URL(), indent(s.asking, "    "), upstream, cmp.Or(s.protocol, "2026"), indent(s.policy, "      "))
	p.replace(t, text)
}

func (p *program) replace(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(p.file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.file+".new", p.file); err != nil {
		t.Fatal(err)
	}
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(by + line)
		}
	}
	return b.String()
}

func (p *program) run(t *testing.T, limitOpen int) {
	t.Helper()
	p.cmd = exec.Command(stileBinary(t), "serve", "-c", p.file)
	if limitOpen > 0 {
		p.cmd = exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" serve -c "$1"`, limitOpen), stileBinary(t), p.file)
	}
	p.cmd.Stderr = p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	ready, err := lines.ReadString('\n')
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() { p.stop(t) })
	if err != nil || !strings.Contains(ready, p.issuer.resource) {
		t.Fatalf("stile said %q (%v): %s", ready, err, p.log)
	}
}

// stop ends the program as an operator does, and wants exit code 0.
func (p *program) stop(t *testing.T) {
	t.Helper()
	p.client.CloseIdleConnections()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	if !waitFor(p.hasExited) {
		_ = p.cmd.Process.Kill()
		<-p.exited
		t.Fatalf("stile did not end after SIGTERM: %.3000s", p.log)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after SIGTERM: %.3000s", code, p.log)
	}
	if strings.Contains(p.log.String(), "eyJ") {
		t.Error("a token stands in the log")
	}
}

func (p *program) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// call is a tools/call; the error is that no answer came.
func (p *program) call(t testing.TB, token, tool string) (answer, error) {
	return do(p.client, callRequest(t, "http://"+p.address, token, tool))
}

// honest calls until done is closed, wants a result each time, and says how
// many there were.
func (p *program) honest(t *testing.T, done <-chan struct{}) (count func() int) {
	token := p.issuer.token(stiletest.Claims{})
	n, ended := 0, make(chan struct{})
	go func() {
		defer close(ended)
		for {
			a, err := p.call(t, token, "list_notes")
			if err != nil || !a.isResult() {
				t.Errorf("an honest client got %d %.300q (%v)", a.status, a.body, err)
				return
			}
			n++
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	return func() int { <-ended; return n }
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// dial opens a connection to the program, closed with t at the latest.
func (p *program) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// head is the head of a raw POST with these further lines.
func (p *program) head(token string, lines ...string) string {
	h := "POST /mcp HTTP/1.1\r\nHost: " + p.address + "\r\n"
	for name, value := range callHeader(token, "list_notes") {
		h += name + ": " + value + "\r\n"
	}
	return h + strings.Join(append(lines, "", ""), "\r\n")
}
