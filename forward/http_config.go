package forward

import (
	"crypto/tls"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
)

// HTTPConfig says which URL requests are sent to, and how.
type HTTPConfig struct {
	// URL is the MCP endpoint, exactly as it is requested: absolute, http or
	// https, without user and fragment. Required.
	URL string
	// Header is set on every request, in place of what the caller sent: the
	// upstream's own credential. "Host" sets the Host header.
	Header http.Header
	// ConnectTimeout bounds name resolution and TCP connect together; a TLS
	// handshake may take half as long on top. Default 3 s, so that an upstream
	// that is down is known to be within 5 s.
	ConnectTimeout time.Duration
	// ResponseHeaderTimeout bounds the wait for the header of the answer, which
	// servers often send when a tool call is done. Default 5 min; negative: none.
	ResponseHeaderTimeout time.Duration
	// IdleConnTimeout is how long an idle connection is kept. Default 90 s.
	IdleConnTimeout time.Duration
	// MaxIdleConnsPerHost is how many idle connections are kept. Default 256.
	MaxIdleConnsPerHost int
	// TLS is used for https URLs: further roots, a client certificate. May be nil.
	TLS *tls.Config
	// Log receives what goes wrong while answers are copied. Default slog.Default().
	Log *slog.Logger
}

func (c *HTTPConfig) setDefaults() {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 3 * time.Second
	}
	if c.ResponseHeaderTimeout == 0 {
		c.ResponseHeaderTimeout = 5 * time.Minute
	}
	if c.IdleConnTimeout == 0 {
		c.IdleConnTimeout = 90 * time.Second
	}
	if c.MaxIdleConnsPerHost == 0 {
		c.MaxIdleConnsPerHost = 256
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// check returns the parsed URL, or every mistake.
func (c *HTTPConfig) check() (*url.URL, error) {
	var list problem.List
	u := checkURL(&list, c.URL)
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		checkHeader(&list, name, c.Header[name])
	}
	if c.ConnectTimeout < 0 {
		list.Add("connect_timeout", c.ConnectTimeout.String(), "a duration that is not negative")
	}
	if c.IdleConnTimeout < 0 {
		list.Add("idle_timeout", c.IdleConnTimeout.String(), "a duration that is not negative")
	}
	if c.MaxIdleConnsPerHost < 0 {
		list.Add("max_idle_connections", "", "a number that is not negative")
	}
	return u, list.Err()
}

// checkURL parses the URL. Values that may hold a secret are not repeated.
func checkURL(list *problem.List, raw string) *url.URL {
	const want = "an absolute http or https URL, such as http://127.0.0.1:9000/mcp"
	shown, _, _ := strings.Cut(raw, "?")
	if strings.Contains(shown, "@") {
		shown = ""
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Opaque != "", u.Hostname() == "", u.Scheme != "http" && u.Scheme != "https":
		list.Add("url", shown, want)
		return nil
	case u.User != nil:
		list.Add("url", "", "a URL without a user or password; a credential belongs in headers")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		list.Add("url", shown, "a URL without a fragment")
	}
	return u
}

// reserved are headers that say how a request is framed or read.
var reserved = []string{"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Keep-Alive",
	"Mcp-Session-Id", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// checkHeader looks at one header; its values are secrets.
func checkHeader(list *problem.List, name string, values []string) {
	path := "headers." + name
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !isToken(name):
		list.Add("headers", name, "a header name of letters, digits and hyphens (RFC 9110 section 5.1)")
	case slices.Contains(reserved, canonical):
		list.Add(path, "", "another header; this one is set by the gateway itself")
	case canonical == "Host" && (len(values) != 1 || values[0] == "" || strings.ContainsAny(values[0], "/@ ")):
		list.Add(path, "", "one host name with an optional port")
	}
	for _, v := range values {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }) {
			list.Add(path, "", "a value without line ends and other control characters")
		}
	}
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
