package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/internal/problem"
)

// newHTTP is a forwarder that leaves nothing behind.
func newHTTP(t testing.TB, c forward.HTTPConfig) *forward.HTTP {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	h, err := forward.NewHTTP(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// post is a request as the gateway makes it: its body in memory.
func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://mcp.example.com/elsewhere?token=secret", nil)
	r.Header.Set("Content-Type", "application/json")
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader([]byte(body))), int64(len(body))
	return r
}

// failer is a ResponseWriter that takes Fail, as the gateway's does.
type failer struct {
	*httptest.ResponseRecorder
	err     error
	started func(status int)
}

func (f *failer) WriteHeader(status int) {
	if f.started != nil {
		f.started(status)
	}
	f.ResponseRecorder.WriteHeader(status)
}

func (f *failer) Fail(err error) { f.err = err }

func TestRequestAsTheUpstreamSeesIt(t *testing.T) {
	var got *http.Request
	upstream := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r })
	host := strings.TrimPrefix(upstream.URL, "http://")
	tests := []struct {
		name   string
		url    string // after the host
		config http.Header
		sent   http.Header
		want   http.Header // besides those that every request has
		uri    string
		host   string
	}{
		{name: "credentials in odd forms", url: "/mcp", uri: "/mcp", sent: http.Header{
			"Authorization": {"Bearer a", "Bearer b"}, "authorization": {"Bearer c"}, "AUTHORIZATION": {"Bearer d"}, "Cookie": {"a=b"}, "cookie": {"c=d"},
			"Proxy-Authorization": {"Basic x"}, "X-Api-Key": {"k"}, "x-api-key": {"k"}, "Dpop": {"x"}}},
		{name: "spoofed identity and origin", url: "/mcp", uri: "/mcp", sent: http.Header{
			"X-Forwarded-User": {"root"}, "X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Host": {"x"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=x"},
			"X-Remote-User": {"root"}, "X-Real-Ip": {"1.2.3.4"}, "Remote_user": {"root"}}},
		{name: "what the caller lists in Connection", url: "/mcp", uri: "/mcp", sent: http.Header{
			"Connection": {"X-Secret, close"}, "X-Secret": {"1"}, "Keep-Alive": {"5"}, "Te": {"trailers"}, "Trailer": {"X"}, "Expect": {"100-continue"}}},
		{name: "upgrade", url: "/mcp", uri: "/mcp", sent: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"web\x01socket"}}},
		{name: "own credential in place of the caller's", url: "/mcp", uri: "/mcp", config: http.Header{"authorization": {"Bearer own"}, "X-Api-Key": {"own"}},
			sent: http.Header{"Authorization": {"Bearer caller"}, "X-Api-Key": {"caller"}, "Connection": {"Authorization, X-Api-Key"}},
			want: http.Header{"Authorization": {"Bearer own"}, "X-Api-Key": {"own"}}},
		{name: "what MCP needs stays", url: "/mcp", uri: "/mcp", sent: http.Header{"Mcp-Session-Id": {"s"}, "Mcp-Method": {"tools/call"}, "Mcp-Param-X": {"1"}, "Last-Event-Id": {"7"},
			"Accept": {"application/json, text/event-stream"}, "User-Agent": {"test"}, "Accept-Encoding": {"gzip, br"}},
			want: http.Header{"Mcp-Session-Id": {"s"}, "Mcp-Method": {"tools/call"}, "Mcp-Param-X": {"1"}, "Last-Event-Id": {"7"},
				"Accept": {"application/json, text/event-stream"}, "User-Agent": {"test"}}},
		{name: "query of the URL only", url: "/a%2Fb/mcp?key=1&x=;", uri: "/a%2Fb/mcp?key=1&x=;"},
		{name: "no path", url: "", uri: "/"},
		{name: "configured host", url: "/mcp", uri: "/mcp", config: http.Header{"Host": {"notes.internal:80"}}, host: "notes.internal:80"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL + tt.url, Header: tt.config})
			r := post(`{}`)
			for name, v := range tt.sent {
				r.Header[name] = v
			}
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusOK {
				t.Fatalf("status %d", w.Code)
			}
			if tt.host == "" {
				tt.host = host
			}
			if got.RequestURI != tt.uri || got.Host != tt.host {
				t.Errorf("asked for %q of %q, want %q of %q", got.RequestURI, got.Host, tt.uri, tt.host)
			}
			want := http.Header{"Accept-Encoding": {"identity"}, "Content-Type": {"application/json"}, "Content-Length": {"2"}}
			for name, v := range tt.want {
				want[name] = v
			}
			if diff := cmp.Diff(want, got.Header); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBodiesAreForwardedByteForByte(t *testing.T) {
	var got []byte
	var length int64
	upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		length = r.ContentLength
		w.Header()["X-Answer"] = []string{"1", "2"}
		w.Header().Set("Mcp-Session-Id", "upstream")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(got)
	})
	h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL})
	bodies := map[string]string{"empty": "", "small": "{ \"a\" :\t1}\r\n", "odd bytes": "\x00\xff\xfe", "1 MiB": strings.Repeat("0123456789abcdef", 1<<16)}
	for name, body := range bodies {
		for _, form := range []string{"in memory", "rewindable", "stream"} {
			t.Run(name+" "+form, func(t *testing.T) {
				r := post(body)
				switch form {
				case "rewindable":
					r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
				case "stream":
					r.Body = struct{ io.ReadCloser }{r.Body}
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if string(got) != body || length != int64(len(body)) {
					t.Errorf("the upstream read %d bytes, announced %d, want %d the same", len(got), length, len(body))
				}
				if w.Code != http.StatusCreated || w.Body.String() != body || w.Header().Get("Mcp-Session-Id") != "upstream" || len(w.Header()["X-Answer"]) != 2 {
					t.Errorf("answer %d, %d bytes, header %v", w.Code, w.Body.Len(), w.Header())
				}
			})
		}
	}
}

