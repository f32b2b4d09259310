package forward_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/internal/relay"
)

// TestThroughTheRelay runs both halves of the way together: an upstream, HTTP,
// a relay.Writer whose hook upper-cases messages, and a client.
func TestThroughTheRelay(t *testing.T) {
	long := `["` + strings.Repeat("x", 100<<10) + `"]`
	upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		raw := func(head string) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+head)
			_ = conn.Close()
		}
		switch r.URL.Path {
		case "/json":
			_, _ = io.WriteString(w, `{"a":1}`)
		case "/long":
			_, _ = io.WriteString(w, long)
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for range 2 {
				_, _ = io.WriteString(w, "id: 1\ndata: {\"a\":1}\n\n")
				w.(http.Flusher).Flush()
			}
		case "/redirect":
			http.Redirect(w, r, "/json", http.StatusTemporaryRedirect)
		case "/hints":
			w.Header().Set("Link", "</x>")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, `{"a":1}`)
		case "/cut-json":
			raw("Content-Length: 10\r\n\r\n{\"a\":1}")
		case "/cut-chunks":
			raw("Transfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n")
		case "/cut-long":
			raw("Content-Length: 200000\r\n\r\n" + long)
		case "/cut-events":
			raw("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n")
		}
	})
	tests := []struct {
		path, want string
		err        bool // the gateway may answer by itself
		cut        bool // the client sees the connection end
	}{
		{path: "/json", want: `{"A":1}`},
		{path: "/long", want: long},
		{path: "/events", want: "id: 1\ndata: {\"A\":1}\n\nid: 1\ndata: {\"A\":1}\n\n"},
		{path: "/hints", want: `{"A":1}`},
		{path: "/redirect", err: true},
		{path: "/cut-json", err: true},
		{path: "/cut-chunks", err: true},
		{path: "/cut-long", want: long, cut: true},
		{path: "/cut-events", want: "data: {}\n\ndata: \"broken\"\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			h := newHTTP(t, forward.HTTPConfig{URL: upstream.URL + tt.path})
			errs := make(chan error, 1)
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				rw := relay.New(w, relay.Options{
					Message: func(msg []byte, _ bool) ([]byte, error) { return []byte(strings.ToUpper(string(msg))), nil },
					Broken:  func() []byte { return []byte("data: \"broken\"\n\n") },
				})
				err := rw.Serve(h, post("{}"))
				if err != nil {
					http.Error(w, "refused", http.StatusBadGateway)
				}
				errs <- err
			}))
			defer front.Close()
			defer front.Client().CloseIdleConnections()
			res, err := front.Client().Post(front.URL, "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if (err != nil) != tt.cut {
				t.Errorf("reading the answer: %v, cut off: %t", err, tt.cut)
			}
			if tt.cut {
				// The last bytes may still have been in a buffer.
				if !strings.HasPrefix(tt.want, string(body)) || len(body) < len(tt.want)-4<<10 {
					t.Errorf("%d bytes, want the first of %d, all but 4 KiB of them", len(body), len(tt.want))
				}
				return
			}
			var upstreamErr *relay.UpstreamError
			if serr := <-errs; errors.As(serr, &upstreamErr) != tt.err {
				t.Errorf("Serve: %v, an error: %t", serr, tt.err)
			}
			if tt.err {
				tt.want = "refused\n"
			}
			if string(body) != tt.want {
				t.Errorf("the client read %s, want %s", short(body), short([]byte(tt.want)))
			}
		})
	}
}

func short(b []byte) string {
	if len(b) > 80 {
		return fmt.Sprintf("%q and %d bytes more", b[:80], len(b)-80)
	}
	return fmt.Sprintf("%q", b)
}
