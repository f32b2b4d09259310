// Package remote sends messages to an MCP server over Streamable HTTP and reads its
// answers, whichever revision they are of (2025-11-25 transports, 2026-07-28
// streamable-http). What the messages say is for others to read.
package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/sse"
)

// The headers of the transport, in Go's canonical form.
const (
	HeaderSession   = "Mcp-Session-Id"
	HeaderVersion   = "Mcp-Protocol-Version"
	HeaderLastEvent = "Last-Event-Id"
)

// DefaultMax is the longest message taken from a server, in bytes, unless told
// otherwise.
const DefaultMax = 16 << 20

// Server is an MCP server. Its methods may be called concurrently.
type Server struct {
	// Transport reaches it. Where a request goes is the transport's own business:
	// the URL says nothing.
	Transport http.RoundTripper
	// Max is the longest message taken, in bytes. Default DefaultMax.
	Max int
}

// Reply is what a server answers to one HTTP request. It has to be read with Each or
// Whole, or closed. It is not safe for concurrent use.
type Reply struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
	// LastID is the id of the last event that had one, and Retry how long the server
	// wants to be left alone before a stream is come back to, at most MaxPause; 0
	// where it did not say.
	LastID string
	Retry  time.Duration

	max int
}

// Post sends one message; h becomes the request's and gets what every POST has.
func (s *Server) Post(ctx context.Context, h http.Header, line []byte) (*Reply, error) {
	h.Set("Accept", "application/json, text/event-stream")
	h.Set("Content-Type", "application/json")
	return s.Send(ctx, http.MethodPost, h, line)
}

// Get opens the stream on which the server speaks unasked, or that of a call where
// lastID is of one of its events.
func (s *Server) Get(ctx context.Context, h http.Header, lastID string) (*Reply, error) {
	h.Set("Accept", "text/event-stream")
	if lastID != "" {
		h.Set(HeaderLastEvent, lastID)
	}
	return s.Send(ctx, http.MethodGet, h, nil)
}

// Send sends one request; a nil body is none.
func (s *Server) Send(ctx context.Context, method string, h http.Header, body []byte) (*Reply, error) {
	q, err := http.NewRequestWithContext(ctx, method, "http://localhost/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body == nil {
		q.Body, q.GetBody, q.ContentLength = http.NoBody, nil, 0
	}
	q.Header = h
	res, err := s.Transport.RoundTrip(q) //nolint:bodyclose // the reply's Close does
	if err != nil {
		return nil, err
	}
	limit := s.Max
	if limit <= 0 {
		limit = DefaultMax
	}
	return &Reply{Status: res.StatusCode, Header: res.Header, Body: res.Body, max: limit}, nil
}

// Close ends the answer.
func (a *Reply) Close() { _ = a.Body.Close() }

// IsStream reports whether it is an event stream.
func (a *Reply) IsStream() bool {
	return strings.Contains(strings.ToLower(a.Header.Get("Content-Type")), "text/event-stream")
}

// Each hands every message of the answer to take, in order, until there are no more
// or take returns false. It closes the answer. An answer that is no stream is one
// message.
func (a *Reply) Each(take func(line []byte) bool) error {
	if !a.IsStream() {
		defer a.Close()
		body, err := a.Whole()
		if err == nil && len(bytes.TrimSpace(body)) > 0 {
			take(body)
		}
		return err
	}
	return a.Events(func(e sse.Event) bool {
		return !e.HasData || len(e.Data) == 0 || take(bytes.Clone(e.Data))
	})
}

// Whole is a body that is no stream. It is an error if it is over the limit.
func (a *Reply) Whole() ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(a.Body, int64(a.max)+1))
	if err == nil && len(body) > a.max {
		err = &TooLargeError{a.max}
	}
	return body, err
}

// TooLargeError says that an answer is over the limit.
type TooLargeError struct {
	// Max is the limit in bytes.
	Max int
}

// Error names the limit.
func (e *TooLargeError) Error() string { return fmt.Sprintf("the answer is over %d bytes", e.Max) }

// errEnough ends the reading of a stream.
var errEnough = errors.New("enough")

// Events hands every event of a stream to take, as Each does messages. An event is
// good until take returns.
func (a *Reply) Events(take func(e sse.Event) bool) error {
	defer a.Close()
	scanner := sse.Scanner{Max: a.max}
	chunk := make([]byte, 4<<10)
	for {
		n, err := a.Body.Read(chunk)
		if n > 0 {
			e := scanner.Feed(chunk[:n], func(e sse.Event) error {
				a.note(e)
				if !take(e) {
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
func (a *Reply) note(e sse.Event) {
	if e.ID != nil {
		a.LastID = string(e.ID)
		if strings.ContainsFunc(a.LastID, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }) {
			a.LastID = "" // no header can carry it, and every return would fail
		}
	}
	for line := range bytes.Lines(e.Raw) {
		if value, ok := bytes.CutPrefix(line, []byte("retry:")); ok {
			ms, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err == nil && ms >= 0 {
				a.Retry = time.Duration(min(ms, int(MaxPause/time.Millisecond))) * time.Millisecond
			}
		}
	}
}

// MaxPause is the longest pause before a lost stream is come back to, and MinPause
// the shortest where the server names none.
const (
	MinPause = time.Second
	MaxPause = 30 * time.Second
)

// Pause waits and reports whether ctx is still good.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