// countingConn counts the writes of a connection.
type countingConn struct {
	*net.TCPConn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.TCPConn.Write(p)
}

// count lets h count its dials and writes.
func count(h *forward.HTTP) (dials, writes *atomic.Int64) {
	dials, writes = new(atomic.Int64), new(atomic.Int64)
	h.Wrap(func(c net.Conn) net.Conn {
		dials.Add(1)
		return countingConn{c.(*net.TCPConn), writes}
	})
	return dials, writes
}

// TestOneWrite holds that head and body leave in one write, which is a third of
// what a proxied call costs (the transport has to see the body in memory).
func TestOneWrite(t *testing.T) {
	upstream := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for _, rewind := range []bool{false, true} {
		h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL})
		_, writes := count(h)
		r := post(strings.Repeat("x", 2<<10))
		if rewind {
			body := r.Body
			r.GetBody, r.Body = func() (io.ReadCloser, error) { return body, nil }, http.NoBody
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusOK || writes.Load() != 1 {
			t.Errorf("status %d after %d writes, want 200 after 1", w.Code, writes.Load())
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	const parallel, rounds = 50, 5
	var inside atomic.Int64
	var full sync.WaitGroup
	upstream := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		inside.Add(1)
		full.Done()
		full.Wait() // all of a round are here at a time
		_, _ = w.Write([]byte("{}"))
	})
	h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL})
	dials, _ := count(h)
	for range rounds {
		full.Add(parallel)
		var wg sync.WaitGroup
		for range parallel {
			wg.Go(func() {
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, post("{}")); w.Body.String() != "{}" {
					t.Errorf("answer %d %q", w.Code, w.Body)
				}
			})
		}
		wg.Wait()
	}
	// A connection becomes idle a moment after its answer has been read.
	if n := dials.Load(); inside.Load() != parallel*rounds || n < parallel || n >= 2*parallel {
		t.Errorf("%d dials for %d requests, want about %d", n, inside.Load(), parallel)
	}
}

// events reads the events of a response as they come.
func events(t *testing.T, res *http.Response) func() string {
	t.Helper()
	s := bufio.NewScanner(res.Body)
	return func() string {
		for s.Scan() {
			if s.Text() != "" {
				return s.Text()
			}
		}
		return fmt.Sprint("end: ", s.Err())
	}
}

func TestEventsAreNotBuffered(t *testing.T) {
	next := make(chan struct{})
	upstream := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "Text/Event-Stream; charset=utf-8")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next // not before the client has read it
		}
	})
	front := serve(t, newHTTP(t, forward.HTTPConfig{URL: upstream.URL}).ServeHTTP)
	res, err := front.Client().Post(front.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	read := events(t, res)
	for i := range 3 {
		if got, want := read(), fmt.Sprint("data: ", i); got != want {
			t.Fatalf("event %q, want %q", got, want)
		}
		next <- struct{}{}
	}
	if got := read(); got != "end: <nil>" {
		t.Errorf("after the last event: %q", got)
	}
}

