package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/internal/stdio"
)

// maxRefusal is how much of the body of a refusal is kept, in bytes.
const maxRefusal = 64 << 10

// sseConnection is one event stream of a server, and the URL to send messages to.
type sseConnection struct {
	s       *SSE
	receive func([]byte) error
	ctx     context.Context // of the stream and of every POST
	cancel  context.CancelCauseFunc

	ready    chan struct{} // closed when endpoint is known
	endpoint *url.URL
	done     chan struct{} // closed when it is over; err is set before
	err      error

	hearing sync.Mutex // receive is called one message at a time
}

// connect opens the event stream in the background.
func (s *SSE) connect(receive func([]byte) error) *sseConnection {
	c := &sseConnection{s: s, receive: receive, ready: make(chan struct{}), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	go c.run()
	return c
}

func (c *sseConnection) run() {
	err := c.listen()
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	c.err = err
	c.cancel(err)
	close(c.done)
}

// Done is closed when the stream is over and all that came has been received.
func (c *sseConnection) Done() <-chan struct{} { return c.done }

// Err is why it is over.
func (c *sseConnection) Err() error { return c.err }

// Stop ends the stream.
func (c *sseConnection) Stop(ctx context.Context) {
	c.cancel(stdio.ErrStopped)
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

// request makes one request with the server's own credential, and nothing of any
// caller's (REQ-05).
func (c *sseConnection) request(method string, to *url.URL, body []byte) (*http.Response, error) {
	h := c.s.http
	r, err := http.NewRequestWithContext(c.ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Host = h.host
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Accept-Encoding", "identity")
	if method == http.MethodPost {
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Content-Type", "application/json")
	}
	for name, values := range h.header {
		r.Header[name] = values
	}
	// Not by a client: it would follow redirects, and the credential is meant for
	// the configured server alone.
	res, err := h.transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.url.Host, err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 3 {
		return nil, errUnreachable(&RedirectError{res.StatusCode, res.Header.Get("Location")})
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	return nil, &answered{res.StatusCode, res.Header, text}
}

// listen reads the event stream to its end, which is always an error.
func (c *sseConnection) listen() error {
	res, err := c.request(http.MethodGet, c.s.http.url, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if !strings.HasPrefix(strings.ToLower(res.Header.Get("Content-Type")), "text/event-stream") {
		return fmt.Errorf("%s: the answer to a GET is no event stream", c.s.http.url.Host)
	}
	scan := sse.Scanner{Max: c.s.maxMessage + 1<<10}
	buf := make([]byte, smallBuffer)
	for {
		n, err := res.Body.Read(buf)
		if ferr := scan.Feed(buf[:n], c.event); ferr != nil {
			return ferr
		}
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the server ended the event stream")
		case err != nil:
			return err
		}
	}
}

// event takes one event: the URL for messages, which comes first, or a message.
// Any other is not of this transport.
func (c *sseConnection) event(ev sse.Event) error {
	switch string(ev.Type) {
	case "endpoint":
		return c.learn(string(ev.Data))
	case "", "message":
	default:
		return nil
	}
	if len(bytes.TrimSpace(ev.Data)) > 0 {
		c.hear(ev.Data)
	}
	return nil
}

// learn takes the URL for messages, once.
func (c *sseConnection) learn(text string) error {
	if c.endpoint != nil {
		return nil
	}
	u, err := sse.MessageURL(c.s.http.url, text)
	if err != nil {
		return err
	}
	c.endpoint = u
	close(c.ready)
	return nil
}

func (c *sseConnection) hear(line []byte) {
	c.hearing.Lock()
	defer c.hearing.Unlock()
	if err := c.receive(line); err != nil {
		c.s.log.Warn("message of the MCP server skipped", "error", err)
	}
}

// takeTime is how long a POST may take before the message counts as taken.
const takeTime = 500 * time.Millisecond

// Send posts one message and waits for the server to take it. A server may answer
// the POST only when the call is done, and ask something on the stream before that:
// after a short time it counts as taken.
func (c *sseConnection) Send(ctx context.Context, line []byte) error {
	select {
	case <-c.ready:
	case <-c.done:
		return c.unreachable()
	case <-ctx.Done():
		return ctx.Err()
	}
	message := bytes.Clone(bytes.TrimSuffix(line, []byte("\n")))
	outcome := make(chan error, 1)
	go func() { outcome <- c.post(message) }()
	hold := time.NewTimer(takeTime)
	defer hold.Stop()
	select {
	case err := <-outcome:
		return err
	case <-c.done:
		return stdio.ErrGone
	case <-ctx.Done():
		return ctx.Err()
	case <-hold.C:
		go c.late(message, outcome)
		return nil
	}
}

// unreachable is why there was never a stream.
func (c *sseConnection) unreachable() error {
	select {
	case <-c.ready:
		return stdio.ErrGone
	default:
	}
	var (
		no   *answered
		mine *refusal
	)
	switch {
	case errors.Is(c.err, stdio.ErrStopped):
		return stdio.ErrGone
	case errors.As(c.err, &no), errors.As(c.err, &mine):
		return c.err
	default:
		return errUnreachable(c.err)
	}
}

func (c *sseConnection) post(message []byte) error {
	res, err := c.request(http.MethodPost, c.endpoint, message)
	var no *answered
	switch {
	case err == nil:
		_, _ = io.CopyN(io.Discard, res.Body, maxRefusal) // so that the connection can be used again
		return res.Body.Close()
	case errors.As(err, &no) && (no.status == http.StatusNotFound || no.status == http.StatusGone):
		c.cancel(errors.New("the server no longer knows the session"))
		return stdio.ErrGone
	case errors.As(err, &no), errors.As(err, new(*refusal)):
		return err
	case c.ctx.Err() != nil:
		return stdio.ErrGone
	default:
		return errUnreachable(err)
	}
}

// late waits for a POST that counts as taken. If the server refuses it after all,
// a request is answered with that.
func (c *sseConnection) late(message []byte, outcome <-chan error) {
	err := <-outcome
	if err == nil || errors.Is(err, stdio.ErrGone) {
		return
	}
	c.s.log.Warn("message not taken by the MCP server", "error", err)
	m, rerr := envelope.Read(message)
	if rerr != nil || m.Kind != envelope.Request {
		return
	}
	c.hear(errorLine(m.At(m.ID), http.StatusBadGateway, "the MCP server did not take the message"))
}
