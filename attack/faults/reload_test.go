//go:build linux

package faults_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// policyOf allows one tool for a scope of its own and says its name where it
// denies the other.
func policyOf(name, allows, denies string) string {
	return fmt.Sprintf("rules:\n  - tools: [%s]\n    scopes: in:%s\n  - tools: [%s]\n    deny: policy %s says no\n  - methods: [\"*\"]\n    scopes: in:%s\n",
		allows, name, denies, name, name)
}

// record is what the audit says of one request.
type record struct {
	RequestID string   `json:"request_id"`
	Outcome   string   `json:"outcome"`
	Name      string   `json:"name"`
	Needed    []string `json:"needed"`
	Reason    string   `json:"reason"`
}

// records reads the audit; every line must be whole.
func (p *program) records(t *testing.T) map[string]record {
	t.Helper()
	text, err := os.ReadFile(p.audit)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]record{}
	for line := range strings.Lines(string(text)) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("audit line %q: %v", line, err)
		}
		if _, again := all[r.RequestID]; again {
			t.Fatalf("two records of request %s", r.RequestID)
		}
		all[r.RequestID] = r
	}
	return all
}

// hangup makes the program read its configuration again, and waits for what it
// says about that.
func (p *program) hangup(t *testing.T, says string) {
	t.Helper()
	before := strings.Count(p.log.String(), says)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, says, func() bool { return strings.Count(p.log.String(), says) > before })
}

const (
	reloaded    = "configuration reloaded"
	notReloaded = "configuration not reloaded"
)

// hammers is how many clients make the load.
const hammers = 6

// seen is one call of the load and its answer.
type seen struct {
	tool string
	answer
}

// hammer calls both tools from many clients until stop is closed. lost are the
// errors of calls without an answer.
func (p *program) hammer(t *testing.T, stop <-chan struct{}) (answers func() ([]seen, []error)) {
	token := p.issuer.token(stiletest.Claims{Scope: "in:A in:B"})
	var (
		mu   sync.Mutex
		all  []seen
		lost []error
		wg   sync.WaitGroup
	)
	for n := range hammers {
		wg.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				tool := []string{"x", "y"}[i%2]
				a, err := p.call(t, token, tool)
				mu.Lock()
				if err != nil {
					lost = append(lost, err)
				} else {
					all = append(all, seen{tool, a})
				}
				mu.Unlock()
			}
		})
	}
	return func() ([]seen, []error) { wg.Wait(); return all, lost }
}

// judgedBy says which policy gave this answer, by what the client can see.
func (s seen) judgedBy() string {
	text := string(s.body)
	switch {
	case s.isResult() && strings.Contains(text, "three notes") && s.tool == "x", strings.Contains(text, "policy A says no"):
		return "A"
	case s.isResult() && strings.Contains(text, "three notes") && s.tool == "y", strings.Contains(text, "policy B says no"):
		return "B"
	}
	return "neither"
}

func (r record) judgedBy() string {
	switch {
	case slices.Equal(r.Needed, []string{"in:A"}), strings.Contains(r.Reason, "policy A"):
		return "A"
	case slices.Equal(r.Needed, []string{"in:B"}), strings.Contains(r.Reason, "policy B"):
		return "B"
	}
	return "neither"
}

// TestReloadUnderLoad: two policies that say the opposite alternate under load,
// with files in between that cannot be read. Every call is answered, wholly by
// one of the two, and the audit names the same one.
func TestReloadUnderLoad(t *testing.T) {
	nothingLeft(t)
	upstream := &counted{}
	address := newUpstream(t, upstream)
	policies := []string{policyOf("A", "x", "y"), policyOf("B", "y", "x")}
	s := serving{upstream: upstream, policy: policies[0], options: "shutdown_timeout: 1ms"}
	p := start(t, s)
	first := openDescriptors(t, p.pid())
	stop := make(chan struct{})
	answers := p.hammer(t, stop)
	for round := range 60 {
		name := "AB"[(round+1)%2 : (round+1)%2+1]
		s.policy = policies[(round+1)%2]
		p.configure(t, s, address)
		p.hangup(t, reloaded)
		a, err := p.call(t, p.issuer.token(stiletest.Claims{Scope: "in:A in:B"}), "x")
		if got := (seen{"x", a}).judgedBy(); err != nil || got != name {
			t.Fatalf("after %q was told policy %s answers, not %s: %s (%v)", reloaded, got, name, a.body, err)
		}
		if round%10 == 5 {
			p.replace(t, "listen: [half a fi")
			p.hangup(t, notReloaded)
		}
	}
	close(stop)
	all, lost := answers()
	if len(lost) > 0 {
		t.Errorf("%d calls got no answer: %v", len(lost), lost[0])
	}
	p.client.CloseIdleConnections()
	records, by := p.records(t), map[string]int{}
	for _, a := range all {
		got, want := a.judgedBy(), records[a.header.Get("X-Request-Id")].judgedBy()
		if by[got]++; got != want || got == "neither" {
			t.Fatalf("the client sees policy %s, the audit %s: %s %d %s", got, want, a.tool, a.status, a.body)
		}
	}
	t.Logf("%d calls over 66 reloads: %v", len(all), by)
	if by["A"] == 0 || by["B"] == 0 {
		t.Errorf("one policy never answered: %v", by)
	}
	// The last configuration keeps the connections of the load for the next calls.
	eventually(t, "the descriptors of before the reloads", func() bool { return openDescriptors(t, p.pid()) <= first+hammers+4 })
}

