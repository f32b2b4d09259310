//go:build unix

package forward_test

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stile-mcp/stile/forward"
)

// FuzzAnswer has an upstream that answers with anything and hangs up. What forward
// makes of it is what http.Transport does, and the next request gets its own answer.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"", fine, fine + fine, "HTTP/1.1 204 No Content\r\n\r\nx", "HTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"HTTP/1.1 103 Early Hints\r\n\r\n" + fine, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK\r\n X: y\r\n\r\n"} {
		f.Add(seed)
	}
	var said atomic.Value // what requests are answered with
	hungUp := make(chan struct{}, 1)
	url, _ := raw(f, func(c *rawConn, _ int) {
		for c.request() {
			text := said.Load().(string)
			c.say(text)
			if text != fine {
				_ = c.Close()
				hungUp <- struct{}{}
				return
			}
		}
	})
	f.Fuzz(func(t *testing.T, answer string) {
		said.Store(answer)
		want := byTransport(t, url)
		if answer != fine {
			<-hungUp
		}
		h := newHTTP(t, forward.HTTPConfig{URL: url})
		status, body, err := ask(h, post("x"))
		if got := fmt.Sprint(status, " ", body); err == nil && got != want || err != nil && want != "" {
			t.Errorf("forward has %q (%v), the transport %q", got, err, want)
		}
		if answer != fine {
			<-hungUp // a connection that is about to be closed looks like any other
		}
		said.Store(fine)
		for range 2 {
			if _, body, err := ask(h, post("x")); body != "ok" || err != nil {
				t.Errorf("the next answer is %q, %v", body, err)
			}
		}
	})
}

// byTransport is what http.Transport makes of an answer, as status and body; empty
// where forward must have an error.
func byTransport(t *testing.T, url string) string {
	transport := &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: 256 << 10}
	defer transport.CloseIdleConnections()
	r := post("x").WithContext(t.Context())
	target, err := r.URL.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	r.URL, r.RequestURI, r.Host = target, "", ""
	res, err := transport.RoundTrip(r)
	if err != nil {
		return ""
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	redirect := res.StatusCode/100 == 3 && res.StatusCode != http.StatusNotModified
	if err != nil || redirect || res.StatusCode < 200 {
		return ""
	}
	return fmt.Sprint(res.StatusCode, " ", string(body))
}
