package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// patient is a server that may be silent for so long only. What counts is the time
// during which a request is on the wire, or an answer on its way: a login between two
// attempts takes as long as it takes.
type patient struct {
	base   http.RoundTripper
	limit  time.Duration
	silent atomic.Bool
}

func newPatient(base http.RoundTripper, limit time.Duration) *patient {
	return &patient{base: base, limit: limit}
}

var errSilent = errors.New("the MCP server does not answer")

// gaveUp reports whether a request was ended for want of an answer.
func (p *patient) gaveUp() bool { return p.silent.Load() }

// RoundTrip sends a request. Its end is counted from when the body of the answer has
// been closed.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	t := time.AfterFunc(p.limit, func() {
		p.silent.Store(true)
		cancel(errSilent)
	})
	t.Stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest:         func(httptrace.WroteRequestInfo) { t.Reset(p.limit) },
		GotFirstResponseByte: func() { t.Stop() },
	})
	res, err := p.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		t.Stop()
		if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	t.Reset(p.limit)
	res.Body = &patientBody{res.Body, func() { t.Stop() }, func() { cancel(nil) }}
	return res, nil
}

type patientBody struct {
	io.ReadCloser
	stop, cancel func()
}

// Close ends the wait.
func (b *patientBody) Close() error {
	b.stop()
	b.cancel()
	return b.ReadCloser.Close()
}

// onWire returns a context of requests that says when one has been written.
func onWire(ctx context.Context, wrote func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				wrote()
			}
		},
	})
}

// calm lets the body of an answer take as long as it takes from now on.
func calm(body io.ReadCloser) {
	if b, ok := body.(*patientBody); ok {
		b.stop()
	}
}
