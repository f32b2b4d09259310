package relay

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/internal/sse"
)

// phase is how far an answer has come.
type phase uint8

const (
	waiting   phase = iota // for WriteHeader
	deciding               // header known; the first bytes of the body will tell what it is
	holding                // a body is collected for Message
	passing                // a body is sent on as it comes
	streaming              // events are sent on as they end
	ended                  // nothing is taken any more
)

// Writer is the http.ResponseWriter an upstream writes its answer to. It is safe
// for concurrent use. Use it with Serve, or call Finish after the handler.
type Writer struct {
	w http.ResponseWriter
	o Options

	mu       sync.Mutex
	phase    phase
	header   http.Header // the handler's
	out      http.Header // what will be sent
	status   int
	length   int64 // the upstream's Content-Length, -1 when it named none
	labelled bool  // the media type says event stream
	head     bool  // the answer to a HEAD
	encoded  string
	sent     bool // the header went to the client
	dirty    bool // something was sent and not flushed
	cut      bool // the connection must not end in an orderly way
	err      error
	held     []byte // bytes not sent yet: of a body, or of events before the first message

	scan      sse.Scanner
	bodySent  bool // something of the stream itself was sent
	gather    bool // events are kept until those that arrived with them are looked at
	gathered  []byte
	timer     *time.Timer
	lastSent  time.Time
	holdUntil time.Time
	rush      rush
}

// New returns a Writer that sends to w.
func New(w http.ResponseWriter, o Options) *Writer {
	o.setDefaults()
	return &Writer{w: w, o: o, header: make(http.Header), length: -1, scan: sse.Scanner{Max: o.MaxMessage}}
}

// Serve lets h answer r and finishes; see Finish. An http.ErrAbortHandler panic,
// by which a proxy says that the answer broke off, counts as Fail(ErrBrokeOff).
// Any other panic is passed on once the answer has been closed; see Started.
func (w *Writer) Serve(h http.Handler, r *http.Request) error {
	w.head = r.Method == http.MethodHead
	w.run(h, r)
	return w.Finish()
}

func (w *Writer) run(h http.Handler, r *http.Request) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			w.Fail(ErrBrokeOff)
		default:
			w.Fail(fmt.Errorf("panic: %v", p))
			w.mu.Lock()
			w.close()
			w.mu.Unlock()
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
}

// Finish sends what is held and closes the answer. It returns nil when something
// was sent, and otherwise why not: the error of a hook as it is, or an
// *UpstreamError; the caller then answers on the client's ResponseWriter, whose
// header is untouched. It panics with http.ErrAbortHandler when part of a body
// was sent and the rest will not come, so that the server cuts the connection.
func (w *Writer) Finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.close()
	if w.phase == waiting {
		w.start(http.StatusOK)
	}
	switch w.phase {
	case deciding, holding:
		w.finishBody()
	case streaming:
		w.finishStream()
	default:
	}
	if w.cut {
		panic(http.ErrAbortHandler)
	}
	if w.sent {
		return nil
	}
	return w.err
}

// Fail says that the upstream cannot answer, or not to the end. Before anything
// was sent Finish returns an *UpstreamError with err; afterwards a stream ends
// with Broken, and Finish cuts the connection of a body.
func (w *Writer) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != ended {
		w.stop(&UpstreamError{err})
	}
}

// Started reports whether something was sent to the client, so that no other
// answer can be.
func (w *Writer) Started() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}

// Err returns the first error of the answer, also when Finish returns nil
// because it came after something was sent: a hook's, an *UpstreamError, or that
// of a write to a client that is gone.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Header returns the handler's header. It has an effect until WriteHeader.
func (w *Writer) Header() http.Header { return w.header }

// WriteHeader takes the status of the answer. Informational ones and any after
// the first are ignored.
func (w *Writer) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == waiting && status >= http.StatusOK {
		w.start(status)
	}
}

// start decides what can be decided by the header, and shows it to the hook.
func (w *Writer) start(status int) {
	w.status, w.phase = status, deciding
	h := maps.Clone(w.header) // values are replaced here, never changed
	w.out = h
	if types := h["Content-Type"]; len(types) > 1 {
		h["Content-Type"] = types[:1] // clients differ on which of several counts
	}
	w.labelled = isEventStream(h.Get("Content-Type")) && bodyAllowed(status) && !w.head
	w.encoded = encoding(h)
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n >= 0 && bodyAllowed(status) {
		w.length = n
	} else {
		h.Del("Content-Length")
	}
	h.Del("Transfer-Encoding") // the framing is the server's own
	h.Del("Trailer")
	maps.Copy(h, w.w.Header())
	if w.o.Header != nil {
		if err := w.o.Header(status, h); err != nil {
			w.stop(err)
			return
		}
	}
	switch {
	case w.labelled && w.encoded != "":
		w.stop(w.encodedError())
	case w.labelled:
		w.beginStream()
	}
}

