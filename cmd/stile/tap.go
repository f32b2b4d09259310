package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tapStderr     = "stderr"
	defaultTapMax = 8 << 10
	// tapMargin is kept of a message beyond what is shown, so that no token is cut in
	// two before it is looked for.
	tapMargin = 20 << 10
	redacted  = "[redacted]"
	// shortestSecret is the shortest value taken out of messages; a shorter one would
	// stand in them by chance.
	shortestSecret = 6
)

// tap writes down what passes. A nil tap lets everything through untouched. It is
// safe for concurrent use; one that cannot write says nothing, since nothing may
// depend on it.
type tap struct {
	max     int
	secrets []string
	number  atomic.Uint64

	mu sync.Mutex
	w  io.Writer
}

// openTap opens the tap of the file, if it has one.
func (f *File) openTap(stderr io.Writer) (io.Closer, error) {
	f.tap = nil
	if f.Debug.Tap == "" {
		return closers(nil), nil
	}
	t := &tap{max: int(f.Debug.MaxMessage), w: stderr, secrets: f.secrets()}
	if t.max == 0 {
		t.max = defaultTapMax
	}
	f.tap = t
	if f.Debug.Tap == tapStderr {
		return closers(nil), nil
	}
	file, err := os.OpenFile(f.source.within(f.Debug.Tap), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("debug.tap: %w", err)
	}
	t.w = file
	return file, nil
}

// secrets are the values of the file that must not be shown.
func (f *File) secrets() []string {
	all := append([]string(nil), f.SessionKeys...)
	for _, i := range f.Issuers {
		if i.Introspection != nil {
			all = append(all, i.Introspection.ClientSecret)
		}
	}
	for _, s := range f.Servers {
		for _, value := range s.Value.Headers {
			all = append(all, value)
			if _, token, ok := strings.Cut(value, " "); ok {
				all = append(all, token)
			}
		}
		for _, value := range s.Value.Env {
			all = append(all, value)
		}
	}
	return all
}

// around shows what passes between clients and a gateway.
func (t *tap) around(h http.Handler) http.Handler { return t.wrap("client", "", h) }

// behind shows what passes between the gateway and a server.
func (t *tap) behind(server string, h http.Handler) http.Handler {
	wrapped := t.wrap("server", server, h)
	if r, ok := h.(interface{ Ready(context.Context) error }); ok && t != nil {
		return struct {
			http.Handler
			ready
		}{wrapped, r}
	}
	return wrapped
}

// ready lets a server that is shown still be asked whether it is there.
type ready interface{ Ready(context.Context) error }

func (t *tap) wrap(side, server string, h http.Handler) http.Handler {
	if t == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &tapped{t: t, w: w, r: r, side: side, server: server, number: t.number.Add(1)}
		for _, name := range []string{"Authorization", "X-Api-Key", "Cookie"} {
			for _, value := range r.Header[name] {
				_, token, _ := strings.Cut(value, " ")
				x.secrets = append(x.secrets, value, token)
			}
		}
		r = x.watchBody(r)
		defer x.end()
		h.ServeHTTP(x, r)
	})
}

// watchBody shows the request: at once where its body can be had, and otherwise
// when it has been read.
func (x *tapped) watchBody(r *http.Request) *http.Request {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		x.request(nil)
	case r.GetBody != nil:
		if copied, err := r.GetBody(); err == nil {
			_, _ = io.Copy(io.Discard, &tappedBody{ReadCloser: copied, x: x})
		}
	default:
		body := r.Body
		r = r.WithContext(r.Context())
		r.Body = &tappedBody{ReadCloser: body, x: x}
	}
	return r
}

// tapLine is one line of the tap.
type tapLine struct {
	Time    string              `json:"time"`
	Side    string              `json:"side"`
	Server  string              `json:"server,omitempty"`
	Number  uint64              `json:"exchange"`
	Event   string              `json:"event"`
	Method  string              `json:"method,omitempty"`
	Path    string              `json:"path,omitempty"`
	Status  int                 `json:"status,omitempty"`
	Header  map[string][]string `json:"header,omitempty"`
	Message string              `json:"message,omitempty"`
	Left    int                 `json:"bytes_left_out,omitempty"`
}

func (t *tap) write(line tapLine) {
	line.Time = time.Now().UTC().Format(time.RFC3339Nano)
	text, err := json.Marshal(line)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.w.Write(append(text, '\n')) // see tap
}

// tapped is one exchange that is shown, as its handler's ResponseWriter.
type tapped struct {
	t       *tap
	w       http.ResponseWriter
	r       *http.Request
	side    string
	server  string
	number  uint64
	secrets []string

	mu      sync.Mutex
	asked   bool // the request was shown
	status  int
	pending []byte // bytes of the answer that were not shown yet
	size    int    // and how many they are
}

func (x *tapped) line(event string) tapLine {
	return tapLine{Side: x.side, Server: x.server, Number: x.number, Event: event}
}

