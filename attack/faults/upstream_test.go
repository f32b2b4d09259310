//go:build linux

package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/stiletest"
)

// session is a client of 2025-11-25 with a session of its own.
type session struct {
	g     *gateway
	token string
	id    string
}

func (g *gateway) open(t *testing.T) *session {
	t.Helper()
	s := &session{g: g, token: g.issuer.token(stiletest.Claims{})}
	a := s.send(t, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	a.wantResult(t)
	if s.id = a.header.Get("Mcp-Session-Id"); s.id == "" {
		t.Fatal("no session id")
	}
	if a := s.send(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); a.status != http.StatusAccepted {
		t.Fatalf("initialized: %d %s", a.status, a.body)
	}
	return s
}

// send sends one message in the session.
func (s *session) send(t *testing.T, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.g.base+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Authorization": {"Bearer " + s.token}, "Content-Type": {"application/json"},
		"Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {stiletest.Version2025}}
	if s.id != "" {
		r.Header.Set("Mcp-Session-Id", s.id)
	}
	a, err := do(s.g.client, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// list calls a tool of the Notes server in the session.
func (s *session) list(t *testing.T) answer {
	t.Helper()
	return s.send(t, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"list_notes","arguments":{}}}`)
}

// TestUpstreamFaults: a call meets a fault, gets an answer that says so, and the
// session goes on when the fault is over.
func TestUpstreamFaults(t *testing.T) {
	nothingLeft(t)
	tests := []struct {
		name   string
		put    func(testing.TB, *link)
		status int
	}{
		{"latency", puts(latency), http.StatusOK},
		{"one byte at a time", puts(bytewise), http.StatusOK},
		{"slow drip of the header", puts(drip), http.StatusGatewayTimeout},
		{"reset", puts(reset), http.StatusBadGateway},
		{"half open", puts(halfOpen), http.StatusGatewayTimeout},
		{"half open the other way", puts(fault{kind: "timeout", stream: "upstream", attributes: map[string]any{"timeout": 0}}), http.StatusGatewayTimeout},
		{"cut in the header", puts(cutAfter(60)), http.StatusBadGateway},
		{"cut in the body", puts(cutAfter(190)), http.StatusBadGateway},
		{"down", func(_ testing.TB, l *link) { l.down() }, http.StatusBadGateway},
	}
	t.Run("faults", func(t *testing.T) {
		for _, stream := range []bool{false, true} {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s stream=%v", tt.name, stream), func(t *testing.T) {
					t.Parallel()
					notes := stiletest.NewNotes(stiletest.NotesOptions{JSON: !stream})
					t.Cleanup(func() { _ = notes.Close() })
					g := newGateway(t, setup{upstream: notes})
					s := g.open(t)
					want := s.list(t)
					tt.put(t, g.upstream)
					got := s.list(t)
					if tt.status == http.StatusOK {
						if string(got.body) != string(want.body) || got.cut != nil {
							t.Errorf("got %q (%v), want %q", got.body, got.cut, want.body)
						}
					} else {
						got.wantRefusal(t, tt.status)
					}
					g.upstream.heal(t)
					if !g.upstream.proxy.Enabled {
						g.upstream.up(t)
					}
					// A connection that had the fault may still be in the pool; a POST
					// that may have arrived is not sent twice.
					eventually(t, "the same session goes on", func() bool {
						a := s.list(t)
						return a.status == http.StatusOK && string(a.body) == string(want.body)
					})
				})
			}
		}
	})
}

// rawEnd is an upstream that says exactly these bytes and ends the connection.
func rawEnd(parts []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = say(w, r, parts).Close()
	}
}

// rawReset resets it instead. A reset overtakes what the far end has not read
// yet, so it gives it a moment to do so.
func rawReset(parts []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn := say(w, r, parts)
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

func say(w http.ResponseWriter, r *http.Request, parts []string) *net.TCPConn {
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	for _, part := range parts {
		_, _ = io.WriteString(conn, part)
	}
	return conn.(*net.TCPConn)
}

// chunk frames bytes as one chunk (RFC 9112 §7.1).
func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

const (
	jsonHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	sseHead  = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	chunked  = "Transfer-Encoding: chunked\r\n\r\n"
	progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
)

// TestCutAnswers: an answer of which a part is missing never looks complete.
func TestCutAnswers(t *testing.T) {
	nothingLeft(t)
	long := `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 200<<10) + `"}]}}`
	sized := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", n) }
	event := func(data string) string { return "data: " + data + "\n\n" }
	tests := []struct {
		name  string
		parts []string
		want  string // "502", "cut", "error event" or "not JSON"
	}{
		{"after the header, sized", []string{jsonHead, sized(len(resultText))}, "502"},
		{"after the header, chunked", []string{jsonHead, chunked}, "502"},
		{"a byte short", []string{jsonHead, sized(len(resultText)), resultText[:len(resultText)-1]}, "502"},
		{"whole but for the last chunk", []string{jsonHead, chunked, chunk(resultText)}, "502"},
		{"in a chunk", []string{jsonHead, chunked, chunk(resultText)[:30]}, "502"},
		{"in the size of a chunk", []string{jsonHead, chunked, chunk(resultText), "5"}, "502"},
		{"long, sized", []string{jsonHead, sized(len(long)), long[:150<<10]}, "cut"},
		{"long, chunked", []string{jsonHead, chunked, chunk(long[:150<<10])}, "cut"},
		{"long, whole but for the last chunk", []string{jsonHead, chunked, chunk(long)}, "cut"},
		{"framed by the end of the connection", []string{jsonHead, "Connection: close\r\n\r\n", resultText[:40]}, "not JSON"},
		{"stream after the header", []string{sseHead, chunked}, "502"},
		{"stream in the first event", []string{sseHead, chunked, chunk(event(resultText)[:30])}, "502"},
		{"stream after an event without data", []string{sseHead, chunked, chunk("id: 1\ndata:\n\n")}, "502"},
		{"stream after a first event", []string{sseHead, chunked, chunk(event(progress))}, "error event"},
		{"stream in the second event", []string{sseHead, chunked, chunk(event(progress) + event(resultText)[:30])}, "error event"},
		{"stream before the blank line", []string{sseHead, chunked, chunk(event(progress) + "data: " + resultText + "\n")}, "error event"},
		{"stream in a chunk", []string{sseHead, chunked, chunk(event(progress)), "ffff\r\n" + event(resultText)[:40]}, "error event"},
	}
	t.Run("all", func(t *testing.T) {
		for n := range 2 * len(tests) {
			rude, tt := n%2 == 1, tests[n/2]
			if rude && tt.want == "not JSON" {
				tt.want = "502"
			}
			t.Run(fmt.Sprintf("%s reset=%v", tt.name, rude), func(t *testing.T) {
				t.Parallel()
				handler := rawEnd(tt.parts)
				if rude {
					handler = rawReset(tt.parts)
				}
				g := newGateway(t, setup{upstream: handler, direct: true})
				a := g.call(t, g.issuer.token(stiletest.Claims{}))
				checkCut(t, a, tt.want)
			})
		}
	})
}

func checkCut(t *testing.T, a answer, want string) {
	t.Helper()
	switch want {
	case "502":
		a.wantRefusal(t, http.StatusBadGateway)
	case "cut":
		if a.status == http.StatusOK && a.cut == nil {
			t.Errorf("%d bytes that are not all look complete", len(a.body))
		} else if a.status != http.StatusOK {
			a.wantRefusal(t, http.StatusBadGateway)
		}
	case "not JSON":
		if a.status == http.StatusOK && a.cut == nil && json.Valid(a.body) {
			t.Errorf("%q looks complete", a.body)
		}
	case "error event":
		data := events(a.body)
		if a.status != http.StatusOK || a.cut != nil || len(data) != 2 || data[0] != progress {
			t.Fatalf("got %d %q (%v), want the first event and an error", a.status, a.body, a.cut)
		}
		var e refusal
		if err := json.Unmarshal([]byte(data[1]), &e); err != nil || string(e.ID) != "7" || e.Error.Code != http.StatusBadGateway {
			t.Errorf("the last event is %s", data[1])
		}
	}
}

// TestQuietUpstreamIsLetGo: an upstream that stops in the middle holds nothing
// once the client has left.
func TestQuietUpstreamIsLetGo(t *testing.T) {
	nothingLeft(t)
	for _, begin := range []string{"", `{"jsonrpc":"2.0",`, strings.Repeat(" ", 100<<10), "data: " + progress + "\n\n", "data: {"} {
		t.Run(fmt.Sprintf("%.20q", begin), func(t *testing.T) {
			began, left := make(chan struct{}), make(chan struct{})
			g := newGateway(t, setup{
				change: func(c *stile.Config) { c.KeepAlive = 20 * time.Millisecond },
				upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					if strings.HasPrefix(begin, "data") {
						w.Header().Set("Content-Type", "text/event-stream")
					} else {
						w.Header().Set("Content-Type", "application/json")
					}
					_, _ = io.WriteString(w, begin)
					_ = http.NewResponseController(w).Flush()
					close(began)
					<-r.Context().Done()
					close(left)
				})})
			ctx, leave := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = do(g.client, callRequest(t, g.base, g.issuer.token(stiletest.Claims{}), "list_notes").WithContext(ctx))
			}()
			<-began
			leave()
			<-done
			select {
			case <-left:
			case <-time.After(limit):
				t.Error("the upstream's request goes on without a client")
			}
		})
	}
}

// TestQuietStreamIsKeptOpen: between Stile and its client a silent upstream is no
// silence, and no byte is made up beside comments.
func TestQuietStreamIsKeptOpen(t *testing.T) {
	nothingLeft(t)
	more := make(chan struct{})
	g := newGateway(t, setup{
		change: func(c *stile.Config) { c.KeepAlive = 5 * time.Millisecond },
		upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: "+progress+"\n\n")
			_ = http.NewResponseController(w).Flush()
			<-more
			_, _ = io.WriteString(w, "data: "+resultText+"\n\n")
		})})
	res, err := g.client.Do(callRequest(t, g.base, g.issuer.token(stiletest.Claims{}), "list_notes"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	comments, data := 0, []string(nil)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == ":":
			if comments++; comments == 3 {
				close(more)
			}
		case line != "":
			data = append(data, line)
		}
	}
	if lines.Err() != nil || comments < 3 || len(data) != 2 || data[1] != "data: "+resultText {
		t.Errorf("%d comments and %q (%v)", comments, data, lines.Err())
	}
}