func (w *Writer) encodedError() error {
	return &UpstreamError{fmt.Errorf("the answer has the content encoding %q, which was not asked for", w.encoded)}
}

// Write takes bytes of the body. They are not always sent at once; the error
// says that the answer has been refused or ended, or that the client is gone.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == waiting {
		w.start(http.StatusOK)
	}
	switch {
	case w.phase == ended:
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.head || len(p) == 0:
		return len(p), nil
	case w.encoded != "":
		w.stop(w.encodedError())
	default:
		w.take(p)
	}
	if w.phase != ended {
		return len(p), nil
	}
	if w.err != nil {
		return 0, w.err
	}
	return 0, errEnded
}

// take hands the bytes to the phase the answer is in.
func (w *Writer) take(p []byte) {
	switch w.phase {
	case deciding:
		w.decide(p)
	case holding:
		w.hold(p)
	case passing:
		w.send(p)
	case streaming:
		w.feed(p)
	default: // Write has seen to these
	}
}

// stop ends the answer because of err: it is refused while nothing was sent, and
// broken off afterwards.
func (w *Writer) stop(err error) {
	if w.err == nil {
		w.err = err
	}
	if w.sent && w.phase == streaming {
		w.sendGathered()
		if w.o.Broken != nil {
			w.send(w.o.Broken())
		}
		w.flush()
	} else if w.sent {
		w.cut = true
	}
	w.phase = ended
	w.o.Cancel()
}

// sendHeader sends the status and header to the client.
func (w *Writer) sendHeader() {
	if _, ok := w.out["Content-Type"]; !ok {
		w.out["Content-Type"] = nil // keeps net/http from guessing one
	}
	dst := w.w.Header()
	clear(dst)
	maps.Copy(dst, w.out)
	w.w.WriteHeader(w.status)
	w.sent, w.dirty = true, true
}

// send writes to the client; when that fails the client is gone.
func (w *Writer) send(p []byte) {
	if len(p) == 0 || w.phase == ended {
		return
	}
	w.dirty = true
	n, err := w.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.lost(err)
}

func (w *Writer) flush() {
	if w.phase == ended || !w.dirty {
		return
	}
	w.dirty = false
	if err := http.NewResponseController(w.w).Flush(); !errors.Is(err, errors.ErrUnsupported) {
		w.lost(err)
	}
}

func (w *Writer) lost(err error) {
	if err == nil {
		return
	}
	if w.err == nil {
		w.err = fmt.Errorf("client: %w", err)
	}
	w.cut = w.phase != streaming
	w.phase = ended
	w.o.Cancel()
}

// Flush sends what may be sent: of a body that is held, and of a stream before
// its first message, nothing.
func (w *Writer) Flush() { _ = w.FlushError() }

// FlushError is Flush with the error of the answer.
func (w *Writer) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == waiting {
		w.start(http.StatusOK)
	}
	if w.phase == passing {
		w.flush()
	}
	return w.err
}

// SetReadDeadline passes on to the client's ResponseWriter.
func (w *Writer) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(w.w).SetReadDeadline(t)
}

// SetWriteDeadline passes on to the client's ResponseWriter.
func (w *Writer) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(w.w).SetWriteDeadline(t)
}

// EnableFullDuplex passes on to the client's ResponseWriter.
func (w *Writer) EnableFullDuplex() error {
	return http.NewResponseController(w.w).EnableFullDuplex()
}

// close lets go of the timer and the buffers.
func (w *Writer) close() {
	w.phase = ended
	if w.timer != nil {
		w.timer.Stop()
	}
	w.rush.allow(false, w.w)
	giveBuffer(w.held)
	w.held = nil
}

// bodyAllowed reports whether an answer of that status has a body (RFC 9110
// §6.4.1).
func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// encoding is the content coding of an answer, empty for identity.
func encoding(h http.Header) string {
	for _, v := range h.Values("Content-Encoding") {
		if v = strings.TrimSpace(v); v != "" && !strings.EqualFold(v, "identity") {
			return v
		}
	}
	return ""
}

// isEventStream reports whether a client may take the media type for that of an
// event stream: some only look for the name anywhere in the value.
func isEventStream(contentType string) bool {
	return strings.Contains(strings.ToLower(contentType), "text/event-stream")
}
