package forward

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/sse"
)

// watchdog is the server, watched for signs that it is another one than it was.
type watchdog struct{ e *Era }

// ServeHTTP lets the server answer.
func (d watchdog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.e.config.Protocol != ProtocolAuto {
		d.e.config.Upstream.ServeHTTP(w, r)
		return
	}
	d.e.config.Upstream.ServeHTTP(&watchedWriter{ResponseWriter: w, e: d.e, session: r.Header.Get(headerSession) != "", post: r.Method == http.MethodPost}, r)
}

// watchedWriter sees the status of an answer.
type watchedWriter struct {
	http.ResponseWriter
	e       *Era
	session bool // the request names one
	post    bool
}

// WriteHeader looks at the status. Not all of these are signs of another server; it
// is asked again seldom enough (doubtPause) for that not to matter. To ask a command
// costs a process, so that its word is not doubted for what clients may have done.
func (w *watchedWriter) WriteHeader(status int) {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		w.e.doubt()
	case http.StatusNotFound:
		if w.session || !w.e.command {
			w.e.doubt()
		}
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		if w.post && !w.e.command { // many have no GET stream
			w.e.doubt()
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Fail says that there is no answer.
func (w *watchedWriter) Fail(err error) {
	if !errors.Is(err, context.Canceled) { // which is the client's doing
		w.e.doubt()
	}
	if f, ok := w.ResponseWriter.(interface{ Fail(error) }); ok {
		f.Fail(err)
		return
	}
	http.Error(w.ResponseWriter, "the upstream does not answer", http.StatusBadGateway)
}

// holder keeps an answer until it is known what becomes of it.
type holder struct {
	to     http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
	err    error
	passed bool // it is on its way
}

// Header returns the header of the answer.
func (h *holder) Header() http.Header { return h.header }

// WriteHeader keeps the status.
func (h *holder) WriteHeader(status int) {
	if status >= http.StatusOK {
		h.status = status
	}
}

// Fail keeps why there is no answer.
func (h *holder) Fail(err error) { h.err = err }

// Flush sends what is on its way. What is held is not to be sent yet, unless it is a
// stream that has said enough, which may stay open.
func (h *holder) Flush() {
	switch {
	case h.passed:
		_ = http.NewResponseController(h.to).Flush()
	case h.isStream() && h.began():
		h.release()
		_ = http.NewResponseController(h.to).Flush()
	}
}

var errHeld = errors.New("the answer to initialize is too long")

// Write keeps bytes.
func (h *holder) Write(b []byte) (int, error) {
	if h.passed {
		return h.to.Write(b)
	}
	if h.body.Len()+len(b) > maxHeld {
		h.err = errHeld
		return 0, errHeld
	}
	return h.body.Write(b)
}

func (h *holder) isStream() bool {
	return strings.Contains(strings.ToLower(h.header.Get("Content-Type")), "text/event-stream")
}

// began reports whether the answer begins a session.
func (h *holder) began() bool {
	if h.err != nil || h.status != http.StatusOK {
		return false
	}
	ok := false
	look := func(line []byte) {
		m, err := envelope.Read(line)
		ok = ok || err == nil && m.Kind == envelope.Response && !m.Failed
	}
	if !h.isStream() {
		look(h.body.Bytes())
		return ok
	}
	var scan sse.Scanner
	_ = scan.Feed(bytes.Clone(h.body.Bytes()), func(e sse.Event) error {
		if e.HasData {
			look(bytes.Clone(e.Data))
		}
		return nil
	})
	return ok
}

// release sends the answer on.
func (h *holder) release() {
	if h.passed {
		return
	}
	h.passed = true
	if h.err != nil {
		if f, ok := h.to.(interface{ Fail(error) }); ok {
			f.Fail(h.err)
			return
		}
		http.Error(h.to, "the upstream does not answer", http.StatusBadGateway)
		return
	}
	to := h.to.Header()
	for name, values := range h.header {
		to[name] = values
	}
	h.to.WriteHeader(h.status)
	_, _ = h.to.Write(h.body.Bytes())
}
