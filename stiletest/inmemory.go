package stiletest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
)

// InMemory is an http.RoundTripper that asks a handler without any network, for
// tests under testing/synctest: whatever the host of a request is, the handler
// answers it. An answer is there when the handler has returned, so that streams
// that go on cannot be read. A handler that panics with http.ErrAbortHandler is
// a connection that was cut. Safe for concurrent use where the handler is.
type InMemory struct{ Handler http.Handler }

// RoundTrip runs the handler until it returns or the request is cancelled.
func (m InMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	in.RequestURI, in.RemoteAddr, in.Proto, in.ProtoMajor, in.ProtoMinor = r.URL.RequestURI(), "192.0.2.1:1", "HTTP/1.1", 1, 1
	if in.Body == nil {
		in.Body = http.NoBody
	}
	type result struct {
		res *http.Response
		err error
	}
	done := make(chan result, 1)
	go func() {
		w := httptest.NewRecorder()
		err := serveAborting(m.Handler, w, in)
		done <- result{w.Result(), err}
	}()
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case out := <-done:
		if out.err != nil {
			return nil, out.err
		}
		out.res.Request = r
		return out.res, nil
	}
}

// serveAborting turns the panic of a handler that gives up into an error.
func serveAborting(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = fmt.Errorf("stiletest: the connection was cut: %w", io.ErrUnexpectedEOF)
		default:
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

// Client is an http.Client that reaches the issuer without any network; see
// InMemory. The issuer needs IssuerOptions.URL then.
func (i *Issuer) Client() *http.Client { return &http.Client{Transport: InMemory{i}} }
