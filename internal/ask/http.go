package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/stile-mcp/stile/internal/sse"
)

// web speaks Streamable HTTP.
type web struct {
	target  Target
	client  *http.Client
	session string
	version string
	left    int // of maxBytes
}

func newHTTP(t Target) *web {
	return &web{target: t, left: maxBytes, client: &http.Client{
		Transport: http.DefaultTransport.(*http.Transport).Clone(),
		// The gateway does not follow either, and credentials stay where they belong.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// goodbye is how long the end of a session may take.
const goodbye = 2 * time.Second

func (w *web) close() {
	if w.session != "" {
		ctx, cancel := context.WithTimeout(context.Background(), goodbye)
		defer cancel()
		if r, err := w.request(ctx, http.MethodDelete, nil); err == nil {
			if answer, err := w.client.Do(r); err == nil {
				answer.Body.Close()
			}
		}
	}
	w.client.CloseIdleConnections()
}

// statusError is an answer that says nothing but its status.
type statusError struct{ status int }

// Error says what may help.
func (e *statusError) Error() string {
	text := fmt.Sprintf("the server answered with status %d %s", e.status, http.StatusText(e.status))
	switch {
	case e.status == http.StatusUnauthorized || e.status == http.StatusForbidden:
		return text + ": give its own credential with --header"
	case e.status >= 300 && e.status < 400:
		return text + ": give the URL that it sends to"
	default:
		return text
	}
}

// mayBeEra reports whether a server that does not know the method could have
// answered so.
func (e *statusError) mayBeEra() bool {
	return e.status >= 400 && e.status < 500 && e.status != http.StatusUnauthorized && e.status != http.StatusForbidden
}

func (w *web) request(ctx context.Context, method string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.target.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range w.target.Header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	if w.session != "" {
		r.Header.Set("Mcp-Session-Id", w.session)
	}
	if w.version != "" {
		r.Header.Set("Mcp-Protocol-Version", w.version)
	}
	return r, nil
}

// post sends one message.
func (w *web) post(ctx context.Context, message any, r *request) (*http.Response, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	if r.version != "" {
		w.version = r.version
	}
	out, err := w.request(ctx, http.MethodPost, body)
	if err != nil {
		return nil, err
	}
	if r.version == modernVersion {
		out.Header.Set("Mcp-Method", r.Method)
	}
	answer, err := w.client.Do(out)
	if err != nil {
		return nil, err
	}
	if id := answer.Header.Get("Mcp-Session-Id"); id != "" {
		w.session = id
	}
	return answer, nil
}

func (w *web) notify(ctx context.Context, r *request) error {
	answer, err := w.post(ctx, r, r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s: %w", r.Method, &statusError{answer.StatusCode})
	}
	return nil
}

var (
	errTooMuch = fmt.Errorf("the server sends more than %d MiB", maxBytes>>20)
	errNoReply = errors.New("the answer is no JSON-RPC response")
)

func (w *web) call(ctx context.Context, r *request) (*reply, error) {
	answer, err := w.post(ctx, r, r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if media == "text/event-stream" && answer.StatusCode == http.StatusOK {
		return w.stream(ctx, r, answer.Body)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, int64(w.left)+1))
	if err != nil {
		return nil, err
	}
	if w.left -= len(body); w.left < 0 {
		return nil, errTooMuch
	}
	var m reply
	if json.Unmarshal(body, &m) == nil && (m.answers(r) || m.Error != nil && answer.StatusCode != http.StatusUnauthorized) {
		return &m, nil
	}
	if answer.StatusCode != http.StatusOK {
		return nil, &statusError{answer.StatusCode}
	}
	return nil, errNoReply
}

// stream reads events until the answer is among them, and answers what the server
// asks meanwhile.
func (w *web) stream(ctx context.Context, r *request, body io.Reader) (*reply, error) {
	var found *reply
	scan, chunk := sse.Scanner{Max: maxBytes}, make([]byte, 16<<10)
	for {
		n, err := body.Read(chunk)
		if w.left -= n; w.left < 0 {
			return nil, errTooMuch
		}
		wrong := scan.Feed(chunk[:n], func(e sse.Event) error {
			var m reply
			readable := json.Unmarshal(e.Data, &m) == nil
			if found != nil || !readable {
				return nil
			}
			if m.answers(r) {
				found = &m
				return nil
			}
			return w.oblige(ctx, &m)
		})
		switch {
		case found != nil:
			return found, nil
		case wrong != nil:
			return nil, wrong
		case errors.Is(err, io.EOF):
			return nil, errors.New("the stream ended without the answer")
		case err != nil:
			return nil, err
		}
	}
}

// oblige answers a request of the server.
func (w *web) oblige(ctx context.Context, m *reply) error {
	ours := answerTo(m)
	if ours == nil {
		return nil
	}
	answer, err := w.post(ctx, ours, &request{})
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// answerTo is what a client that only looks answers to a request; nil for what is
// none.
func answerTo(m *reply) any {
	if m.Method == "" || m.ID == nil || string(m.ID) == "null" {
		return nil
	}
	answer := map[string]any{"jsonrpc": "2.0", "id": m.ID}
	switch m.Method {
	case "ping":
		answer["result"] = map[string]any{}
	case "roots/list":
		answer["result"] = map[string]any{"roots": []any{}}
	default:
		answer["error"] = map[string]any{"code": methodNotFound, "message": "this client only looks"}
	}
	return answer
}
