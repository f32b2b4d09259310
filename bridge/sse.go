package bridge

import (
	"bytes"
	"io"
	"net/http"
	"sync"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
)

// detect is a server that may speak Streamable HTTP or only the transport of
// 2024-11-05, and looks like the former: where an initialize is answered with 400,
// 404 or 405 and a GET opens an event stream that begins with "endpoint", it is the
// latter from then on (2025-11-25 transports "Backwards Compatibility").
type detect struct {
	b      *bridge
	target *target

	mu      sync.Mutex
	older   answer3
	streams map[string]*sseStream // by the session id they are given here
}

func newDetect(b *bridge, t *target) *detect {
	return &detect{b: b, target: t, streams: map[string]*sseStream{}}
}

// RoundTrip sends a request by the transport that the server speaks.
func (d *detect) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	older := d.older
	d.mu.Unlock()
	if older == yes {
		return d.legacy(r)
	}
	res, err := d.target.RoundTrip(r)
	if err != nil || older == no {
		return res, err
	}
	switch m := messageOf(r); {
	case m == nil || m.Method != "initialize":
	case res.StatusCode/100 == 2:
		d.settle(no)
	case res.StatusCode == http.StatusBadRequest, res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusMethodNotAllowed:
		refused := readRefusal(&remote.Reply{Status: res.StatusCode, Header: res.Header, Body: res.Body})
		if !refused.isModern() {
			if s, err := d.open(r.Context()); err == nil {
				d.b.log.Info("the MCP server speaks the older SSE transport")
				d.settle(yes)
				return s.post(r, m)
			}
		}
		res.Body = io.NopCloser(bytes.NewReader(refused.body))
	}
	return res, nil
}

// isModern reports whether a refusal is one that servers of 2026-07-28 send.
func (r *refusal) isModern() bool {
	return r.isRPC && (r.code == codeNoMethod || r.code <= codeMismatch && r.code > codeMismatch-80)
}

// messageOf is the message of a POST; nil when it has none.
func messageOf(r *http.Request) *envelope.Message {
	if r.Method != http.MethodPost || r.GetBody == nil {
		return nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil
	}
	m, err := envelope.Read(raw)
	if err != nil {
		return nil
	}
	return m
}

func (d *detect) settle(older answer3) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.older = older
}

// legacy sends a request by the older transport, as if it were a server of Streamable
// HTTP: a session is an event stream.
func (d *detect) legacy(r *http.Request) (*http.Response, error) {
	m := messageOf(r)
	d.mu.Lock()
	s := d.streams[r.Header.Get(remote.HeaderSession)]
	d.mu.Unlock()
	switch {
	case m != nil && m.Method == "initialize":
		s, err := d.open(r.Context())
		if err != nil {
			return nil, err
		}
		return s.post(r, m)
	case s == nil && r.Header.Get(remote.HeaderSession) == "":
		return answerWith(r, http.StatusBadRequest, "", nil), nil
	case s == nil:
		return answerWith(r, http.StatusNotFound, "", nil), nil
	case r.Method == http.MethodPost && m != nil:
		return s.post(r, m)
	case r.Method == http.MethodGet:
		return answerWith(r, http.StatusOK, "text/event-stream", s.listen(r.Context())), nil
	case r.Method == http.MethodDelete:
		s.cut()
		<-s.done
		return answerWith(r, http.StatusNoContent, "", nil), nil
	}
	return answerWith(r, http.StatusMethodNotAllowed, "", nil), nil
}

func answerWith(r *http.Request, status int, media string, body io.ReadCloser) *http.Response {
	res := &http.Response{StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: body, ContentLength: -1, Request: r}
	if body == nil {
		res.Body, res.ContentLength = http.NoBody, 0
	}
	if media != "" {
		res.Header.Set("Content-Type", media)
	}
	return res
}

// close ends every event stream.
func (d *detect) close() {
	d.mu.Lock()
	var all []*sseStream
	for _, s := range d.streams {
		all = append(all, s)
	}
	d.mu.Unlock()
	for _, s := range all {
		s.cut()
		<-s.done
	}
}
