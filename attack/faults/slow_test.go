//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// dripInto writes one byte of text again and again until the far end has had enough,
// and closes done then.
func dripInto(conn net.Conn, text string) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if _, err := conn.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			<-tick.C
		}
	}()
	return ended
}

// TestWaiting runs what waits for ReadHeaderTimeout side by side.
func TestWaiting(t *testing.T) {
	nothingLeft(t)
	t.Run("all", func(t *testing.T) {
		t.Run("slow requests", slowRequests)
		t.Run("silent connections", silentConnections)
		t.Run("no descriptors", noDescriptors)
	})
}

// slowRequests: a client that takes its time is cut off, in its head by
// ReadHeaderTimeout and in its body by body_timeout, however it trickles.
func slowRequests(t *testing.T) {
	t.Parallel()
	upstream := &counted{}
	p := start(t, serving{upstream: upstream, options: "body_timeout: 1s"})
	token := p.issuer.token(stiletest.Claims{})
	tests := []struct {
		name   string
		head   string
		drip   string
		status int // 0: the connection is closed without an answer
	}{
		{"head never ends", "POST /mcp HTTP/1.1\r\nHost: " + p.address + "\r\nX-Slow: ", "a", 0},
		{"head never comes", "", "", 0},
		{"body never comes", p.head(token, "Content-Length: 100"), "", http.StatusRequestTimeout},
		{"body trickles", p.head(token, "Content-Length: 100000"), " ", http.StatusRequestTimeout},
		{"chunked body never ends", p.head(token, "Transfer-Encoding: chunked"), "1\r\n \r\n", http.StatusRequestTimeout},
		{"body never comes, no token", "POST /mcp HTTP/1.1\r\nHost: " + p.address + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", "", http.StatusUnauthorized},
		{"body trickles, no token", "POST /mcp HTTP/1.1\r\nHost: " + p.address + "\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n", " ", http.StatusUnauthorized},
	}
	t.Run("clients", func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				conn := p.dial(t)
				if _, err := io.WriteString(conn, tt.head); err != nil {
					t.Fatal(err)
				}
				if tt.drip != "" {
					ended := dripInto(conn, tt.drip)
					defer func() { _ = conn.Close(); <-ended }()
				}
				_ = conn.SetReadDeadline(time.Now().Add(limit))
				got, err := io.ReadAll(conn)
				if t := net.Error(nil); errors.As(err, &t) && t.Timeout() {
					err = fmt.Errorf("the connection was never closed: %w", err)
				} else {
					err = nil // a close while bytes are on their way is a reset
				}
				line, _, _ := strings.Cut(string(got), "\r\n")
				want := ""
				if tt.status > 0 {
					want = fmt.Sprintf("HTTP/1.1 %d ", tt.status)
				}
				if err != nil || !strings.HasPrefix(line, want) || (want == "" && line != "") {
					t.Errorf("got %q (%v), want %q and the end of the connection", got, err, want)
				}
			})
		}
	})
	if n := upstream.calls.Load(); n != 0 {
		t.Errorf("%d of these reached the upstream", n)
	}
}

// endless answers without end, as JSON or as events, and says what became of it.
type endless struct {
	contentType string
	begun, left atomic.Int64
	written     atomic.Int64
}

