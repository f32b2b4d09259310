package forward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
)

// SSE is the Streamable HTTP server in front of a server that speaks only the
// transport of 2024-11-05: a GET for the event stream, and a POST for each message
// to the URL that the stream's first event names. It is an http.Handler, safe for
// concurrent use, and does for sessions, streams and limits what a Command does for
// a child process: every connection has one event stream, and ends with it.
//
// The URL for messages is taken from the server only where it has the scheme, host
// and port of the configured one, and is never shown to a client.
type SSE struct {
	*Command
	http       *HTTP
	maxMessage int
}

// SSEConfig says where a server of the legacy transport is, and who shares a
// connection to it.
type SSEConfig struct {
	// Name is what the log calls the server.
	Name string
	// HTTP is where it is and how it is reached; URL is that of the event stream.
	HTTP HTTPConfig
	// Sessions has the isolation and the limits, as for a Command, of which a
	// connection stands for a child. Name, Command, Env, Dir and StopGrace are not
	// used.
	Sessions CommandConfig
}

// NewSSE returns the server for a URL. Nothing is connected before the first
// request. Its error is a problem.List with every mistake in the configuration.
func NewSSE(c SSEConfig) (*SSE, error) {
	var list problem.List
	target, err := NewHTTP(c.HTTP)
	if err != nil && !errors.As(err, &list) {
		return nil, err
	}
	limits := c.Sessions
	limits.Name, limits.Log, limits.Env, limits.Dir = c.Name, c.HTTP.Log, nil, ""
	limits.Command = []string{"none"} // which check wants
	var more problem.List
	if err := limits.check(); err != nil && !errors.As(err, &more) {
		return nil, err
	}
	if list = append(list, more...); len(list) > 0 {
		return nil, list
	}
	s := &SSE{Command: newCommand(limits), http: target}
	s.maxMessage = s.config.MaxMessage
	s.legacy = true // 2026-07-28 is not defined for this transport
	s.start = func(k *child) (connection, error) { return s.connect(k.receive), nil }
	s.present = target.Ready
	return s, nil
}

// Close ends every session and connection, and answers with 503 from then on.
func (s *SSE) Close() {
	s.Command.Close()
	s.http.Close()
}

// answered is a refusal of the server by HTTP. It is passed back as it came, for
// the gateway to translate (DES-23).
type answered struct {
	status int
	header http.Header
	body   []byte
}

// Error names the status.
func (e *answered) Error() string {
	return fmt.Sprintf("the MCP server answered with status %d", e.status)
}

func (e *answered) write(w http.ResponseWriter) {
	for _, name := range []string{"Content-Type", "Www-Authenticate", "Retry-After"} {
		if values := e.header[name]; len(values) > 0 {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(e.status)
	_, _ = w.Write(e.body)
}

// errUnreachable says that there is no event stream to be had.
func errUnreachable(cause error) error {
	return &refusal{status: http.StatusBadGateway, text: "the MCP server cannot be reached", cause: cause}
}

// speaks reports whether the URL opens an event stream of the legacy transport: its
// first event names a URL for messages (2025-11-25 transports "Backwards
// Compatibility").
func (s *SSE) speaks(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	c := s.connect(func([]byte) error { return nil })
	defer c.Stop(ctx)
	select {
	case <-c.ready:
		return true
	case <-c.done:
	case <-ctx.Done():
	}
	return false
}

// probeTime is how long a URL may take to show that it speaks the legacy transport.
const probeTime = 5 * time.Second
