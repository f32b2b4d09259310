package stiletest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// IssuerRequest is one request as it reached an Issuer.
type IssuerRequest struct {
	Endpoint Endpoint
	Method   string
	Path     string
	Query    url.Values
	// Form is the body where it was a form; nil elsewhere.
	Form   url.Values
	Header http.Header
	Body   []byte
	// Status is what was answered; 0 while it is being decided, when the
	// connection was dropped, and when Intercept answered.
	Status int
}

// Scopes are the scopes asked for, by query or form.
func (r IssuerRequest) Scopes() []string {
	return strings.Fields(r.Query.Get("scope") + " " + r.Form.Get("scope"))
}

// Event is what an Issuer made of one request, for a narrator.
type Event struct {
	Endpoint Endpoint
	Status   int
	// GrantType is that of the token endpoint.
	GrantType string
	ClientID  string
	Subject   string
	// Asked and Granted are scopes.
	Asked, Granted []string
	Resource       []string
	// Error is the OAuth error code, empty where all went well.
	Error string
}

// Requests returns the requests so far, in the order they came: all of them, or
// those of the endpoints named.
func (i *Issuer) Requests(endpoints ...Endpoint) []IssuerRequest {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []IssuerRequest
	for _, r := range i.requests {
		if len(endpoints) == 0 || slices.Contains(endpoints, r.Endpoint) {
			out = append(out, *r)
		}
	}
	return out
}

// Count is how many requests an endpoint had.
func (i *Issuer) Count(endpoint Endpoint) int { return len(i.Requests(endpoint)) }

// Forget empties what Requests and Count tell; keys, clients and tokens stay.
func (i *Issuer) Forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests = nil
}

// Down makes every endpoint answer 503 while it is true. Requests are counted
// all the same.
func (i *Issuer) Down(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Drop makes the issuer cut every connection without an answer while it is true.
// Requests are counted all the same.
func (i *Issuer) Drop(drop bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drop = drop
}

func (i *Issuer) state() (down, drop bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.down, i.drop
}

// record keeps a request before it is decided, and leaves it readable.
func (i *Issuer) record(endpoint Endpoint, r *http.Request) *IssuerRequest {
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxIssuerBody))
	record := &IssuerRequest{
		Endpoint: endpoint, Method: r.Method, Path: r.URL.Path,
		Query: r.URL.Query(), Header: r.Header.Clone(), Body: body,
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		record.Form, _ = url.ParseQuery(string(body))
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests = append(i.requests, record)
	return record
}

// maxIssuerBody bounds what an issuer reads of a request, in bytes.
const maxIssuerBody = 1 << 20

// finish completes the record and tells the narrator.
func (i *Issuer) finish(record *IssuerRequest, event *Event, a answer) {
	event.Status = a.code()
	if a.err != nil {
		event.Error = a.err.Code
	}
	i.mu.Lock()
	record.Status = event.Status
	i.mu.Unlock()
	if i.options.OnEvent != nil {
		i.options.OnEvent(*event)
	}
}

// OAuthError is an error of RFC 6749 §4.1.2.1 or §5.2.
type OAuthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// Error returns code and description.
func (e *OAuthError) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Code + ": " + e.Description
}

// answer is what an endpoint says: a redirect, an error or a document.
type answer struct {
	status    int // 0: by what follows
	location  string
	err       *OAuthError
	body      any
	challenge bool // 401 that names Basic (RFC 6749 §5.2)
}

func (a answer) code() int {
	switch {
	case a.status != 0:
		return a.status
	case a.location != "":
		return http.StatusFound
	case a.err != nil && a.err.Code == "invalid_client":
		return http.StatusUnauthorized
	case a.err != nil:
		return http.StatusBadRequest
	}
	return http.StatusOK
}

func (a answer) write(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	if a.location != "" {
		w.Header().Set("Location", a.location)
		w.WriteHeader(a.code())
		return
	}
	if a.challenge {
		w.Header().Set("WWW-Authenticate", `Basic realm="stiletest"`)
	}
	body := a.body
	if a.err != nil {
		body = a.err
	}
	if body == nil {
		w.WriteHeader(a.code())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.code())
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
