package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The sections about commands compare Stile in front of a child that speaks stdio
// with the bare pipe to that child, with net/http in front of the pipe and nothing
// else ("pipehttp"), and with npm mcp-proxy where interop/node_modules has it.

const (
	sessionBody = `{"jsonrpc":"2.0","id":"`
	sessionMid  = `","method":"tools/call","params":{"name":"small","arguments":{"text":"`
)

// sessionCall is the small call as clients of the 2025 revisions make it; with
// rivalCall the answer may be an event, with the members of the message in any
// order.
var sessionCall, rivalCall *call

func init() {
	one := *callsByTool["small"]
	one.body = slab(sessionBody, zeros, sessionMid, string(filler(one.text)), bodyTail)
	two := one
	two.judge = func(got, id []byte) error {
		if bytes.Contains(got, append(append([]byte(`"id":"`), id...), '"')) && bytes.Contains(got, fillers[two.back]) {
			return nil
		}
		return fmt.Errorf("not the answer to %s: %.300q", id, got)
	}
	sessionCall, rivalCall = &one, &two
}

// command starts a `stile serve` in front of the child. extra are further lines of
// the server.
func (b *bench) command(extra ...string) (*process, error) {
	config, addr, err := b.commandConfig(extra...)
	if err != nil {
		return nil, err
	}
	p, err := b.exec(config, addr)
	if err != nil {
		return nil, err
	}
	return p, p.refuses(time.Now().Add(10 * time.Second))
}

