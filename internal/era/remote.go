package era

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/sse"
)

// The headers of the transport.
const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
)

// DefaultMaxMessage is the longest message taken from a server, in bytes.
const DefaultMaxMessage = 16 << 20

// remote is an MCP server that is reached over Streamable HTTP.
type remote struct {
	transport http.RoundTripper
	max       int
}

// headerKey is the key of a client's header in a context.
type headerKey struct{}

// WithHeader returns a context in which requests to the server carry what a client
// sent beside the protocol, such as traceparent. Credentials must be gone from it.
func WithHeader(ctx context.Context, h http.Header) context.Context {
	return context.WithValue(ctx, headerKey{}, h)
}

// header is a new header for a request to the server.
func header(ctx context.Context) http.Header {
	sent, _ := ctx.Value(headerKey{}).(http.Header)
	h := maps.Clone(sent)
	if h == nil {
		h = http.Header{}
	}
	for name := range h {
		if strings.HasPrefix(name, "Mcp-") || strings.HasPrefix(name, "Content-") {
			delete(h, name)
		}
	}
	h.Del("Last-Event-Id")
	return h
}

// reply is what a server answers to one HTTP request.
type reply struct {
	status int
	header http.Header
	body   io.ReadCloser
	max    int

	lastID string        // of an event
	retry  time.Duration // how long to wait before coming back
}

// post sends one message.
func (r *remote) post(ctx context.Context, h http.Header, line []byte) (*reply, error) {
	h.Set("Accept", "application/json, text/event-stream")
	h.Set("Content-Type", "application/json")
	return r.send(ctx, http.MethodPost, h, line)
}

func (r *remote) send(ctx context.Context, method string, h http.Header, line []byte) (*reply, error) {
	// The place is the transport's: what is said here is not looked at.
	q, err := http.NewRequestWithContext(ctx, method, "http://localhost/", bytes.NewReader(line))
	if err != nil {
		return nil, err
	}
	if line == nil {
		q.Body, q.GetBody, q.ContentLength = http.NoBody, nil, 0
	}
	q.Header = h
	res, err := r.transport.RoundTrip(q) //nolint:bodyclose // the reply's close does
	if err != nil {
		return nil, err
	}
	return &reply{status: res.StatusCode, header: res.Header, body: res.Body, max: r.max}, nil
}

func (a *reply) close() { _ = a.body.Close() }

// isStream reports whether it is answered with an event stream.
func (a *reply) isStream() bool {
	return strings.Contains(strings.ToLower(a.header.Get("Content-Type")), "text/event-stream")
}

// each hands every message of the answer to take, in order, until there are no more
// or take returns false. It closes the answer.
func (a *reply) each(take func(line []byte) bool) error {
	defer a.close()
	if !a.isStream() {
		body, err := a.whole()
		if err == nil && len(bytes.TrimSpace(body)) > 0 {
			take(body)
		}
		return err
	}
	return a.events(take)
}

// whole is a body that is no stream.
func (a *reply) whole() ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(a.body, int64(a.max)+1))
	if err == nil && len(body) > a.max {
		err = fmt.Errorf("the answer is over %d bytes", a.max)
	}
	return body, err
}

// errEnough ends the reading of a stream.
var errEnough = errors.New("enough")

func (a *reply) events(take func(line []byte) bool) error {
	scanner := sse.Scanner{Max: a.max}
	chunk := make([]byte, 4<<10)
	for {
		n, err := a.body.Read(chunk)
		if n > 0 {
			e := scanner.Feed(chunk[:n], func(e sse.Event) error {
				a.note(e)
				if e.HasData && len(e.Data) > 0 && !take(bytes.Clone(e.Data)) {
					return errEnough
				}
				return nil
			})
			if errors.Is(e, errEnough) {
				return nil
			}
			if e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// note keeps what is needed to come back to a stream (2025-11-25 "Resumability and
// Redelivery").
func (a *reply) note(e sse.Event) {
	if e.ID != nil {
		a.lastID = string(e.ID)
	}
	for line := range bytes.Lines(e.Raw) {
		if value, ok := bytes.CutPrefix(line, []byte("retry:")); ok {
			ms, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err == nil && ms >= 0 {
				a.retry = min(time.Duration(ms)*time.Millisecond, maxPause)
			}
		}
	}
}

// refusal is what an answer that is no success says: the server's own JSON-RPC
// error where it sent one. A demand for scopes is kept in the form that the gateway
// reads in messages (DES-23), since on this way there is no header.
func (a *reply) refusal() *failure {
	defer a.close()
	if need, ok := challenge.FromHeader(a.status, a.header); ok {
		var scopes object
		scopes = scopes.with("error", quote("insufficient_scope")).with("error_description", quote(need.Description))
		list := []byte{'['}
		for i, s := range need.Scopes {
			if i > 0 {
				list = append(list, ',')
			}
			list = append(list, quote(s)...)
		}
		return &failure{code: a.status, text: "the MCP server wants more scopes", data: scopes.with("required_scopes", append(list, ']')).bytes()}
	}
	if a.status != http.StatusUnauthorized {
		if body, err := io.ReadAll(io.LimitReader(a.body, int64(a.max))); err == nil {
			if e := errorIn(body); e != nil {
				return &failure{code: codeOf(e), text: lenient(e).text("message"), data: lenient(e).get("data")}
			}
		}
	}
	switch a.status {
	case http.StatusUnauthorized:
		return &failure{code: http.StatusBadGateway, text: "the MCP server did not accept this gateway"}
	case http.StatusForbidden:
		return &failure{code: challenge.CodeDenied, text: "the MCP server refused this"}
	default:
		return &failure{code: http.StatusBadGateway, text: fmt.Sprintf("the MCP server answered with status %d", a.status)}
	}
}

// errorIn is the error of a JSON-RPC answer, nil when body is none.
func errorIn(body []byte) jsontext.Value {
	e := lenient(body).get("error")
	if !isObject(e) {
		return nil
	}
	return e
}

// ask sends a request and waits for its answer; other messages on the way are lost.
func (r *remote) ask(ctx context.Context, h http.Header, line []byte) (*packet, *reply, error) {
	want, err := readPacket(line)
	if err != nil {
		return nil, nil, err
	}
	a, err := r.post(ctx, h, line)
	if err != nil {
		return nil, nil, err
	}
	if a.status != http.StatusOK {
		return nil, a, a.refusal()
	}
	var found *packet
	err = a.each(func(line []byte) bool {
		p, err := readPacket(line)
		if err == nil && p.result == nil && p.failed == nil || err != nil || p.id != nil && p.key() != want.key() {
			return true
		}
		found = p
		return false
	})
	if found == nil && err == nil {
		err = errors.New("the MCP server did not answer")
	}
	return found, a, err
}

// maxPause is the longest pause before a lost stream is come back to, and minPause
// the shortest.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

// pause waits and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
