// Package forward SENDS what was authorised to an MCP server: to a URL, byte for
// byte and without the caller's credentials.
package forward

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// HTTP sends requests to one URL. It is an http.Handler, safe for concurrent
// use. When the upstream cannot answer it calls the method Fail(error) of the
// ResponseWriter where there is one, and answers 502 or 504 otherwise; when an
// answer breaks off it panics with http.ErrAbortHandler, as any reverse proxy.
type HTTP struct {
	url       *url.URL
	host      string // of the Host header, when configured
	header    http.Header
	transport http.RoundTripper
	tls       *tls.Config
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
	h.tls = c.TLS
	h.transport = newTransport(&c, h.dialer, u)
	return h, nil
}

// keepAlive is the pause between probes of a silent connection.
const keepAlive = 15 * time.Second

// maxResponseHeader is the largest response header taken, in bytes.
const maxResponseHeader = 256 << 10

// newTransport is wire where nothing is needed but plain HTTP/1.1.
func newTransport(c *HTTPConfig, dialer *net.Dialer, u *url.URL) http.RoundTripper {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if ownConnections && u.Scheme == "http" && proxy == nil && err == nil {
		return &wire{
			address: hostPort(u),
			dial:    dialer.DialContext,
			header:  max(c.ResponseHeaderTimeout, 0),
			idleFor: c.IdleConnTimeout,
			maxIdle: c.MaxIdleConnsPerHost,
		}
	}
	return &http.Transport{
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
}

// handshakeTimeout leaves room for the TCP connect within 5 s (docs/contract).
func handshakeTimeout(connect time.Duration) time.Duration { return connect / 2 }

// ServeHTTP sends r to the URL and copies the answer. Path, query and Host of r
// are not used. The body should be in memory (io.NopCloser of a *bytes.Reader,
// or GetBody set), which saves a write and the faults of golang/go#40747; it must
// have a ContentLength then. Informational answers are not passed on.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := h.request(r)
	if body, ok := out.Body.(*lentBody); ok {
		defer body.end()
	}
	res, err := h.transport.RoundTrip(out)
	if err == nil {
		if err = check(res); err != nil {
			_ = res.Body.Close()
		}
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	h.answer(w, res)
}

// fail says that there is no answer.
func (h *HTTP) fail(w http.ResponseWriter, err error) {
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
func check(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return errors.New("the upstream wants to switch protocols, which was not asked for")
	case res.StatusCode < 200:
		return fmt.Errorf("the upstream answered with the status %d, which is none", res.StatusCode)
	case res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified:
		return &RedirectError{res.StatusCode, res.Header.Get("Location")}
	}
	return nil
}

// Close closes the connections that are idle. Requests under way go on.
func (h *HTTP) Close() {
	h.transport.(interface{ CloseIdleConnections() }).CloseIdleConnections()
}
