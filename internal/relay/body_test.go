package relay_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/internal/relay"
)

const jsonType = "application/json"

func TestBodies(t *testing.T) {
	big := `{"x":"` + strings.Repeat("a", 70<<10) + `"}`
	tests := []struct {
		name   string
		method string // default POST
		o      relay.Options
		h      http.HandlerFunc
		status int // default 200
		body   string
		header map[string]string // "" : must be absent
		err    error
		errAs  bool // an *UpstreamError
	}{
		{name: "unchanged", o: relay.Options{Message: keep}, h: answer(200, jsonType, `{"a": 1}`), body: `{"a": 1}`,
			header: map[string]string{"Content-Length": "8", "Content-Type": jsonType, "X-Gateway": "kept"}},
		{name: "rewritten, length right", o: relay.Options{Message: func([]byte, bool) ([]byte, error) { return []byte(`{"a": 22}`), nil }},
			h: withLength(answer(200, jsonType, `{"a": 1}`), 8), body: `{"a": 22}`, header: map[string]string{"Content-Length": "9"}},
		{name: "in pieces with flushes", o: relay.Options{Message: shout}, h: answer(200, jsonType, `{"a`, `":"b`, `"}`), body: `{"A":"B"}`},
		{name: "no hook", h: answer(200, jsonType, `{}`), body: `{}`},
		{name: "dropped", o: relay.Options{Message: shout}, h: answer(200, jsonType, `{"drop":1}`), header: map[string]string{"Content-Length": "0"}},
		{name: "refused", o: relay.Options{Message: shout}, h: answer(200, jsonType, `{"bad":1}`), err: errRefused},
		{name: "refused whatever the status", o: relay.Options{Message: shout}, h: answer(201, jsonType, `{"bad":1}`), err: errRefused},
		{name: "refused as an error answer", o: relay.Options{Message: shout}, h: answer(500, jsonType, `{"bad":1}`), err: errRefused},
		{name: "parameters and case", o: relay.Options{Message: shout}, h: answer(200, "Application/JSON; charset=utf-8", `{"a":1}`), body: `{"A":1}`},
		{name: "another media type", o: relay.Options{Message: shout}, h: answer(200, "text/plain", `{"a":1}`), body: `{"A":1}`},
		{name: "problem+json", o: relay.Options{Message: shout}, h: answer(200, "application/problem+json", `{"a":1}`), body: `{"A":1}`},
		{name: "no media type", o: relay.Options{Message: shout}, h: answer(200, "", `{"a":1}`), body: `{"A":1}`, header: map[string]string{"Content-Type": ""}},
		{name: "called an event stream", o: relay.Options{Message: shout}, h: answer(200, "text/event-stream", `{"a":1}`), body: `{"A":1}`},
		{name: "white space first", o: relay.Options{Message: shout}, h: answer(200, "text/x", " \r", "\n\t", `[{"a":1}]`), body: " \r\n\t" + `[{"A":1}]`},
		{name: "byte order mark", o: relay.Options{Message: shout}, h: answer(200, jsonType, "\xEF", "\xBB", "\xBF{\"a\":1}"), body: `{"A":1}`},
		{name: "byte order mark unchanged", o: relay.Options{Message: keep}, h: answer(200, jsonType, "\xEF\xBB\xBF{\"a\":1}"), body: "\xEF\xBB\xBF{\"a\":1}"},
		{name: "UTF-16", o: relay.Options{Message: func([]byte, bool) ([]byte, error) { return nil, errRefused }}, h: answer(200, jsonType, "\x00{\x00}"), err: errRefused},
		{name: "no message", o: relay.Options{Message: shout}, h: answer(404, "text/plain", "bad session"), status: 404, body: "bad session"},
		{name: "short word", o: relay.Options{Message: shout}, h: answer(200, "text/plain", "dat"), body: "dat"},
		{name: "two media types", o: relay.Options{Message: shout}, h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{jsonType, "text/event-stream"}
			_, _ = io.WriteString(w, `{"a":1}`)
		}, body: `{"A":1}`, header: map[string]string{"Content-Type": jsonType}},
		{name: "large is streamed unseen", o: relay.Options{Message: shout}, h: answer(200, jsonType, big[:40<<10], big[40<<10:]), body: big},
		{name: "large by its length", o: relay.Options{Message: shout}, h: withLength(answer(200, jsonType, big), len(big)), body: big,
			header: map[string]string{"Content-Length": strconv.Itoa(len(big))}},
		{name: "large is seen whole", o: relay.Options{Message: shout, Whole: true}, h: answer(200, jsonType, big[:40<<10], big[40<<10:]), body: strings.ToUpper(big)},
		{name: "white space does not hide", o: relay.Options{Message: shout, Whole: true}, h: answer(200, "x/y", strings.Repeat(" ", 70<<10), `{"bad":1}`), err: errRefused},
		{name: "over the limit", o: relay.Options{Message: keep, Whole: true, MaxMessage: 8}, h: answer(200, jsonType, `{"a":`, `1234}`), errAs: true},
		{name: "over the limit by its length", o: relay.Options{Message: keep, Whole: true, MaxMessage: 8}, h: withLength(answer(200, jsonType, `{`), 9), errAs: true},
		{name: "content encoding", o: relay.Options{Message: keep}, h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("\x1f\x8b"))
		}, errAs: true},
		{name: "identity encoding", o: relay.Options{Message: shout}, h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "Identity")
			_, _ = w.Write([]byte(`{"a":1}`))
		}, body: `{"A":1}`},
		{name: "accepted", o: relay.Options{Message: shout}, h: answer(202, ""), status: 202, header: map[string]string{"Content-Length": "0"}},
		{name: "no content", o: relay.Options{Message: shout}, h: withLength(answer(204, ""), 7), status: 204, header: map[string]string{"Content-Length": ""}},
		{name: "not modified", o: relay.Options{Message: shout}, h: withLength(answer(304, ""), 7), status: 304},
		{name: "nothing at all", h: func(http.ResponseWriter, *http.Request) {}},
		{name: "HEAD", method: http.MethodHead, o: relay.Options{Message: shout}, h: withLength(answer(200, jsonType), 7), header: map[string]string{"Content-Length": "7"}},
		{name: "informational first", o: relay.Options{Message: keep}, h: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write([]byte(`{}`))
		}, status: http.StatusTeapot, body: `{}`},
		{name: "less than promised", o: relay.Options{Message: keep}, h: withLength(answer(200, jsonType, `{}`), 7), errAs: true},
		{name: "nothing where something was promised", h: withLength(answer(200, jsonType), 7), errAs: true},
		{name: "more than promised", o: relay.Options{Message: keep}, h: withLength(answer(200, jsonType, `{}    `), 2), errAs: true},
		{name: "failed before", h: func(w http.ResponseWriter, _ *http.Request) {
			w.(interface{ Fail(error) }).Fail(errors.New("refused connection"))
		}, errAs: true},
		{name: "broke off while held", o: relay.Options{Message: keep}, h: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"a":`))
			panic(http.ErrAbortHandler)
		}, errAs: true},
		{name: "validators of what was rewritten", o: relay.Options{Message: shout}, h: withETag(answer(200, jsonType, `{"a":1}`)), body: `{"A":1}`, header: map[string]string{"Etag": ""}},
		{name: "validators of what was not", o: relay.Options{Message: keep}, h: withETag(answer(200, jsonType, `{"a":1}`)), body: `{"a":1}`, header: map[string]string{"Etag": `"x"`}},
		{name: "header hook", o: relay.Options{Header: func(status int, h http.Header) error {
			if status != 200 || h.Get("Etag") == "" || h.Get("X-Gateway") != "kept" {
				return errRefused
			}
			h.Del("Etag")
			h.Set("Mcp-Session-Id", "sealed")
			return nil
		}}, h: withETag(answer(200, jsonType, `{}`)), body: `{}`, header: map[string]string{"Etag": "", "Mcp-Session-Id": "sealed", "X-Gateway": "kept"}},
		{name: "header hook refuses", o: relay.Options{Header: func(int, http.Header) error { return errRefused }}, h: withETag(answer(200, jsonType, `{}`)), err: errRefused,
			header: map[string]string{"Etag": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			method := http.MethodPost
			if tt.method != "" {
				method = tt.method
			}
			got, body, err := relayed(t, method, tt.o, tt.h)
			var upstream *relay.UpstreamError
			if tt.errAs != errors.As(err, &upstream) || !tt.errAs && !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v (upstream error: %t)", err, tt.err, tt.errAs)
			}
			if err != nil {
				tt.status, tt.body = http.StatusBadGateway, "refused\n"
			}
			if tt.status == 0 {
				tt.status = http.StatusOK
			}
			if diff := cmp.Diff(tt.body, body); got.StatusCode != tt.status || diff != "" {
				t.Errorf("status %d, want %d; body:\n%s", got.StatusCode, tt.status, diff)
			}
			for name, want := range tt.header {
				if g := got.Header.Get(name); g != want {
					t.Errorf("%s: %q, want %q", name, g, want)
				}
			}
		})
	}
}

func withLength(h http.Handler, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(n))
		h.ServeHTTP(w, r)
	}
}

func withETag(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		h.ServeHTTP(w, r)
	}
}

// TestCutBody holds that a body of which a part was sent never looks complete.
func TestCutBody(t *testing.T) {
	start := "[" + strings.Repeat("1,", 40<<10)
	breaks := map[string]func(w http.ResponseWriter){
		"abort": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"fail":  func(w http.ResponseWriter) { w.(interface{ Fail(error) }).Fail(errors.New("gone")) },
		"short": func(http.ResponseWriter) {},
	}
	for name, broken := range breaks {
		for _, length := range []int{-1, 1 << 20} {
			if name == "short" && length < 0 {
				continue // nobody can tell
			}
			t.Run(name+" "+strconv.Itoa(length), func(t *testing.T) {
				cancelled := false
				_, body, err := relayed(t, "POST", relay.Options{Message: keep, Cancel: func() { cancelled = true }},
					http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						if length >= 0 {
							w.Header().Set("Content-Length", strconv.Itoa(length))
						}
						_, _ = w.Write([]byte(start))
						w.(http.Flusher).Flush()
						broken(w)
					}))
				if err == nil || body != start {
					t.Errorf("the client read %d bytes and error %v, want %d and an error", len(body), err, len(start))
				}
				if name != "short" && !cancelled {
					t.Error("the upstream was not cancelled")
				}
			})
		}
	}
}

func TestRefusalCancelsAndLeavesTheClientAlone(t *testing.T) {
	c := newClient(t)
	c.header.Set("X-Gateway", "kept")
	cancelled := 0
	w := relay.New(c, relay.Options{Message: shout, Cancel: func() { cancelled++ }})
	var werr error
	err := w.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Upstream", "secret")
		_, _ = w.Write([]byte("data: {\"bad\":1}\n\n"))
		_, werr = w.Write([]byte("data: {}\n\n"))
	}), httptest.NewRequest(http.MethodPost, "/", nil))
	if !errors.Is(err, errRefused) || !errors.Is(werr, errRefused) || cancelled != 1 {
		t.Errorf("Finish %v, Write %v, cancelled %d times", err, werr, cancelled)
	}
	if c.seen() != "" || c.header.Get("X-Upstream") != "" || c.header.Get("X-Gateway") != "kept" || w.Started() {
		t.Errorf("the client saw %q with %v", c.seen(), c.header)
	}
}

func TestClientGone(t *testing.T) {
	for _, h := range []http.HandlerFunc{answer(200, "text/event-stream", "data: {}\n\n"), answer(200, "text/plain", "long")} {
		c := newClient(t)
		c.fail = errors.New("connection reset")
		cancelled := false
		w := relay.New(c, relay.Options{Cancel: func() { cancelled = true }})
		func() {
			defer func() { _ = recover() }() // cutting a body is fine too
			if err := w.Serve(h, httptest.NewRequest(http.MethodPost, "/", nil)); err != nil {
				t.Errorf("Serve: %v; nobody is there to be told", err)
			}
		}()
		if !cancelled || !errors.Is(w.Err(), c.fail) {
			t.Errorf("cancelled %t, Err %v", cancelled, w.Err())
		}
	}
}

func TestPanicsArePassedOn(t *testing.T) {
	tests := map[string]string{ // what is written before the panic, and what the client sees
		"data: {}\n\n": "OK|data: {}\n\n|flush|data: broken\n\n|flush",
		`{"a":`:        "",
	}
	for chunk, want := range tests {
		c := newClient(t)
		w := relay.New(c, relay.Options{Broken: func() []byte { return []byte("data: broken\n\n") }})
		func() {
			defer func() {
				if p := recover(); p != "a bug" {
					t.Errorf("recovered %v", p)
				}
			}()
			_ = w.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = w.Write([]byte(chunk))
				panic("a bug")
			}), httptest.NewRequest(http.MethodPost, "/", nil))
		}()
		if c.seen() != want || w.Started() != (want != "") {
			t.Errorf("after %q the client saw %q, want %q", chunk, c.seen(), want)
		}
	}
}

func TestUpstreamErrorTimeout(t *testing.T) {
	if e := (&relay.UpstreamError{Err: errors.New("x")}); e.Timeout() || e.Error() != "upstream: x" {
		t.Errorf("%v, timeout %t", e, e.Timeout())
	}
	if e := (&relay.UpstreamError{Err: timeout{}}); !e.Timeout() {
		t.Error("a timeout was not seen")
	}
}

type timeout struct{}

func (timeout) Error() string { return "too slow" }
func (timeout) Timeout() bool { return true }
