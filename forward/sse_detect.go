package forward

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/stile-mcp/stile/internal/envelope"
)

// Detect sends requests to a URL that may speak Streamable HTTP or only the legacy
// transport, as clients are told to do it (2025-11-25 transports "Backwards
// Compatibility"): where an initialize is answered with 400, 404 or 405 and a GET
// opens a legacy event stream, it is the latter, from then on. It is an
// http.Handler, safe for concurrent use.
type Detect struct {
	http *HTTP
	sse  *SSE
	// One of them is set by the first initialize that tells.
	modern, legacy atomic.Bool
}

// NewDetect returns the forwarder for a URL. Its error is a problem.List.
func NewDetect(c SSEConfig) (*Detect, error) {
	s, err := NewSSE(c)
	if err != nil {
		return nil, err
	}
	h, err := NewHTTP(c.HTTP)
	if err != nil {
		return nil, err
	}
	return &Detect{http: h, sse: s}, nil
}

// ServeHTTP answers by the transport that the URL speaks.
func (d *Detect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.legacy.Load() {
		d.sse.ServeHTTP(w, r)
		return
	}
	if !d.modern.Load() {
		r = r.WithContext(r.Context()) // a copy, whose body may be exchanged
		if body := readInitialize(r); body != nil {
			d.probe(w, r, body)
			return
		}
	}
	d.http.ServeHTTP(w, r)
}

// readInitialize returns the body of a request that begins a session, nil of any
// other. The body of r can be read again.
func readInitialize(r *http.Request) []byte {
	if r.Method != http.MethodPost {
		return nil
	}
	text, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(text))
	if err != nil || !bytes.Contains(text, []byte("initialize")) {
		return nil
	}
	if m, err := envelope.Read(text); err != nil || m.Method != "initialize" {
		return nil
	}
	return text
}

// probe tries Streamable HTTP, and the legacy transport where that is refused in
// one of the three ways.
func (d *Detect) probe(w http.ResponseWriter, r *http.Request, body []byte) {
	held := &refusalHolder{ResponseWriter: w}
	d.http.ServeHTTP(held, r)
	if held.status == 0 {
		if !held.failed {
			d.modern.Store(true)
		}
		return
	}
	if d.sse.speaks(r.Context()) {
		d.legacy.Store(true)
		r.Body = io.NopCloser(bytes.NewReader(body))
		clear(w.Header())
		d.sse.ServeHTTP(w, r)
		return
	}
	w.WriteHeader(held.status)
	_, _ = w.Write(held.body.Bytes())
}

// Ready reports whether the URL takes connections.
func (d *Detect) Ready(ctx context.Context) error { return d.http.Ready(ctx) }

// Close ends everything of both transports.
func (d *Detect) Close() {
	d.sse.Close()
	d.http.Close()
}

// refusalHolder holds back an answer of which it is not yet known whether it counts.
type refusalHolder struct {
	http.ResponseWriter
	status int // of the answer that is held, 0: none is
	failed bool
	body   bytes.Buffer
}

// WriteHeader passes the status on, or holds it.
func (w *refusalHolder) WriteHeader(status int) {
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
		w.status = status
	default:
		w.ResponseWriter.WriteHeader(status)
	}
}

// Write passes bytes on, or holds the first of them.
func (w *refusalHolder) Write(p []byte) (int, error) {
	if w.status == 0 {
		return w.ResponseWriter.Write(p)
	}
	w.body.Write(p[:min(len(p), max(0, maxRefusal-w.body.Len()))])
	return len(p), nil
}

// FlushError flushes what was passed on.
func (w *refusalHolder) FlushError() error {
	if w.status != 0 {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Fail says that there is no answer.
func (w *refusalHolder) Fail(err error) {
	w.failed = true
	if f, ok := w.ResponseWriter.(interface{ Fail(error) }); ok {
		f.Fail(err)
		return
	}
	http.Error(w.ResponseWriter, "the upstream does not answer", http.StatusBadGateway)
}

// Unwrap lets http.ResponseController find what is underneath.
func (w *refusalHolder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