func (e *endless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if r.Header.Get("Mcp-Name") != "endless" {
		(&counted{}).ServeHTTP(w, r)
		return
	}
	e.begun.Add(1)
	defer e.left.Add(1)
	w.Header().Set("Content-Type", e.contentType)
	block := strings.Repeat("x", 32<<10)
	if e.contentType == "text/event-stream" {
		block = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":\"" + block + "\"}}\n\n"
	} else {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":7,"result":"`)
	}
	for {
		n, err := io.WriteString(w, block)
		e.written.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// TestClientsThatDoNotRead: an answer nobody reads stops at the upstream, costs
// what the buffers of its connections cost, and ends when the client is gone.
func TestClientsThatDoNotRead(t *testing.T) {
	nothingLeft(t)
	const clients = 50
	for _, contentType := range []string{"application/json", "text/event-stream"} {
		t.Run(contentType, func(t *testing.T) {
			upstream := &endless{contentType: contentType}
			p := start(t, serving{upstream: upstream})
			token := p.issuer.token(stiletest.Claims{})
			if a, err := p.call(t, token, "list_notes"); err != nil || !a.isResult() {
				t.Fatal(a, err)
			}
			before, descriptors := residentKiB(t, p.pid(), "VmRSS"), openDescriptors(t, p.pid())
			var conns []*net.TCPConn
			for range clients {
				conn := p.dial(t)
				_ = conn.SetReadBuffer(4 << 10)
				body := callBody("endless")
				head := strings.ReplaceAll(p.head(token, fmt.Sprintf("Content-Length: %d", len(body))), "list_notes", "endless")
				_, _ = io.WriteString(conn, head+body)
				conns = append(conns, conn)
			}
			eventually(t, "all answers under way and stuck", func() bool {
				before := upstream.written.Load()
				a, err := p.call(t, token, "list_notes") // others are served meanwhile
				if err != nil || !a.isResult() {
					t.Fatal(a, err)
				}
				return upstream.begun.Load() == clients && upstream.written.Load() == before
			})
			after := residentKiB(t, p.pid(), "VmRSS")
			t.Logf("%d clients that do not read: %d KiB resident before, %d with them; the upstream could write %d KiB for each",
				clients, before, after, upstream.written.Load()>>10/clients)
			if after-before > clients<<10 {
				t.Errorf("%d KiB more for %d clients, want at most 1 MiB each", after-before, clients)
			}
			if upstream.left.Load() != 0 {
				t.Error("an answer ended though its client is there")
			}
			for _, conn := range conns {
				_ = conn.Close()
			}
			eventually(t, "every upstream request ended", func() bool { return upstream.left.Load() == clients })
			eventually(t, "the descriptors of before", func() bool { return openDescriptors(t, p.pid()) <= descriptors+4 })
		})
	}
}

// silentConnections: ten thousand connections that say nothing keep nobody
// out, cost little, and are closed by the server.
func silentConnections(t *testing.T) {
	t.Parallel()
	var allowed syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &allowed); err != nil {
		t.Fatal(err)
	}
	connections := min(10_000, int(allowed.Max)-1000)
	p := start(t, serving{upstream: &counted{}})
	token := p.issuer.token(stiletest.Claims{})
	if a, err := p.call(t, token, "list_notes"); err != nil || !a.isResult() {
		t.Fatal(a, err)
	}
	before, descriptors := residentKiB(t, p.pid(), "VmRSS"), openDescriptors(t, p.pid())
	conns := make([]net.Conn, connections)
	for i := range conns {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatalf("connection %d of %d (limit %d): %v", i, connections, allowed.Max, err)
		}
		conns[i] = conn
		if i%100 == 0 {
			p.client.CloseIdleConnections() // as one who comes anew
			if a, err := p.call(t, token, "list_notes"); err != nil || !a.isResult() {
				t.Fatalf("an honest client beside %d silent ones: %v %v", i, a, err)
			}
		}
	}
	eventually(t, "all of them accepted", func() bool { return openDescriptors(t, p.pid()) >= connections })
	after := residentKiB(t, p.pid(), "VmRSS")
	t.Logf("%d silent connections: %d KiB resident before, %d with them (%.1f each)", connections, before, after, float64(after-before)/float64(connections))
	if after-before > connections*32 {
		t.Errorf("%d KiB more, want at most 32 for each", after-before)
	}
	for i := 0; i < 100; i++ {
		p.client.CloseIdleConnections()
		if a, err := p.call(t, token, "list_notes"); err != nil || !a.isResult() {
			t.Fatalf("an honest client beside all of them: %v %v", a, err)
		}
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(limit))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Fatal("the server says something to a client that asked nothing")
		} else if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			t.Fatal("the server does not close a connection that says nothing")
		}
		_ = conn.Close()
	}
	eventually(t, "the descriptors of before", func() bool { return openDescriptors(t, p.pid()) <= descriptors+4 })
	t.Logf("%d KiB resident afterwards", residentKiB(t, p.pid(), "VmRSS"))
}

// noDescriptors: with fewer descriptors than silent connections whoever has a
// connection is served on it, whoever comes new is served when the silent ones
// have been closed, and nothing needs a restart.
func noDescriptors(t *testing.T) {
	t.Parallel()
	p := start(t, serving{upstream: &counted{}, limitOpen: 128})
	token := p.issuer.token(stiletest.Claims{})
	if a, err := p.call(t, token, "list_notes"); err != nil || !a.isResult() {
		t.Fatal(a, err)
	}
	for range 140 {
		p.dial(t)
	}
	eventually(t, "no descriptor left", func() bool { return strings.Contains(p.log.String(), "too many open files") })
	if a, err := p.call(t, token, "list_notes"); err != nil || !a.isResult() {
		t.Errorf("an honest client with a connection: %d %s %v", a.status, a.body, err)
	}
	p.client.CloseIdleConnections()
	if a, err := p.call(t, token, "list_notes"); err != nil || !a.isResult() {
		t.Errorf("an honest client that comes new: %d %s %v", a.status, a.body, err)
	}
}