// request shows the request, once.
func (x *tapped) request(body *tappedBody) {
	x.mu.Lock()
	again := x.asked
	x.asked = true
	x.mu.Unlock()
	if again {
		return
	}
	line := x.line("request")
	line.Method, line.Path, line.Header = x.r.Method, x.r.URL.Path, x.header(x.r.Header)
	if body != nil {
		line.Message, line.Left = x.show(body.seen, body.size)
	}
	x.t.write(line)
}

// secretHeader tells headers by name that may hold a secret.
var secretHeader = regexp.MustCompile(`(?i)authorization|cookie|token|secret|password|api-?key|session-id|dpop|last-event-id`)

func (x *tapped) header(h http.Header) map[string][]string {
	out := make(map[string][]string, len(h))
	for name, values := range h {
		for _, value := range values {
			if secretHeader.MatchString(name) {
				value = redacted
			}
			if name != "Www-Authenticate" { // which a client must be able to follow
				value = x.clean(value)
			}
			out[name] = append(out[name], value)
		}
	}
	return out
}

// bearerToken is what looks like a token wherever it stands: a JWT, or what follows
// the scheme.
var bearerToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}(\.[A-Za-z0-9_-]*){1,4}|(?i:bearer|dpop)\s+[A-Za-z0-9._~+/-]{6,}=*`)

// secretMember is a member of JSON or a parameter whose name says what it holds.
var secretMember = regexp.MustCompile(`(?i)("[a-z_-]*(?:access_token|refresh_token|id_token|client_secret|password|api_?key)"\s*:\s*")(?:[^"\\]|\\.)*|((?:access_token|sessionId)=)[^&\s"]+`)

// clean takes secrets out of a text.
func (x *tapped) clean(text string) string {
	for _, secrets := range [][]string{x.secrets, x.t.secrets} {
		for _, secret := range secrets {
			if len(secret) >= shortestSecret {
				text = strings.ReplaceAll(text, secret, redacted)
			}
		}
	}
	text = secretMember.ReplaceAllString(text, "${1}${2}"+redacted)
	return bearerToken.ReplaceAllString(text, redacted)
}

// show is what may be shown of a message of which the beginning was kept.
func (x *tapped) show(seen []byte, size int) (text string, left int) {
	text = x.clean(string(seen))
	if size <= x.t.max || len(text) <= x.t.max {
		return text, max(0, size-len(seen))
	}
	return text[:x.t.max], size - x.t.max
}

// tappedBody is a body of a request as it is read.
type tappedBody struct {
	io.ReadCloser
	x    *tapped
	seen []byte
	size int
}

// Read shows the request when all of it was read.
func (b *tappedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.size += n
	b.seen = append(b.seen, p[:min(n, max(0, b.x.t.max+tapMargin-len(b.seen)))]...)
	if err != nil {
		b.x.request(b)
	}
	return n, err
}

// Header returns the header of the answer.
func (x *tapped) Header() http.Header { return x.w.Header() }

// WriteHeader shows status and header of the answer.
func (x *tapped) WriteHeader(status int) {
	x.request(nil)
	x.mu.Lock()
	first := x.status == 0 && status >= http.StatusOK
	if first {
		x.status = status
	}
	x.mu.Unlock()
	if first {
		line := x.line("answer")
		line.Status, line.Header = status, x.header(x.w.Header())
		x.t.write(line)
	}
	x.w.WriteHeader(status)
}

// Write takes bytes of the answer.
func (x *tapped) Write(p []byte) (int, error) {
	x.mu.Lock()
	first := x.status == 0
	x.size += len(p)
	x.pending = append(x.pending, p[:min(len(p), max(0, x.t.max+tapMargin-len(x.pending)))]...)
	x.mu.Unlock()
	if first {
		x.WriteHeader(http.StatusOK)
	}
	return x.w.Write(p)
}

// FlushError shows what was written, which is a whole event or several.
func (x *tapped) FlushError() error {
	x.message()
	return http.NewResponseController(x.w).Flush()
}

// message shows the bytes that were not shown yet.
func (x *tapped) message() {
	x.mu.Lock()
	seen, size := x.pending, x.size
	x.pending, x.size = nil, 0
	x.mu.Unlock()
	if len(bytes.TrimSpace(seen)) == 0 {
		return
	}
	line := x.line("message")
	line.Message, line.Left = x.show(seen, size)
	x.t.write(line)
}

func (x *tapped) end() {
	x.request(nil)
	x.message()
	x.t.write(x.line("end"))
}

// Fail passes on that there is no answer.
func (x *tapped) Fail(err error) {
	line := x.line("failed")
	line.Message = x.clean(err.Error())
	x.t.write(line)
	if f, ok := x.w.(interface{ Fail(error) }); ok {
		f.Fail(err)
	}
}

// Unwrap lets http.ResponseController find what is underneath.
func (x *tapped) Unwrap() http.ResponseWriter { return x.w }
