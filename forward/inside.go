package forward

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// inside is a transport to a handler in this process.
type inside struct{ handler http.Handler }

// RoundTrip lets the handler answer. The handler's request ends when the body of the
// answer is closed.
func (t inside) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	body, out := io.Pipe()
	w := &pipeWriter{header: http.Header{}, begun: make(chan struct{}), out: out}
	go t.serve(w, r.WithContext(ctx))
	select {
	case <-w.begun:
	case <-ctx.Done():
		cancel()
		_ = body.Close()
		return nil, context.Cause(r.Context())
	}
	if w.err != nil {
		cancel()
		_ = body.Close()
		return nil, w.err
	}
	return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: &insideBody{body, cancel}, ContentLength: -1, Request: r}, nil
}

// serve runs the handler. A panic breaks the answer off.
func (t inside) serve(w *pipeWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			w.end(fmt.Errorf("the answer broke off: %v", p))
			return
		}
		w.end(nil)
	}()
	t.handler.ServeHTTP(w, r)
}

// insideBody is the answer's body.
type insideBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close ends the handler's request as well.
func (b *insideBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// pipeWriter is the ResponseWriter of inside. Writes wait for the reader, so that
// nothing piles up.
type pipeWriter struct {
	header http.Header
	out    *io.PipeWriter
	once   sync.Once
	begun  chan struct{} // closed when the rest is set
	status int
	sent   http.Header
	err    error
}

// Header returns the header to be sent.
func (w *pipeWriter) Header() http.Header { return w.header }

// WriteHeader lets RoundTrip return.
func (w *pipeWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.once.Do(func() {
			w.status, w.sent = status, w.header.Clone()
			close(w.begun)
		})
	}
}

// Write hands bytes to the reader of the body.
func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.out.Write(b)
}

// Flush lets RoundTrip return: what was written has been read.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

// Fail says that there is no answer.
func (w *pipeWriter) Fail(err error) { w.end(err) }

func (w *pipeWriter) end(err error) {
	if err != nil {
		w.once.Do(func() {
			w.err = err
			close(w.begun)
		})
	}
	w.WriteHeader(http.StatusOK)
	_ = w.out.CloseWithError(err)
}
