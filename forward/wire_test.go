//go:build unix

package forward_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stile-mcp/stile/forward"
)

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// rawConn is an upstream's end of a connection.
type rawConn struct {
	net.Conn
	in *bufio.Reader
}

// request reads a request whole, and reports whether there was one.
func (c *rawConn) request() bool {
	r, err := http.ReadRequest(c.in)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

// say sends text as it is.
func (c *rawConn) say(text string) { _, _ = io.WriteString(c, text) }

// raw is an upstream that does with its nth connection, from 1, what each says.
func raw(t testing.TB, each func(c *rawConn, n int)) (url string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := int(connections.Add(1))
			go func() {
				defer func() { _ = c.Close() }()
				each(&rawConn{c, bufio.NewReader(c)}, n)
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String() + "/mcp", connections
}

// ask sends a request and returns the answer, or why there is none.
func ask(h *forward.HTTP, r *http.Request) (status int, body string, err error) {
	w := &failer{ResponseRecorder: httptest.NewRecorder()}
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(w.err, p.(error))
		}
	}()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.err
}

// TestIdleConnectionsAreLookedAt has upstreams that spoil a connection after an
// answer. What they send must never become the answer of the next request.
func TestIdleConnectionsAreLookedAt(t *testing.T) {
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	for name, after := range map[string]string{
		"closes": "", "goes on": forged, "goes on in the same write": forged, "a stray byte": "\n",
	} {
		t.Run(name, func(t *testing.T) {
			spoilt := make(chan struct{})
			url, connections := raw(t, func(c *rawConn, n int) {
				for c.request() {
					if n > 1 {
						c.say(fine)
						continue
					}
					if name == "goes on in the same write" {
						c.say(fine + after)
					} else {
						c.say(fine)
						c.say(after)
					}
					if after == "" {
						_ = c.Close()
					}
					close(spoilt)
				}
			})
			h := newHTTP(t, forward.HTTPConfig{URL: url})
			for i := range 3 {
				if status, body, err := ask(h, post("x")); status != 200 || body != "ok" || err != nil {
					t.Errorf("answer %d is %d %q, %v", i+1, status, body, err)
				}
				<-spoilt
			}
			if n := connections.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// TestWhatIsSentAgain has an upstream that hangs up on the second request of its
// first connection. What may have been carried out is not repeated, nor is what has a
// body, which is spent.
func TestWhatIsSentAgain(t *testing.T) {
	for _, c := range []struct {
		method, body string
		again        bool
	}{
		{method: http.MethodGet, again: true},
		{method: http.MethodDelete, again: true},
		{method: http.MethodDelete, body: "x"},
		{method: http.MethodPost},
		{method: http.MethodPost, body: "x"},
		{method: http.MethodPut, body: "x"},
		{method: http.MethodPatch},
		{method: "PROPPATCH"},
	} {
		t.Run(c.method+" "+c.body, func(t *testing.T) {
			var seen atomic.Int64
			url, _ := raw(t, func(u *rawConn, _ int) {
				for u.request() {
					if seen.Add(1) == 2 {
						return
					}
					u.say(fine)
				}
			})
			h := newHTTP(t, forward.HTTPConfig{URL: url})
			if _, _, err := ask(h, post("x")); err != nil {
				t.Fatal(err)
			}
			r := post(c.body)
			r.Method = c.method
			_, body, err := ask(h, r)
			switch sent := seen.Load(); {
			case c.again && (err != nil || body != "ok" || sent != 3):
				t.Errorf("answered %q, %v after %d requests", body, err, sent)
			case !c.again && (err == nil || !strings.Contains(err.Error(), "before it answered") || sent != 2):
				t.Errorf("error is %v after %d requests", err, sent)
			}
		})
	}
}

// TestRequestsOfWhoHasGone has a client that left before its request was sent.
func TestRequestsOfWhoHasGone(t *testing.T) {
	var seen atomic.Int64
	url, connections := raw(t, func(c *rawConn, _ int) {
		for c.request() {
			seen.Add(1)
			c.say(fine)
		}
	})
	h := newHTTP(t, forward.HTTPConfig{URL: url})
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	for i := range int64(2) { // without an idle connection, and with one
		if _, _, err := ask(h, post("x").WithContext(ctx)); !errors.Is(err, gone) {
			t.Errorf("error is %v", err)
		}
		if _, _, err := ask(h, post("x")); err != nil {
			t.Error(err)
		}
		if n := seen.Load(); n != i+1 {
			t.Errorf("the upstream saw %d requests, want %d", n, i+1)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestIdleConnectionsSpeakHTTP has answers after which a connection that stays open
// speaks something else, or may.
func TestIdleConnectionsSpeakHTTP(t *testing.T) {
	for _, first := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"HTTP/1.1 099 None\r\nContent-Length: 0\r\n\r\n",
	} {
		url, connections := raw(t, func(c *rawConn, n int) {
			for c.request() {
				if n == 1 {
					c.say(first)
					continue
				}
				c.say(fine)
			}
		})
		h := newHTTP(t, forward.HTTPConfig{URL: url})
		if _, _, err := ask(h, post("x")); err == nil {
			t.Errorf("%q is taken for an answer", first)
		}
		if _, body, err := ask(h, post("x")); body != "ok" || err != nil {
			t.Errorf("after %q: answered %q, %v", first, body, err)
		}
		if n := connections.Load(); n != 2 {
			t.Errorf("after %q: %d connections, want 2", first, n)
		}
	}
}

// TestAnswersBeforeTheBody has upstreams that answer a long body before they have
// read it: in full, at length, or to close the door.
func TestAnswersBeforeTheBody(t *testing.T) {
	long := strings.Repeat("a", 8<<20)
	t.Run("at length", func(t *testing.T) {
		url, _ := raw(t, func(c *rawConn, _ int) {
			c.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long))
			c.request()
		})
		status, body, err := ask(newHTTP(t, forward.HTTPConfig{URL: url}), post(long))
		if status != 200 || body != long || err != nil {
			t.Errorf("answered %d with %d bytes, %v", status, len(body), err)
		}
	})
	t.Run("never read", func(t *testing.T) {
		stop := make(chan struct{})
		url, connections := raw(t, func(c *rawConn, n int) {
			if n > 1 {
				c.request()
			}
			c.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
			<-stop
		})
		defer close(stop)
		h := newHTTP(t, forward.HTTPConfig{URL: url})
		for range 2 {
			if status, body, err := ask(h, post(long)); status != 413 || body != "no" || err != nil {
				t.Errorf("answered %d %q, %v", status, body, err)
			}
		}
		if n := connections.Load(); n != 2 {
			t.Errorf("%d connections: one with half a body on it was used again", n)
		}
	})
}

// TestHeadersOfTheAnswer has what may stand before a body.
func TestHeadersOfTheAnswer(t *testing.T) {
	early := "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	for name, c := range map[string]struct {
		sent, body, err string
	}{
		"informational":              {sent: early + early + fine, body: "ok"},
		"nothing but informational":  {sent: strings.Repeat(early, 5) + fine, err: "informational"},
		"another protocol":           {sent: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", err: "switch protocols"},
		"no body":                    {sent: "HTTP/1.1 204 No Content\r\n\r\n"},
		"no HTTP":                    {sent: "SSH-2.0-OpenSSH_9.2\r\n\r\n", err: "malformed"},
		"two lengths":                {sent: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", err: "Content-Length"},
		"a header without end":       {sent: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", err: "longer than 262144 bytes"},
		"a header of many lines":     {sent: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 60<<10) + "\r\n", err: "longer than 262144 bytes"},
		"nothing":                    {err: "before it answered"},
		"half a header":              {sent: "HTTP/1.1 200 OK\r\nContent-Le", err: "within the header"},
		"half a body":                {sent: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok", err: "abort"},
		"half a chunk":               {sent: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nok", err: "abort"},
		"until the connection's end": {sent: "HTTP/1.1 200 OK\r\n\r\nok", body: "ok"},
		"of HTTP/1.0":                {sent: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", body: "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{}, 2)
			url, connections := raw(t, func(u *rawConn, _ int) {
				if u.request() {
					u.say(c.sent)
				}
				_ = u.Close()
				closed <- struct{}{}
			})
			h := newHTTP(t, forward.HTTPConfig{URL: url})
			for range 2 { // a second one finds nothing left over
				_, body, err := ask(h, post("x"))
				switch {
				case c.err == "" && (err != nil || body != c.body):
					t.Errorf("answered %q, %v", body, err)
				case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
					t.Errorf("error is %v, want %q", err, c.err)
				}
				<-closed
			}
			if n := connections.Load(); n != 2 {
				t.Errorf("%d connections, want 2: what was closed cannot be used again", n)
			}
		})
	}
}

// TestBodiesStayOver has bodies that are read once more. Only a whole one is at its end.
func TestBodiesStayOver(t *testing.T) {
	for name, c := range map[string]struct {
		sent  string
		close bool
		want  error
	}{
		"whole":      {sent: fine, want: io.EOF},
		"closed":     {sent: fine, close: true, want: http.ErrBodyReadAfterClose},
		"broken off": {sent: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok", want: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := raw(t, func(u *rawConn, _ int) {
				if u.request() {
					u.say(c.sent)
				}
			})
			res, err := newHTTP(t, forward.HTTPConfig{URL: url}).RoundTrip(post("x"))
			if err != nil {
				t.Fatal(err)
			}
			if !c.close {
				_, _ = io.ReadAll(res.Body)
			} else if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
			for range 2 {
				if _, err := res.Body.Read(make([]byte, 9)); !errors.Is(err, c.want) {
					t.Errorf("error is %v, want %v", err, c.want)
				}
			}
			_ = res.Body.Close()
		})
	}
}

// TestAddressesOfUpstreams has what is dialled: names as the DNS has them.
func TestAddressesOfUpstreams(t *testing.T) {
	for raw, want := range map[string]string{
		"http://Bücher.example/mcp":  "xn--bcher-kva.example:80",
		"https://bücher.example:444": "xn--bcher-kva.example:444",
		"http://[::1]/":              "[::1]:80",
		"http://[fe80::1%25eth0]:9":  "[fe80::1%eth0]:9",
		"https://mcp.example/":       "mcp.example:443",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := forward.HostPort(u); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

// TestWaitsEnd has what ends the wait for an upstream that says nothing, or no more.
func TestWaitsEnd(t *testing.T) {
	gone := errors.New("the client has gone")
	for name, sent := range map[string]string{
		"no header": "", "no body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			ctx, cancel := context.WithCancelCause(t.Context())
			url, _ := raw(t, func(c *rawConn, _ int) {
				c.request()
				c.say(sent)
				cancel(gone)
				_, err := c.in.ReadByte()
				ended <- err
			})
			_, _, err := ask(newHTTP(t, forward.HTTPConfig{URL: url}), post("x").WithContext(ctx))
			if sent == "" && !errors.Is(err, gone) || err == nil {
				t.Errorf("error is %v", err)
			}
			if err := <-ended; err == nil {
				t.Error("the connection was not closed")
			}
		})
	}
	for name, sent := range map[string]string{"time": "", "time within the header": "HTTP/1.1 200 OK\r\nContent-Le"} {
		t.Run(name, func(t *testing.T) {
			url, _ := raw(t, func(c *rawConn, _ int) {
				for c.request() {
					c.say(sent) // and no more
				}
			})
			_, _, err := ask(newHTTP(t, forward.HTTPConfig{URL: url, ResponseHeaderTimeout: 20 * time.Millisecond}), post("x"))
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// TestRequestsThatCannotBeSent has what would be read as another request.
func TestRequestsThatCannotBeSent(t *testing.T) {
	url, _ := raw(t, func(c *rawConn, _ int) {
		if c.request() {
			t.Error("the upstream got a request")
		}
	})
	h := newHTTP(t, forward.HTTPConfig{URL: url})
	for name, change := range map[string]func(*http.Request){
		"method":       func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST" },
		"header value": func(r *http.Request) { r.Header.Set("X-Note", "a\r\nb: c") },
		"header name":  func(r *http.Request) { r.Header["X: y\r\nZ"] = []string{"a"} },
	} {
		for _, body := range []string{"x", strings.Repeat("x", 1<<20)} {
			r := post(body)
			change(r)
			if _, _, err := ask(h, r); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: error is %v", name, err)
			}
		}
	}
}

// TestTimeForTheHeaderIsNotForTheBody has a body that takes longer than the header may.
func TestTimeForTheHeaderIsNotForTheBody(t *testing.T) {
	const header = 20 * time.Millisecond
	url, _ := raw(t, func(c *rawConn, _ int) {
		c.request()
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(3 * header)) // nothing is ever sent
		_, _ = c.in.ReadByte()
		c.say("ok")
	})
	if _, body, err := ask(newHTTP(t, forward.HTTPConfig{URL: url, ResponseHeaderTimeout: header}), post("x")); body != "ok" || err != nil {
		t.Errorf("answered %q, %v", body, err)
	}
}

// TestIdleConnectionsEnd has connections that are idle for too long, are too many, or
// whose forwarder has been closed.
func TestIdleConnectionsEnd(t *testing.T) {
	for name, end := range map[string]struct {
		config forward.HTTPConfig
		then   func(*forward.HTTP)
	}{
		"idle for long": {config: forward.HTTPConfig{IdleConnTimeout: time.Millisecond}},
		"closed":        {then: (*forward.HTTP).Close},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 2)
			both := make(chan struct{}, 2)
			url, _ := raw(t, func(c *rawConn, _ int) {
				c.request()
				both <- struct{}{}
				for len(both) < 2 && c.SetReadDeadline(time.Now().Add(time.Millisecond)) == nil {
					_, _ = c.in.Peek(1) // until both are there
				}
				_ = c.SetReadDeadline(time.Time{})
				c.say(fine)
				_, err := c.in.ReadByte()
				ended <- err
			})
			end.config.URL = url
			h := newHTTP(t, end.config)
			answered := make(chan error)
			for range 2 {
				go func() { _, _, err := ask(h, post("x")); answered <- err }()
			}
			for range 2 {
				if err := <-answered; err != nil {
					t.Error(err)
				}
			}
			if end.then != nil {
				end.then(h)
			}
			for range 2 {
				if err := <-ended; !errors.Is(err, io.EOF) {
					t.Errorf("the upstream saw %v, want EOF", err)
				}
			}
		})
	}
}