func TestChunkedAnswer(t *testing.T) {
	upstream := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-After")
		for range 3 {
			_, _ = io.WriteString(w, "[1]")
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-After", "x")
	})
	front := serve(t, newHTTP(t, forward.HTTPConfig{URL: upstream.URL}).ServeHTTP)
	res, err := front.Client().Post(front.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "[1][1][1]" {
		t.Errorf("body %q, error %v", body, err)
	}
}

func TestClientGoneCancelsTheUpstream(t *testing.T) {
	inside, started, cancelled := make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
	upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
		}
		inside <- struct{}{}
		<-r.Context().Done()
		cancelled <- struct{}{}
	})
	h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		ctx, cancel := context.WithCancel(context.Background())
		r := post("{}").WithContext(ctx)
		r.Method = method
		w := &failer{ResponseRecorder: httptest.NewRecorder(), started: func(int) { started <- struct{}{} }}
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			h.ServeHTTP(w, r)
		}()
		<-inside
		if method == http.MethodGet {
			<-started
		}
		cancel()
		<-cancelled
		p := <-done
		if aborted := isAbort(p); aborted != (method == http.MethodGet) || !aborted && !errors.Is(w.err, context.Canceled) {
			t.Errorf("%s: panic %v, Fail %v", method, p, w.err)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	silent := make(chan struct{})
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) { <-silent })
	t.Cleanup(func() { close(silent) })
	redirect := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/304" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Location", "https://attacker.example/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	huge := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 300<<10)) })
	upgrade := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_ = conn.Close()
	})
	var redirected *forward.RedirectError
	tests := []struct {
		name, url string
		timeout   time.Duration
		as        any
		says      string
		status    int
	}{
		{name: "refused connection", url: "http://" + closed.Addr().String() + "/mcp?key=secret", says: closed.Addr().String(), status: 502},
		{name: "no header in time", url: slow.URL, timeout: 20 * time.Millisecond, says: "timeout", status: 504},
		{name: "redirect", url: redirect.URL, as: &redirected, says: `307 with the location "https://attacker.example/"`, status: 502},
		{name: "header too large", url: huge.URL, says: "header", status: 502},
		{name: "other protocol", url: upgrade.URL, says: "switch protocols", status: 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHTTP(t, forward.HTTPConfig{URL: tt.url, ResponseHeaderTimeout: tt.timeout})
			w := &failer{ResponseRecorder: httptest.NewRecorder()}
			h.ServeHTTP(w, post("{}"))
			if w.err == nil || !strings.Contains(w.err.Error(), tt.says) || strings.Contains(w.err.Error(), "secret") {
				t.Errorf("Fail(%v), want it to say %q", w.err, tt.says)
			}
			if tt.as != nil && !errors.As(w.err, tt.as) {
				t.Errorf("Fail(%T), want %T", w.err, tt.as)
			}
			if w.Body.Len() != 0 {
				t.Errorf("an answer was written: %q", w.Body)
			}
			plain := httptest.NewRecorder()
			if h.ServeHTTP(plain, post("{}")); plain.Code != tt.status || plain.Body.String() != "the upstream does not answer\n" {
				t.Errorf("without Fail: %d %q, want %d", plain.Code, plain.Body, tt.status)
			}
		})
	}
	w := httptest.NewRecorder()
	if newHTTP(t, forward.HTTPConfig{URL: redirect.URL + "/304"}).ServeHTTP(w, post("{}")); w.Code != http.StatusNotModified {
		t.Errorf("304 became %d", w.Code)
	}
}

// isAbort reports whether a panic says that an answer broke off.
func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// TestBrokenAnswer holds that an answer that breaks off ends in a panic, with or
// without a server above, so that it cannot look complete.
func TestBrokenAnswer(t *testing.T) {
	for _, form := range []string{"Content-Length: 10\r\n\r\n[1,", "Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n", "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n"} {
		upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+form)
			_ = conn.Close()
		})
		h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL})
		func() {
			defer func() {
				if p := recover(); !isAbort(p) {
					t.Errorf("%q: recovered %v", form, p)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), post("{}"))
		}()
		front := serve(t, h.ServeHTTP)
		res, err := front.Client().Post(front.URL, "application/json", strings.NewReader("{}"))
		if err != nil {
			continue // cut off before anything of it was sent
		}
		if body, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%q: the client read %q without an error", form, body)
		}
		_ = res.Body.Close()
	}
}