// newUpstream serves a handler until t ends, for configurations that are
// written again.
func newUpstream(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// TestReloadInTheMiddleOfARequest: a call that began before a reload is answered
// by the configuration it began with, also when its body comes after the time
// that calls have when the gateway stops.
func TestReloadInTheMiddleOfARequest(t *testing.T) {
	nothingLeft(t)
	upstream := &counted{}
	address := newUpstream(t, upstream)
	s := serving{upstream: upstream, policy: policyOf("A", "list_notes", "y"), options: "shutdown_timeout: 1ms"}
	p := start(t, s)
	conn := p.dial(t)
	body := callBody("list_notes")
	fmt.Fprint(conn, p.head(p.issuer.token(stiletest.Claims{Scope: "in:A in:B"}), fmt.Sprintf("Content-Length: %d", len(body)), "Expect: 100-continue"))
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q %v", line, err)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.policy = policyOf("B", "y", "list_notes")
	p.configure(t, s, address)
	for range 3 {
		p.hangup(t, reloaded)
	}
	fmt.Fprint(conn, body)
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK || string(text) != resultText || err != nil {
		t.Fatalf("got %d %s (%v)", res.StatusCode, text, err)
	}
	if r := p.records(t)[res.Header.Get("X-Request-Id")]; r.Outcome != "allow" || r.judgedBy() != "A" {
		t.Errorf("the audit says %+v", r)
	}
}

// TestStreamsEndCleanly: a stream that waits for news ends in an orderly way at
// a reload and at the end, so that its client opens another.
func TestStreamsEndCleanly(t *testing.T) {
	nothingLeft(t)
	quiet := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	p := start(t, serving{upstream: quiet, protocol: "2025"})
	token := p.issuer.token(stiletest.Claims{})
	for _, end := range []func(){func() { p.hangup(t, reloaded) }, func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }} {
		var streams []io.ReadCloser
		for range 20 {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address+"/mcp", nil)
			r.Header = http.Header{"Authorization": {"Bearer " + token}, "Accept": {"text/event-stream"}}
			res, err := p.client.Do(r)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatal(res, err)
			}
			streams = append(streams, res.Body)
		}
		end()
		for _, body := range streams {
			if text, err := io.ReadAll(body); err != nil || strings.Contains(string(text), "data") {
				t.Errorf("a stream ended with %q, %v", text, err)
			}
			_ = body.Close()
		}
	}
}

// holding holds the calls that come once hold is set, until release is closed.
type holding struct {
	counted
	hold    atomic.Bool
	held    atomic.Int64
	release chan struct{}
}

func (h *holding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.hold.Load() {
		h.held.Add(1)
		select {
		case <-h.release:
		case <-r.Context().Done():
		}
	}
	h.counted.ServeHTTP(w, r)
}

// TestStopUnderLoad: every call that was let through when the end came is
// answered whole, and the program ends well.
func TestStopUnderLoad(t *testing.T) {
	nothingLeft(t)
	upstream := &holding{release: make(chan struct{})}
	p := start(t, serving{upstream: upstream, policy: policyOf("A", "x", "y")})
	stop := make(chan struct{})
	answers := p.hammer(t, stop)
	eventually(t, "load", func() bool { return upstream.calls.Load() > 30 })
	upstream.hold.Store(true)
	eventually(t, "calls under way", func() bool { return upstream.held.Load() == hammers })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program stops", func() bool { return strings.Contains(p.log.String(), "msg=stopping") })
	close(upstream.release)
	<-p.exited
	close(stop)
	all, lost := answers()
	whole := map[string]bool{}
	for _, a := range all {
		if a.judgedBy() != "A" {
			t.Errorf("%s was answered with %d %q (%v)", a.tool, a.status, a.body, a.cut)
		}
		whole[a.header.Get("X-Request-Id")] = true
	}
	for id, r := range p.records(t) {
		if !whole[id] {
			t.Errorf("request %s was judged (%s) and never answered", id, r.Outcome)
		}
	}
	t.Logf("%d calls answered whole, %d tried after the end", len(all), len(lost))
}
