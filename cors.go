package stile

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rs/cors"

	"github.com/stile-mcp/stile/internal/problem"
)

// crossOrigin adds the CORS headers of DES-50 to every answer of an endpoint,
// refusals included, and answers preflights before authentication.
type crossOrigin struct {
	cors    *cors.Cors
	exposed string // what a page may read of an answer
}

// CORS says what pages of other origins may do, beside what every MCP client in a
// browser needs, which they always may: Authorization and the headers of the
// protocol are allowed, WWW-Authenticate and the session id can be read, also of
// refusals. Preflights are answered before any credential is looked at.
type CORS struct {
	// AnyOrigin lets pages of every origin call. Host is still checked. Refused with
	// Credentials, and when PublicURL is on loopback, where every page in the
	// person's browser could call.
	AnyOrigin bool
	// Headers are further request headers that a page may send.
	Headers []string
	// Expose are further headers of answers that a page may read.
	Expose []string
	// Credentials lets browsers send cookies along, for a proxy in front that wants
	// them. Stile itself looks at no cookie.
	Credentials bool
	// MaxAge is how long a browser may remember a preflight, in whole seconds.
	// Default 10 min; negative: not at all.
	MaxAge time.Duration
}

// fieldName is a token of RFC 9110 §5.6.2.
var fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// check finds what no browser would take, or nobody should allow.
func (c *CORS) check(public *url.URL, mistakes *problem.List) {
	switch {
	case c.AnyOrigin && c.Credentials:
		mistakes.Add("cors.credentials", "true", "false with any origin: every page could call with the person's cookies")
	case c.AnyOrigin && isLoopbackHost(public.Hostname()):
		mistakes.Add("cors.any_origin", "true", "false on loopback: every page in the browser could call")
	}
	for _, list := range []struct {
		at    string
		names []string
	}{{"cors.headers", c.Headers}, {"cors.expose", c.Expose}} {
		for i, name := range list.names {
			if !fieldName.MatchString(name) {
				mistakes.Add(list.at+"["+strconv.Itoa(i)+"]", name, "the name of a header field")
			}
		}
	}
}

// exposedHeaders is what a page may read of an answer (DES-50), spelled as the
// specifications do; the library would write another case.
const exposedHeaders = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, X-Request-Id, Retry-After"

// preflightSeconds is how long a browser may remember a preflight.
const preflightSeconds = 600

func newCrossOrigin(g *guard, c *CORS) *crossOrigin {
	age := preflightSeconds
	switch {
	case c.MaxAge < 0:
		age = -1
	case c.MaxAge > 0:
		age = int(c.MaxAge / time.Second)
	}
	return &crossOrigin{cors.New(cors.Options{
		AllowOriginFunc: g.allowsOrigin,
		AllowedMethods:  []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders: append([]string{"Authorization", "Content-Type", "Accept", "X-API-Key", "MCP-Protocol-Version",
			"Mcp-Session-Id", "Mcp-Method", "Mcp-Name", "Last-Event-ID"}, c.Headers...),
		AllowCredentials: c.Credentials,
		MaxAge:           age,
	}), strings.Join(append([]string{exposedHeaders}, c.Expose...), ", ")}
}

// paramHeaders begin the headers that mirror tool arguments (REQ-28). Their
// names come from tool schemas, so each one that is asked for is allowed.
const paramHeaders = "mcp-param-"

const requestHeaders = "Access-Control-Request-Headers"

// apply sets the headers and reports whether r was an OPTIONS that is answered.
func (c *crossOrigin) apply(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions {
		if len(r.Header["Origin"]) == 0 {
			w.Header().Add("Vary", "Origin") // all that the library would do
			return false
		}
		c.cors.HandlerFunc(w, asSimple(r))
		if h := w.Header(); h.Get("Access-Control-Allow-Origin") != "" {
			h.Set("Access-Control-Expose-Headers", c.exposed)
		}
		return false
	}
	if r.Header.Get("Access-Control-Request-Method") == "" {
		w.Header().Set("Allow", endpointMethods)
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	fixed, params := splitParams(r.Header.Values(requestHeaders))
	asked := r.Clone(r.Context())
	asked.Header.Del(requestHeaders)
	if len(fixed) > 0 {
		asked.Header.Set(requestHeaders, strings.Join(fixed, ","))
	}
	c.cors.HandlerFunc(&preflightWriter{ResponseWriter: w, params: params}, asked)
	return true
}

// asSimple is a request as the library shall see it: of any other method than those
// it was told it says nothing, and the page could not read the 405.
func asSimple(r *http.Request) *http.Request {
	switch r.Method {
	case http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions:
		return r
	}
	other := *r
	other.Method = http.MethodGet
	return &other
}

// splitParams divides the header names a preflight asks for.
func splitParams(values []string) (fixed, params []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if strings.HasPrefix(name, paramHeaders) {
				params = append(params, name)
			} else if name != "" {
				fixed = append(fixed, name)
			}
		}
	}
	return fixed, params
}

// preflightWriter adds the parameter headers to an allowing answer.
type preflightWriter struct {
	http.ResponseWriter
	params []string
}

func (w *preflightWriter) WriteHeader(status int) {
	h := w.Header()
	if len(w.params) > 0 && h.Get("Access-Control-Allow-Origin") != "" {
		allowed := append(h.Values("Access-Control-Allow-Headers"), w.params...)
		h.Set("Access-Control-Allow-Headers", strings.Join(allowed, ","))
	}
	w.ResponseWriter.WriteHeader(status)
}
