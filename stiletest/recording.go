package stiletest

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"sync"
)

// RecordedRequest is one request as it reached an upstream.
type RecordedRequest struct {
	Method string
	Path   string
	Query  url.Values
	Host   string
	Header http.Header
	Body   []byte
}

// Recording keeps what reached an upstream. The zero value is ready to use, and
// it is safe for concurrent use.
type Recording struct {
	mu       sync.Mutex
	requests []RecordedRequest
}

// Recorded returns the requests so far, in the order they came. A request is
// recorded when its whole body has arrived, before it is answered.
func (rec *Recording) Recorded() []RecordedRequest {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return append([]RecordedRequest(nil), rec.requests...)
}

// Saw reports whether any request carried the header: Saw("Authorization") must
// stay false behind a gateway.
func (rec *Recording) Saw(header string) bool {
	for _, r := range rec.Recorded() {
		if len(r.Header.Values(header)) > 0 {
			return true
		}
	}
	return false
}

// Forget empties the record.
func (rec *Recording) Forget() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.requests = nil
}

// record keeps a request and leaves its body readable. It returns the body.
func (rec *Recording) record(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.requests = append(rec.requests, RecordedRequest{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Host: r.Host,
		Header: r.Header.Clone(), Body: body,
	})
	return body, nil
}
