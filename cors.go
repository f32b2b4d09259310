package stile

import (
	"net/http"
	"strings"

	"github.com/rs/cors"
)

// crossOrigin adds the CORS headers of DES-50 to every answer of an endpoint,
// refusals included, and answers preflights before authentication.
type crossOrigin struct{ cors *cors.Cors }

// exposedHeaders is what a page may read of an answer (DES-50), spelled as the
// specifications do; the library would write another case.
const exposedHeaders = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, X-Request-Id, Retry-After"

// preflightSeconds is how long a browser may remember a preflight.
const preflightSeconds = 600

func newCrossOrigin(g *guard) *crossOrigin {
	return &crossOrigin{cors.New(cors.Options{
		AllowOriginFunc: g.allowsOrigin,
		AllowedMethods:  []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Accept", "X-API-Key", "MCP-Protocol-Version",
			"Mcp-Session-Id", "Mcp-Method", "Mcp-Name", "Last-Event-ID"},
		MaxAge: preflightSeconds,
	})}
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
		c.cors.HandlerFunc(w, r)
		if h := w.Header(); h.Get("Access-Control-Allow-Origin") != "" {
			h.Set("Access-Control-Expose-Headers", exposedHeaders)
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
