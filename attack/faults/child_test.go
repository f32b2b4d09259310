//go:build linux

package faults_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// The server of these tests is a shell script: it greets, says the numbers of its
// own process and of one that it started, and answers what has the id 1.
const scriptServer = `
%s
printf 'starting \303'; printf '\251 up\n'
%s &
other=$!
while read -r line; do
	case $line in
	*'"initialize"'*) echo '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"script","version":"1"}}}' ;;
	*'"crash"'*) exit 3 ;;
	*'"id"'*) echo 'noise' >&2; printf '{"jsonrpc":"2.0","id":1,"result":{"pids":"%%s %%s ' $$ $other; printf '\303'; printf '\251"}}\n' ;;
	esac
done
%s
`

const (
	stubborn = `trap "" HUP INT TERM`
	forever  = `while :; do sleep 1; done`
)

// commandProgram is a `stile serve` in front of a script.
type commandProgram struct {
	*program
	token string
}

// serveScript writes the configuration and starts Stile, by another program where
// that is given.
func serveScript(t *testing.T, script, options string, stderr io.Writer, by ...string) *commandProgram {
	t.Helper()
	dir := t.TempDir()
	p := &program{address: freeAddress(t), file: filepath.Join(dir, "stile.yaml"), audit: filepath.Join(dir, "audit.jsonl"),
		log: &lockedBuffer{}, issuer: newIssuer(t), exited: make(chan struct{}),
		client: &http.Client{Timeout: 2 * limit, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	p.issuer.resource = "http://" + p.address + "/mcp"
	file := filepath.Join(dir, "server.sh")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p.replace(t, fmt.Sprintf("failed_logins_per_minute: off\nstreams_per_caller: off\nlisten: %s\naudit: %s\nissuers:\n  - issuer: %s\nservers:\n  script:\n    path: /mcp\n    command: [sh, %q]\n%s    policy:\n      default: notes:read\n",
		p.address, p.audit, p.issuer.URL(), file, indent(options, "    ")))
	args := append(by, stileBinary(t), "serve", "-c", p.file)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stderr = p.log
	if stderr != nil {
		p.cmd.Stderr = stderr
	}
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	ready, err := lines.ReadString('\n')
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	if err != nil || !strings.Contains(ready, p.issuer.resource) {
		t.Fatalf("stile said %q (%v): %s", ready, err, p.log)
	}
	return &commandProgram{program: p, token: p.issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{p.issuer.resource}})}
}

// post sends a message of a session and returns the answer.
func (p *commandProgram) post(t *testing.T, session, body string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.issuer.resource, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	res, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer), res.Header
}

const initializeScript = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

// open begins a session and returns its id.
func (p *commandProgram) open(t *testing.T) string {
	t.Helper()
	status, body, header := p.post(t, "", initializeScript)
	if status != http.StatusOK || header.Get("Mcp-Session-Id") == "" {
		t.Fatalf("initialize: %d %s", status, body)
	}
	return header.Get("Mcp-Session-Id")
}

// ask has the script say the numbers of its processes.
func (p *commandProgram) ask(t *testing.T, session string) (pids []int) {
	t.Helper()
	status, body, _ := p.post(t, session, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pids"}}`)
	_, list, _ := strings.Cut(body, `"pids":"`)
	list, _, whole := strings.Cut(list, "é")
	if status != http.StatusOK || !whole {
		t.Fatalf("%d %s", status, body)
	}
	for field := range strings.FieldsSeq(list) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// TestKilledGateway kills the gateway itself: the child ends, and what the child
// started, although both ignore every signal that can be ignored.
func TestKilledGateway(t *testing.T) {
	t.Parallel()
	p := serveScript(t, fmt.Sprintf(scriptServer, stubborn, "sh -c '"+stubborn+"; "+forever+"'", forever), "", nil)
	pids := p.ask(t, p.open(t))
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	p.client.CloseIdleConnections()
	for _, pid := range pids {
		eventually(t, "the end of a process", func() bool { return !alive(pid) })
	}
}

// TestStubbornChild stops a gateway whose child ignores the end of its input and
// SIGTERM: it ends with exit code 0 all the same, and nothing is left.
func TestStubbornChild(t *testing.T) {
	t.Parallel()
	p := serveScript(t, fmt.Sprintf(scriptServer, stubborn, "sh -c '"+stubborn+"; "+forever+"'", forever), "", nil)
	pids := p.ask(t, p.open(t))
	p.stop(t)
	for _, pid := range pids {
		eventually(t, "the end of a process", func() bool { return !alive(pid) })
	}
}

// TestLogDiskFull has the gateway's own standard error be a full disk while its
// child writes to the log: calls are answered as ever.
func TestLogDiskFull(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	p := serveScript(t, fmt.Sprintf(scriptServer, ":", "true", ""), "", full)
	session := p.open(t)
	for range 50 {
		p.ask(t, session)
	}
	p.stop(t)
}

// TestThousandSessions runs Stile as process number 1 of its own namespace, where
// the kernel gives us one, and wants neither an orphan nor a zombie after 1,000
// sessions, of which some crash, some are ended, and some leave a process behind
// that has left their group.
func TestThousandSessions(t *testing.T) {
	t.Parallel()
	by := []string{"unshare", "--pid", "--fork", "--kill-child=SIGTERM", "--mount-proc"}
	if exec.Command(by[0], append(by[1:], "true")...).Run() != nil {
		t.Log("no namespace for processes here: Stile is not process number 1")
		by = nil
	}
	script := fmt.Sprintf(scriptServer, ":", "setsid sleep 0.01", "")
	p := serveScript(t, script, "max_per_caller: 50\nmax_processes: 100\n", nil, by...)
	gateway := p.cmd.Process.Pid
	if by != nil {
		gateway = firstChild(t, gateway)
	}
	p.end(t, p.open(t))
	eventually(t, "the end of the first session", func() bool { return len(descendants(gateway)) == 1 })
	before := openDescriptors(t, gateway)
	var lanes sync.WaitGroup
	for lane := range 4 {
		caller := *p
		caller.token = p.issuer.Token(stiletest.Claims{Subject: fmt.Sprintf("caller %d", lane), Scope: "notes:read", Audience: []string{p.issuer.resource}})
		lanes.Go(func() {
			for i := range 250 {
				session := caller.open(t)
				if i%120 == 119 { // twice: who crashes more of them has to wait
					caller.post(t, session, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"crash"}}`)
				} else {
					caller.end(t, session)
				}
			}
		})
	}
	lanes.Wait()
	p.client.CloseIdleConnections()
	var left []string
	eventually(t, "an end of all processes but the one that watches", func() bool {
		left = descendants(gateway)
		return len(left) == 1
	})
	eventually(t, "the descriptors from before", func() bool { return openDescriptors(t, gateway) <= before })
	if by != nil {
		// unshare passes no signal on; number 1 gets it by itself.
		if err := syscall.Kill(gateway, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of stile", p.hasExited)
		return
	}
	p.stop(t)
}

// end ends a session.
func (p *commandProgram) end(t *testing.T, session string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.issuer.resource, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Mcp-Session-Id", session)
	res, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}

// firstChild is the process that unshare has started.
func firstChild(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(list)))
	if err != nil {
		t.Fatal(err)
	}
	return child
}

// descendants are the processes under one, zombies among them.
func descendants(pid int) (all []string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		list, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(list)) {
			all = append(all, child)
			if n, err := strconv.Atoi(child); err == nil {
				all = append(all, descendants(n)...)
			}
		}
	}
	return all
}
