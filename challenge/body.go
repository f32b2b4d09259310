package challenge

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/scope"
)

// CodeDenied is the JSON-RPC error code of a final denial that is sent in-band
// for another method than tools/call (DES-21). It lies outside the range that
// JSON-RPC and MCP reserve (-32768 to -32000, REQ-37), and names no HTTP status,
// which clients would take for a reason to log in again.
const CodeDenied = -31000

// accessDenied is data.error of a final denial: no scope would help.
const accessDenied = "access_denied"

// Refusal is an HTTP answer that says no, with the JSON-RPC body of DES-14. The
// zero value of a field leaves out what it stands for. A Refusal is not changed
// by its methods.
type Refusal struct {
	// Status is the HTTP status.
	Status int
	// Challenge becomes WWW-Authenticate; nil sends none.
	Challenge *Challenge
	// ID is the raw id of the request. What is no JSON string or number, nil
	// included, becomes null.
	ID jsontext.Value
	// Code is the JSON-RPC error code; 0 means Status (DES-14).
	Code int
	// Message is the JSON-RPC error message; empty means the text of Status.
	Message string
	// Error is data.error, an OAuth error code.
	Error string
	// Description is data.error_description.
	Description string
	// Scope is data.scope, what the challenge asks for, joined by spaces.
	Scope scope.Set
	// Required is data.required_scopes, what the operation needs.
	Required scope.Set
	// Alternatives is data.alternatives, the other sets that would do.
	Alternatives []scope.Set
	// RequestID is data.request_id and X-Request-Id.
	RequestID string
	// RetryAfter becomes Retry-After in whole seconds, rounded up, when positive.
	RetryAfter time.Duration
	// Allow is the Allow header of a 405.
	Allow string
}

// Write sends the refusal. It takes out of w's header what an earlier stage may
// have left there for another body, an upstream's WWW-Authenticate above all.
// The body of an answer to HEAD is dropped by net/http.
func (f Refusal) Write(w http.ResponseWriter) {
	h := w.Header()
	for _, name := range staleHeaders {
		delete(h, name)
	}
	if f.Challenge != nil {
		h.Set("WWW-Authenticate", f.Challenge.Header())
	}
	if f.RetryAfter > 0 {
		seconds := (f.RetryAfter-1)/time.Second + 1
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	if f.Allow != "" {
		h.Set("Allow", f.Allow)
	}
	writeJSON(w, f.Status, f.RequestID, f.Body())
}

// staleHeaders, in canonical form, describe a body that is not sent or speak for
// somebody else.
var staleHeaders = []string{"Www-Authenticate", "Content-Encoding", "Content-Language", "Content-Range", "Etag",
	"Last-Modified", "Retry-After", "Trailer", "Transfer-Encoding", "X-Accel-Buffering"}

// writeJSON sends a body that nobody may store.
func writeJSON(w http.ResponseWriter, status int, requestID string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if isVisible(requestID) {
		h.Set("X-Request-Id", requestID)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone misses nothing
}

// isVisible reports whether s is visible ASCII and not empty, and so fit for a
// header.
func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7F {
			return false
		}
	}
	return s != ""
}

// Body returns the JSON-RPC error response, on one line, members always in the
// same order (DES-14).
func (f Refusal) Body() []byte {
	code, message := f.Code, f.Message
	if code == 0 {
		code = f.Status
	}
	if message == "" {
		message = http.StatusText(f.Status)
	}
	w := writer{hide401: f.Status != http.StatusUnauthorized}
	w.errorResponse(f.ID, code, message, details{
		code: f.Error, description: f.Description, scope: f.Scope, required: f.Required,
		alternatives: f.Alternatives, requestID: f.RequestID,
	})
	return w.b
}

// InBand is a denial inside an answer with status 200: nothing that the client
// could ask its authorization server for would help, so it is not challenged
// (DES-21).
type InBand struct {
	// ID is the raw id of the request.
	ID jsontext.Value
	// Tool says that the request was tools/call, whose answer is a result that
	// the model can read. Every other method gets a JSON-RPC error with
	// CodeDenied.
	Tool bool
	// Modern says that the request was of 2026-07-28 or later, where every
	// result carries resultType.
	Modern bool
	// Text is told to the person; empty means "access denied".
	Text string
	// Challenge, when not nil, stands in _meta["mcp/www_authenticate"] of a
	// tools/call result, as an array of one string, and asks ChatGPT to sign in
	// again (DES-35). It is ignored for other methods.
	Challenge *Challenge
	// Required is data.required_scopes of a JSON-RPC error.
	Required scope.Set
	// RequestID is data.request_id of a JSON-RPC error, and X-Request-Id.
	RequestID string
}

// Write sends the denial with status 200.
func (d InBand) Write(w http.ResponseWriter) {
	for _, name := range staleHeaders {
		delete(w.Header(), name)
	}
	writeJSON(w, http.StatusOK, d.RequestID, d.Body())
}

// Body returns the JSON-RPC response, on one line.
func (d InBand) Body() []byte {
	text := d.Text
	if text == "" {
		text = "access denied"
	}
	w := writer{hide401: true}
	if !d.Tool {
		w.errorResponse(d.ID, CodeDenied, text, details{code: accessDenied, required: d.Required, requestID: d.RequestID})
		return w.b
	}
	w.raw(`{"jsonrpc":"2.0","id":`).id(d.ID).raw(`,"result":{`)
	if d.Modern {
		w.raw(`"resultType":"complete",`)
	}
	w.raw(`"content":[{"type":"text","text":`).text(text).raw(`}],"isError":true`)
	if d.Challenge != nil {
		w.raw(`,"_meta":{"` + metaKey + `":[`).text(d.Challenge.Header()).raw(`]}`)
	}
	return w.raw(`}}`).b
}

// InStream returns the message that takes the place of a 403 once bytes of the
// answer have been sent (DES-23): a JSON-RPC error with the code and the data
// that the 403 would have had, on one line.
func InStream(id jsontext.Value, c Challenge, requestID string) []byte {
	message := c.Description
	if message == "" {
		message = "more scopes are needed"
	}
	return Refusal{Status: http.StatusForbidden, ID: id, Message: message, Error: c.Error, Description: c.Description,
		Scope: c.Scope, Required: c.Scope[:max(0, len(c.Scope)-max(0, c.Optional))], RequestID: requestID}.Body()
}

// StreamError returns the message that ends a stream for any other reason: a
// JSON-RPC error whose code is the HTTP status that an answer would have had, on
// one line.
func StreamError(id jsontext.Value, status int, text, requestID string) []byte {
	return Refusal{Status: status, ID: id, Message: text, RequestID: requestID}.Body()
}