func TestReady(t *testing.T) {
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	trust := secure.Client().Transport.(*http.Transport).TLSClientConfig
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = down.Close()
	tests := []struct {
		name, url string
		tls       *tls.Config
		says      string // of the error; none when empty
	}{
		{"up", plain.URL, nil, ""},
		{"up with TLS", secure.URL, trust, ""},
		{"unknown certificate", secure.URL, nil, "certificate"},
		{"no TLS there", "https" + strings.TrimPrefix(plain.URL, "http"), trust, "TLS"},
		{"down", "http://" + down.Addr().String(), nil, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHTTP(t, forward.HTTPConfig{URL: tt.url, TLS: tt.tls})
			for range 2 { // the second answer is remembered
				err := h.Ready(context.Background())
				switch {
				case tt.says == "" && err != nil:
					t.Errorf("Ready: %v", err)
				case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), strings.SplitN(tt.url, "//", 2)[1])):
					t.Errorf("Ready: %v, want %q and the host", err, tt.says)
				}
			}
		})
	}
}

func TestReadyIsShared(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newHTTP(t, forward.HTTPConfig{URL: "http://" + l.Addr().String()})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := h.Ready(context.Background()); err != nil {
				t.Errorf("Ready: %v", err)
			}
		})
	}
	wg.Wait()
	_ = l.Close()
	if err := h.Ready(context.Background()); err != nil {
		t.Errorf("a second probe was made at once: %v", err)
	}
}

func TestReadyHeedsItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newHTTP(t, forward.HTTPConfig{URL: "https://" + l.Addr().String(), ConnectTimeout: 200 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Ready(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Ready: %v", err)
	}
	if err := h.Ready(context.Background()); err == nil { // shares the probe, and lets it end
		t.Error("Ready: no error from a host that does not speak TLS")
	}
}

func TestHTTPConfig(t *testing.T) {
	ok := "http://127.0.0.1:9000/mcp"
	tests := []struct {
		name  string
		c     forward.HTTPConfig
		paths []string
		value string // of the first problem
	}{
		{name: "plain", c: forward.HTTPConfig{URL: ok}},
		{name: "https with a query", c: forward.HTTPConfig{URL: "https://example.com/mcp?key=1", Header: http.Header{"X-Api-Key": {"s3cret"}}, ResponseHeaderTimeout: -1}},
		{name: "IPv6", c: forward.HTTPConfig{URL: "http://[::1]:9000/mcp"}},
		{name: "empty", c: forward.HTTPConfig{}, paths: []string{"url"}},
		{name: "relative", c: forward.HTTPConfig{URL: "/mcp"}, paths: []string{"url"}, value: "/mcp"},
		{name: "no scheme", c: forward.HTTPConfig{URL: "localhost:9000"}, paths: []string{"url"}, value: "localhost:9000"},
		{name: "other scheme", c: forward.HTTPConfig{URL: "ftp://h/mcp"}, paths: []string{"url"}, value: "ftp://h/mcp"},
		{name: "no host", c: forward.HTTPConfig{URL: "http:///mcp"}, paths: []string{"url"}, value: "http:///mcp"},
		{name: "port only", c: forward.HTTPConfig{URL: "http://:80/mcp"}, paths: []string{"url"}, value: "http://:80/mcp"},
		{name: "not a URL", c: forward.HTTPConfig{URL: "http://h:port/?k=secret"}, paths: []string{"url"}, value: "http://h:port/"},
		{name: "fragment", c: forward.HTTPConfig{URL: ok + "#"}, paths: []string{"url"}, value: ok + "#"},
		{name: "user", c: forward.HTTPConfig{URL: "http://user:secret@h/mcp"}, paths: []string{"url"}},
		{name: "all at once", c: forward.HTTPConfig{URL: "x", ConnectTimeout: -1, IdleConnTimeout: -1, MaxIdleConnsPerHost: -1,
			Header: http.Header{"A b": {"1"}, "Content-Length": {"1"}, "X-Key": {"secret\r\nX: y"}, "Host": {"a", "b"}}},
			paths: []string{"url", "headers", "headers.Content-Length", "headers.Host", "headers.X-Key", "connect_timeout", "idle_timeout", "max_idle_connections"}, value: "x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := forward.NewHTTP(tt.c)
			if (err == nil) != (h != nil) {
				t.Fatalf("NewHTTP = %v, %v", h, err)
			}
			var list problem.List
			errors.As(err, &list)
			var paths []string
			for i, p := range list {
				paths = append(paths, p.Path)
				if i == 0 && p.Value != tt.value {
					t.Errorf("value %q, want %q", p.Value, tt.value)
				}
			}
			if diff := cmp.Diff(tt.paths, paths); diff != "" {
				t.Error(diff)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}