// commandConfig is the file for it: authentication, policy and audit are on.
func (b *bench) commandConfig(extra ...string) (file, addr string, err error) {
	if addr, err = freeAddress(); err != nil {
		return "", "", err
	}
	policy, err := b.policy(b.options.rules)
	if err != nil {
		return "", "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	audit := b.options.audit
	if audit == "" {
		audit = filepath.Join(b.dir, "audit", "audit.log")
	}
	text := fmt.Sprintf("streams_per_caller: off\nlisten: %s\npublic_url: http://%s\naudit: %s\nissuers:\n  - issuer: %s\n    audiences: [%q]\n"+
		"servers:\n  bench:\n    path: /mcp\n    command: [%q]\n    env: { %s: mcp }\n    policy_file: %s\n",
		addr, addr, audit, b.issuer.URL(), b.issuer.URL(), self, roleVariable, policy)
	for _, line := range extra {
		text += "    " + line + "\n"
	}
	file = filepath.Join(b.dir, "stile-"+strings.ReplaceAll(addr, ":", "-")+".yaml")
	return file, addr, os.WriteFile(file, []byte(text), 0o600)
}

// session opens a session of the 2025 revisions and returns its id.
func (b *bench) session(addr, token string) (string, error) {
	status, header, err := b.post(addr, token, "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",`+
		`"capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`)
	if err != nil {
		return "", err
	}
	id := header.Get("Mcp-Session-Id")
	if status != http.StatusOK || id == "" {
		return "", fmt.Errorf("initialize: status %d", status)
	}
	_, _, err = b.post(addr, token, id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return id, err
}

// post sends a message of the 2025 revisions, and reads the answer.
func (b *bench) post(addr, token, session, body string) (status int, header http.Header, err error) {
	r, err := http.NewRequestWithContext(b.ctx, http.MethodPost, "http://"+addr+"/mcp", strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
		r.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header, errors.Join(err, res.Body.Close())
}

// sessionHead is everything before the body of a call of a session.
func sessionHead(addr, token, session string, length int) []byte {
	auth := ""
	if token != "" {
		auth = "Authorization: Bearer " + token + "\r\n"
	}
	return fmt.Appendf(nil, "POST /mcp HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: %s\r\n"+
		"%sContent-Length: %d\r\n\r\n", addr, session, auth, length)
}

// sessionSide has a session of the 2025 revisions under load.
func (b *bench) sessionSide(name string, p *process, c *call, connections int, token string) (*side, error) {
	id, err := b.session(p.addr, token)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return callSide(name, p, c, connections, sessionHead(p.addr, token, id, len(c.body))), nil
}

func callSide(name string, p *process, c *call, connections int, head []byte) *side {
	s := &side{name: name, process: p, call: c, heads: [][]byte{head}, next: make([]int, connections)}
	for range connections {
		s.clients = append(s.clients, newClient(p.addr, c))
	}
	return s
}

// pipeSide writes to a child and reads from it, without HTTP.
func pipeSide(connections int) (*side, error) {
	p, err := startPipe()
	if err != nil {
		return nil, err
	}
	lines := make([][]byte, connections)
	for i := range lines {
		lines[i] = append(bytes.Clone(sessionCall.body), '\n')
	}
	s := &side{name: "bare pipe", bare: true, call: sessionCall, clients: make([]*client, connections)}
	s.work = func(i int, n uint64) error {
		id := putID(lines[i], n)
		answer, err := p.ask(lines[i])
		if err != nil {
			return err
		}
		if !bytes.Equal(answer, sessionCall.answer(nil, id)) {
			return fmt.Errorf("the child answered %.200q", answer)
		}
		return nil
	}
	return s, nil
}

// rival starts npm mcp-proxy in front of the same child; nil where it is not
// installed.
func (b *bench) rival() (*process, error) {
	out, err := exec.CommandContext(b.ctx, "go", "list", "-f", "{{.Dir}}", "github.com/stile-mcp/stile/interop").Output()
	if err != nil {
		return nil, err
	}
	script := filepath.Join(strings.TrimSpace(string(out)), "node_modules", "mcp-proxy", "dist", "bin", "mcp-proxy.mjs")
	node, err := exec.LookPath("node")
	if _, serr := os.Stat(script); serr != nil || err != nil {
		return nil, nil //nolint:nilerr // that is what nil says
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(addr, ":")
	log, err := os.Create(filepath.Join(b.dir, "mcp-proxy.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, stdout, err := spawn(addr, log, []string{roleVariable + "=mcp"}, node, script, "--host", "127.0.0.1", "--port", port, "--server", "stream", "--", self)
	if err != nil {
		return nil, err
	}
	go p.reap(stdout)
	b.children = append(b.children, p)
	return p, b.awaitSession(p, time.Now().Add(20*time.Second))
}

// awaitSession waits until sessions can be opened.
func (b *bench) awaitSession(p *process, deadline time.Time) error {
	for {
		_, err := b.session(p.addr, "")
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// contestants are the sides that are compared.
func (b *bench) contestants(connections int) (all []*side, stile *process, err error) {
	base, err := b.role("pipehttp", "")
	if err != nil {
		return nil, nil, err
	}
	pipe, err := pipeSide(connections)
	if err != nil {
		return nil, nil, err
	}
	if stile, err = b.command(); err != nil {
		return nil, nil, err
	}
	token := b.token(0, false)
	old, err := b.sessionSide("2025", stile, sessionCall, connections, token)
	if err != nil {
		return nil, nil, err
	}
	bare := callSide("pipehttp", base, sessionCall, connections, sessionHead(base.addr, "", "none", len(sessionCall.body)))
	bare.bare = true
	all = []*side{bare, pipe, old, newSide("2026", stile, "small", connections, token)}
	rival, err := b.rival()
	if err != nil || rival == nil {
		return all, stile, err
	}
	other, err := b.sessionSide("mcp-proxy", rival, rivalCall, connections, "")
	if err != nil {
		return nil, nil, err
	}
	other.bare = true
	return append(all, other), stile, nil
}

// stdioCalls compares 2 KiB calls to a command at 16 connections.
func stdioCalls(b *bench) error {
	sides, stile, err := b.contestants(concurrency)
	if err != nil {
		return err
	}
	stop := b.profiled(stile, "small")
	got, err := b.compare(sides...)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	base, pipe := sides[0], sides[1]
	for i, era := range []string{"a session of 2025-11-25", "2026-07-28"} {
		b.table.add(row{what: "command: calls/s, " + era + ", × pipehttp", value: got.ratio(sides[2+i], base, sample.rate), must: 0.6, aim: 0.8})
	}
	b.table.add(row{what: "command: calls/s of the bare pipe, × pipehttp", value: got.ratio(pipe, base, sample.rate), plain: true})
	b.rivalRow(sides, "command: calls/s of npm mcp-proxy, × pipehttp", func(s *side) float64 { return got.ratio(s, base, sample.rate) })
	b.table.add(row{what: "command: own CPU per call, a session of 2025-11-25, × pipehttp", value: got.ratio(sides[2], base, sample.each), plain: true})
	b.table.add(row{what: "command: own CPU per call, 2026-07-28, × pipehttp", value: got.ratio(sides[3], base, sample.each), plain: true})
	processes, err := childrenOf(stile)
	if err != nil {
		return err
	}
	// One for the session, one for the caller's requests of 2026-07-28.
	b.table.add(row{what: "command: processes after all these calls", value: float64(processes), must: 2, aim: 2, most: true})
	return nil
}

func (b *bench) rivalRow(sides []*side, what string, value func(*side) float64) {
	if len(sides) < 5 {
		b.table.add(row{what: what + " (not installed: npm ci in interop)", plain: true})
		return
	}
	b.table.add(row{what: what, value: value(sides[4]), plain: true})
}

// stdioLatency compares one connection.
func stdioLatency(b *bench) error {
	sides, stile, err := b.contestants(1)
	if err != nil {
		return err
	}
	stop := b.profiled(stile, "small")
	got, err := b.compare(sides...)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	base := sides[0]
	for i, era := range []string{"a session of 2025-11-25", "2026-07-28"} {
		b.table.add(row{what: "command: p50, one connection, " + era + ", × pipehttp", value: got.ratio(sides[2+i], base, p50), must: 1.35, aim: 1.15, most: true})
	}
	b.rivalRow(sides, "command: p50 of npm mcp-proxy, one connection, × pipehttp", func(s *side) float64 { return got.ratio(s, base, p50) })
	return nil
}

// childrenOf counts the processes of the command under a stile, without the shell
// that watches over them.
func childrenOf(p *process) (n int, err error) {
	own := strconv.Itoa(p.cmd.Process.Pid)
	tasks, err := filepath.Glob("/proc/" + own + "/task/*/children")
	if err != nil || len(tasks) == 0 {
		return 0, errors.Join(err, errors.New("no /proc/PID/task/TID/children"))
	}
	for _, task := range tasks {
		list, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(list)) {
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if err == nil && strings.TrimSpace(string(name)) != "sh" {
				n++
			}
		}
	}
	return n, nil
}
