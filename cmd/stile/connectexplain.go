package main

import (
	"net/http"

	"github.com/stile-mcp/stile/stepup"
)

// explaining turns a refusal that the transport did not follow into the error that
// says why, and what can be done: the client is to be told that, and not the status.
// Only for POST: what comes of other requests nobody is told.
type explaining struct{ next http.RoundTripper }

// RoundTrip sends a request.
func (e explaining) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodPost {
		return resp, err
	}
	if why := stepup.Explanation(resp); why != nil {
		_ = resp.Body.Close()
		return nil, why
	}
	return resp, nil
}
