// Package forward SENDS what was authorised to an MCP server: to a URL, byte for
// byte and without the caller's credentials.
package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/stile-mcp/stile/message"
)

// HTTP sends requests to one URL. It is an http.Handler, safe for concurrent
// use. When the upstream cannot answer it calls the method Fail(error) of the
// ResponseWriter where there is one, and answers 502 or 504 otherwise; when an
// answer breaks off it panics with http.ErrAbortHandler, as any reverse proxy.
type HTTP struct {
	url       *url.URL
	host      string // of the Host header, when configured
	header    http.Header
	transport *http.Transport
	dialer    *net.Dialer
	connect   time.Duration
	errorLog  *log.Logger

	probes  singleflight.Group
	mu      sync.Mutex // guards the rest
	checked time.Time
	ready   error
}

// NewHTTP returns the forwarder for a URL. Its error is a problem.List with every
// mistake in the configuration.
func NewHTTP(c HTTPConfig) (*HTTP, error) {
	u, err := c.check()
	if err != nil {
		return nil, err
	}
	c.setDefaults()
	h := &HTTP{
		url:      u,
		host:     c.Header.Get("Host"),
		header:   make(http.Header, len(c.Header)),
		dialer:   &net.Dialer{Timeout: c.ConnectTimeout, KeepAlive: keepAlive},
		connect:  c.ConnectTimeout,
		errorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
	for name, values := range c.Header {
		h.header[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
	}
	h.header.Del("Host")
	h.transport = newTransport(&c, h.dialer)
	return h, nil
}

// keepAlive is the pause between probes of a silent connection.
const keepAlive = 15 * time.Second

// maxResponseHeader is the largest response header taken, in bytes.
const maxResponseHeader = 256 << 10

func newTransport(c *HTTPConfig, dialer *net.Dialer) *http.Transport {
	t := &http.Transport{
		// An upstream on this machine is never asked for through a proxy.
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        c.TLS.Clone(),
		TLSHandshakeTimeout:    handshakeTimeout(c.ConnectTimeout),
		ResponseHeaderTimeout:  max(c.ResponseHeaderTimeout, 0),
		IdleConnTimeout:        c.IdleConnTimeout,
		MaxIdleConnsPerHost:    c.MaxIdleConnsPerHost,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		// A stream may be silent for long; a dead connection must not be.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 2 * keepAlive, PingTimeout: keepAlive},
	}
	return t
}

// handshakeTimeout leaves room for the TCP connect within 5 s (docs/contract).
func handshakeTimeout(connect time.Duration) time.Duration { return connect / 2 }

// noServer makes ReverseProxy panic on answers that break off, as it does below
// an http.Server, also below none: otherwise they would look complete.
var noServer = new(http.Server)

// ServeHTTP sends r to the URL and copies the answer. Path, query and Host of r
// are not used. The body should be in memory (io.NopCloser of a *bytes.Reader,
// or GetBody set), which saves a write and the faults of golang/go#40747; it must
// have a ContentLength then.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if ctx.Value(http.ServerContextKey) == nil {
		ctx = context.WithValue(ctx, http.ServerContextKey, noServer)
	}
	if r.Header.Get("Upgrade") != "" {
		r = r.Clone(ctx) // nothing but single answers is carried
		r.Header.Del("Upgrade")
	} else if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	x := new(exchange)
	// No FlushInterval: where it counts, for event streams and answers of unknown
	// length, ReverseProxy flushes at once anyway; elsewhere it would start a
	// goroutine for each answer.
	x.proxy = httputil.ReverseProxy{
		Rewrite:        h.rewrite,
		Transport:      h.transport,
		BufferPool:     x,
		ModifyResponse: x.check,
		ErrorHandler:   h.fail,
		ErrorLog:       h.errorLog,
	}
	x.proxy.ServeHTTP(w, r)
}

// nopCloser is the type the transport knows as a body in memory.
var nopCloser = reflect.TypeOf(io.NopCloser(bytes.NewReader(nil)))

// rewrite makes the request that is sent: to the configured URL, without what
// speaks for the caller (REQ-05, DES-45), with the upstream's own credential.
func (h *HTTP) rewrite(p *httputil.ProxyRequest) {
	u, out := *h.url, p.Out
	out.URL, out.Host = &u, h.host
	message.StripCredentials(out.Header)
	for _, name := range []string{"Connection", "Expect", "Te", "Upgrade"} {
		out.Header.Del(name)
	}
	out.Header.Set("Accept-Encoding", "identity") // the answer must be readable
	for name, values := range h.header {
		out.Header[name] = values
	}
	out.Trailer = nil
	if out.Body == nil {
		return
	}
	// ReverseProxy has wrapped the body, behind which the transport would not
	// see that it is in memory.
	if p.In.GetBody != nil {
		if body, err := p.In.GetBody(); err == nil {
			out.Body = body
		}
	} else if reflect.TypeOf(p.In.Body) == nopCloser {
		out.Body = p.In.Body
	}
}

// fail says that there is no answer.
func (h *HTTP) fail(w http.ResponseWriter, _ *http.Request, err error) {
	err = fmt.Errorf("%s: %w", h.url.Host, err)
	if f, ok := w.(interface{ Fail(error) }); ok {
		f.Fail(err)
		return
	}
	status := http.StatusBadGateway
	if t := net.Error(nil); errors.As(err, &t) && t.Timeout() {
		status = http.StatusGatewayTimeout
	}
	http.Error(w, "the upstream does not answer", status)
}

// exchange is one request on its way: a proxy whose buffer suits the answer.
type exchange struct {
	proxy httputil.ReverseProxy
	small bool
}

// RedirectError says that the upstream answered with a redirect. It is not
// followed: the credential is meant for the configured URL alone.
type RedirectError struct {
	// Status is the HTTP status.
	Status int
	// Location is where it pointed to, unchecked.
	Location string
}

// Error names the status and the place.
func (e *RedirectError) Error() string {
	return fmt.Sprintf("the upstream answered %d with the location %q; redirects are not followed, configure the final URL", e.Status, e.Location)
}

// check refuses the answers that cannot be passed on.
func (x *exchange) check(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return errors.New("the upstream wants to switch protocols, which was not asked for")
	case res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified:
		return &RedirectError{res.StatusCode, res.Header.Get("Location")}
	}
	x.small = strings.Contains(strings.ToLower(res.Header.Get("Content-Type")), "text/event-stream")
	return nil
}

const (
	largeBuffer = 32 << 10
	smallBuffer = 4 << 10 // of event streams, which hold theirs as long as they last
)

var (
	large = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	small = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
)

// Get returns the copy buffer for the answer (httputil.BufferPool).
func (x *exchange) Get() []byte {
	if x.small {
		return small.Get().(*[smallBuffer]byte)[:]
	}
	return large.Get().(*[largeBuffer]byte)[:]
}

// Put takes it back.
func (x *exchange) Put(b []byte) {
	if x.small {
		small.Put((*[smallBuffer]byte)(b))
	} else {
		large.Put((*[largeBuffer]byte)(b))
	}
}

// Close closes the connections that are idle. Requests under way go on.
func (h *HTTP) Close() { h.transport.CloseIdleConnections() }
