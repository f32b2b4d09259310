package stiletest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Recorder is an http.RoundTripper that writes down what passes, without the
// secrets in it. The zero value sends with http.DefaultTransport. It is safe for
// concurrent use; its fields must not be changed after the first request.
type Recorder struct {
	// Base sends the requests. Default http.DefaultTransport.
	Base http.RoundTripper
	// OnResponse is told of each exchange as soon as its answer begins; the
	// body of the answer is not there yet. From many goroutines.
	OnResponse func(Exchange)

	mu        sync.Mutex
	exchanges []*Exchange
}

// Exchange is one request and its answer. Tokens, codes, verifiers and client
// secrets are replaced by the word "redacted" everywhere.
type Exchange struct {
	Method string
	URL    string
	// At is when the request was sent, and Took how long its answer took to begin.
	At   time.Time
	Took time.Duration
	// Request and Response hold the header fields that tell of the protocol;
	// the rest is left out.
	Request     http.Header
	RequestBody string
	// Status of the answer; 0 where none came, and Err says why.
	Status       int
	Err          string
	Response     http.Header
	ResponseBody string

	seen []byte // of the answer's body, as it came; guarded by Recorder.mu
}

// recordedBody bounds what is kept of one body, in bytes.
const recordedBody = 1 << 20

// requestFields and responseFields are kept of the headers; what is not known
// to be of use and harmless is left out.
var (
	requestFields = []string{
		"Accept", "Authorization", "Content-Type", "Last-Event-Id", "Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version", "Mcp-Session-Id", "Origin",
	}
	responseFields = []string{
		"Allow", "Cache-Control", "Content-Type", "Location", "Mcp-Session-Id", "Retry-After", "Www-Authenticate", "X-Request-Id",
	}
)

// RoundTrip sends the request and records the exchange. The body of the answer
// is recorded while it is read.
func (rec *Recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	e := &Exchange{Method: r.Method, URL: redactURL(r.URL.String()), At: time.Now(), Request: keep(r.Header, requestFields)}
	r, err := e.takeBody(r)
	if err != nil {
		return nil, err
	}
	rec.mu.Lock()
	rec.exchanges = append(rec.exchanges, e)
	rec.mu.Unlock()
	base := rec.Base
	if base == nil {
		base = http.DefaultTransport
	}
	res, err := base.RoundTrip(r)
	rec.mu.Lock()
	e.Took = time.Since(e.At)
	if err != nil {
		e.Err = err.Error()
	} else {
		e.Status, e.Response = res.StatusCode, keep(res.Header, responseFields)
		res.Body = &recordingBody{ReadCloser: res.Body, rec: rec, e: e}
	}
	told := *e
	rec.mu.Unlock()
	if rec.OnResponse != nil {
		rec.OnResponse(told)
	}
	return res, err
}

// takeBody reads the request's body and returns a request that has it still.
func (e *Exchange) takeBody(r *http.Request) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	e.RequestBody = redactBody(string(body[:min(len(body), recordedBody)]), r.Header.Get("Content-Type"))
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r, nil
}

// recordingBody records an answer's body as it is read.
type recordingBody struct {
	io.ReadCloser
	rec *Recorder
	e   *Exchange
}

func (b *recordingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.rec.mu.Lock()
	defer b.rec.mu.Unlock()
	b.e.seen = append(b.e.seen, p[:min(n, recordedBody-len(b.e.seen))]...)
	return n, err
}

// Exchanges returns what was recorded so far, in the order of the requests. The
// body of an answer is there as far as it was read.
func (rec *Recorder) Exchanges() []Exchange {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	out := make([]Exchange, len(rec.exchanges))
	for n, e := range rec.exchanges {
		out[n] = *e
		out[n].ResponseBody, out[n].seen = redactBody(string(e.seen), e.Response.Get("Content-Type")), nil
	}
	return out
}

// Forget empties the record.
func (rec *Recorder) Forget() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.exchanges = nil
}

// String writes the exchange as a transcript: lines of the request after ">",
// lines of the answer after "<".
func (e Exchange) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "> %s %s\n", e.Method, e.URL)
	section(&b, ">", e.Request, e.RequestBody)
	if e.Status == 0 {
		fmt.Fprintf(&b, "< no answer: %s\n", e.Err)
		return b.String()
	}
	fmt.Fprintf(&b, "< %d %s\n", e.Status, http.StatusText(e.Status))
	section(&b, "<", e.Response, e.ResponseBody)
	return b.String()
}

func section(b *strings.Builder, mark string, header http.Header, body string) {
	for _, line := range headerLines(header) {
		fmt.Fprintf(b, "%s %s\n", mark, line)
	}
	if body == "" {
		return
	}
	fmt.Fprintln(b, mark)
	for line := range strings.SplitSeq(strings.TrimRight(body, "\n"), "\n") {
		fmt.Fprintf(b, "%s %s\n", mark, line)
	}
}

// spelling is how a field is written where Go's canonical form is not how
// people know it.
var spelling = map[string]string{
	"Www-Authenticate": "WWW-Authenticate", "Mcp-Protocol-Version": "MCP-Protocol-Version",
}

// headerLines are the fields of a header, sorted by name, a line for each value.
func headerLines(header http.Header) []string {
	var lines []string
	for name, values := range header {
		if known, ok := spelling[name]; ok {
			name = known
		}
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		nameA, _, _ := strings.Cut(a, ":")
		nameB, _, _ := strings.Cut(b, ":")
		return strings.Compare(nameA, nameB)
	})
	return lines
}

// redacted stands where a secret was.
const redacted = "redacted"

// secret are the names of parameters and members that are never written down.
var secret = []string{
	"access_token", "refresh_token", "id_token", "token", "code", "code_verifier", "client_secret", "client_assertion", "registration_access_token",
}

var (
	secretMember = regexp.MustCompile(`("(?:` + strings.Join(secret, "|") + `)"\s*:\s*)"(?:[^"\\]|\\.)*"?`) // also where the body breaks off
	anyJWT       = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*`)
)

// keep copies the named fields and takes the secrets out of them.
func keep(header http.Header, names []string) http.Header {
	out := http.Header{}
	for _, name := range names {
		for _, v := range header.Values(name) {
			switch name {
			case "Authorization":
				scheme, _, _ := strings.Cut(v, " ")
				v = scheme + " " + redacted
			case "Location":
				v = redactURL(v)
			}
			out.Add(name, anyJWT.ReplaceAllString(v, redacted))
		}
	}
	return out
}

// redactURL takes the secrets out of the query of a URL.
func redactURL(raw string) string {
	base, query, ok := strings.Cut(raw, "?")
	if !ok {
		return anyJWT.ReplaceAllString(raw, redacted)
	}
	return anyJWT.ReplaceAllString(base, redacted) + "?" + redactForm(query)
}

// redactForm takes the secrets out of form-encoded text and keeps its order. A
// pair that does not decode is taken out whole.
func redactForm(form string) string {
	pairs := strings.Split(form, "&")
	for n, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		switch {
		case err != nil:
			pairs[n] = redacted
		case slices.Contains(secret, decoded):
			pairs[n] = name + "=" + redacted
		default:
			pairs[n] = anyJWT.ReplaceAllString(pair, redacted)
		}
	}
	return strings.Join(pairs, "&")
}

// redactBody takes the secrets out of a body.
func redactBody(body, contentType string) string {
	if strings.HasPrefix(contentType, "application/x-www-form-urlencoded") {
		return redactForm(body)
	}
	body = secretMember.ReplaceAllString(body, `$1"`+redacted+`"`)
	return anyJWT.ReplaceAllString(body, redacted)
}
