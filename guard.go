package stile

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/stile-mcp/stile/message"
)

// guard judges a request before any credential is looked at: where it comes
// from (Host, Origin) and its form (method, media type, declared size).
type guard struct {
	origins  map[string]bool
	hosts    map[string]bool
	loopback bool // loopback origins are let through
	local    bool // loopback hosts are served
	any      bool // every origin is let through
	maxBody  int64
}

func newGuard(public *url.URL, c *Config) *guard {
	loopback := isLoopbackHost(public.Hostname())
	g := &guard{
		origins:  map[string]bool{strings.ToLower(public.Scheme + "://" + public.Host): true},
		hosts:    map[string]bool{strings.ToLower(public.Hostname()): true},
		loopback: loopback,
		local:    loopback || len(c.AllowedHosts) == 0,
		any:      c.CORS.AnyOrigin,
		maxBody:  c.MaxBody,
	}
	for _, o := range c.AllowedOrigins {
		g.origins[strings.ToLower(o)] = true
	}
	for _, h := range c.AllowedHosts {
		g.hosts[strings.ToLower(strings.Trim(h, "[]"))] = true
	}
	return g
}

// formError is a refusal by the guard.
type formError struct {
	status int
	text   string
	allow  string // the Allow header of a 405
	retry  time.Duration
}

func (e *formError) Error() string { return e.text }

// checkSource holds Host and Origin against what is served (REQ-20, DES-27):
// another value is what a rebound DNS name or a strange page sends.
func (g *guard) checkSource(r *http.Request) error {
	if !g.servesHost(r.Host) {
		return &formError{status: http.StatusForbidden, text: "this host name is not served here"}
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 || (len(origins) == 1 && g.allowsOrigin(origins[0])) {
		return nil
	}
	return &formError{status: http.StatusForbidden, text: "this origin is not allowed"}
}

// servesHost reports whether a Host header names what is served here.
func (g *guard) servesHost(host string) bool {
	host = hostname(host)
	return g.hosts[host] || g.local && isLoopbackHost(host)
}

// ServesHost reports whether a Host header names this gateway. A handler that
// stands beside it on the same listener has to refuse other names, which is what a
// browser sends to a name that was rebound to this machine (REQ-20).
func (g *Gateway) ServesHost(host string) bool { return g.guard.servesHost(host) }

// allowsOrigin reports whether a page of that origin may call.
func (g *guard) allowsOrigin(origin string) bool {
	origin = strings.ToLower(origin)
	if g.any || g.origins[origin] {
		return true
	}
	if !g.loopback {
		return false
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && isLoopbackHost(u.Hostname())
}

// endpointMethods is the Allow header of an endpoint.
const endpointMethods = "GET, POST, DELETE, OPTIONS"

// errHead refuses an authenticated HEAD; without a token it met the 401 first
// (DES-20).
var errHead = &formError{status: http.StatusMethodNotAllowed, text: "HEAD is not a method of an MCP endpoint", allow: endpointMethods}

// checkForm looks at method, media type and declared size.
func (g *guard) checkForm(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return nil
	case http.MethodPost:
	default:
		return &formError{status: http.StatusMethodNotAllowed, text: "not a method of an MCP endpoint", allow: endpointMethods}
	}
	if r.Header.Get("Content-Type") != "" {
		if err := checkMediaType(r); err != nil {
			return err
		}
	}
	if r.ContentLength > g.maxBody {
		return tooLarge(g.maxBody)
	}
	return nil
}

func tooLarge(limit int64) error {
	return &formError{status: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("the body is over %d bytes", limit)}
}

// checkMediaType wants one JSON body in UTF-8 without a content coding: nothing
// may be decided on bytes that the upstream would read differently. Express, for
// one, decodes a body that calls itself charset=utf-7 as that, in which quotes and
// braces hide inside an innocent string.
func checkMediaType(r *http.Request) error {
	types := r.Header.Values("Content-Type")
	if len(types) == 1 && isIdentity(r.Header) {
		if types[0] == "application/json" {
			return nil // as nearly everybody sends it
		}
		mediaType, params, err := mime.ParseMediaType(types[0])
		charset, named := params["charset"]
		if err == nil && mediaType == "application/json" && (!named || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return &formError{status: http.StatusUnsupportedMediaType,
		text: "the body must be application/json in UTF-8 without a content encoding"}
}

func isIdentity(h http.Header) bool {
	for _, v := range h.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(v), "identity") {
			return false
		}
	}
	return true
}

// checkStream wants a GET to accept an event stream, as the specification says
// (2025-11-25 transports). It runs after authentication (DES-20).
func (g *guard) checkStream(x *exchange) error {
	if x.identity == nil {
		return nil // authorize answers 401
	}
	accept := strings.Join(x.r.Header.Values("Accept"), ",")
	for item := range strings.SplitSeq(accept, ",") {
		mediaType, _, _ := strings.Cut(item, ";")
		switch strings.ToLower(strings.TrimSpace(mediaType)) {
		case "text/event-stream", "text/*", "*/*":
			return nil
		}
	}
	return &formError{status: http.StatusNotAcceptable, text: "a GET must accept text/event-stream"}
}

// limitBody bounds the time of a body that nobody may ever read: net/http takes
// what is left of one before it sends a refusal, and would wait for it without end.
func (g *Gateway) limitBody(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.config.BodyTimeout))
	}
}

// readBody reads a POST body whole, within the limits of size and time.
func (x *exchange) readBody() ([]byte, error) {
	deadline := http.NewResponseController(x.w)
	// Not every ResponseWriter has deadlines; the server's own does.
	_ = deadline.SetReadDeadline(time.Now().Add(x.g.config.BodyTimeout))
	body, err := message.ReadBody(x.r.Body, x.r.ContentLength, x.g.config.MaxBody)
	if err == nil {
		_ = deadline.SetReadDeadline(time.Time{})
		return body, nil
	}
	// The rest of the body is unread: the connection must not be used again.
	x.w.Header().Set("Connection", "close")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &formError{status: http.StatusRequestTimeout,
			text: fmt.Sprintf("the body did not arrive within %s", x.g.config.BodyTimeout)}
	}
	return nil, err
}

// hostname is the lower-case host of a Host header, without port and brackets.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// isLoopbackHost reports whether a host name or address is this machine's own.
func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}
