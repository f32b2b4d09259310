package doctor

import (
	"net/http"
	"strings"
)

// pageOrigin is a page that may well use the server, hostileOrigin one that a
// server on this machine must not listen to.
const (
	pageOrigin    = "https://inspector.example.com"
	hostileOrigin = "https://attacker.example"
)

// exposed are the headers a page must be able to read to log in and to keep its
// session (DES-50).
var exposed = []string{"WWW-Authenticate", "Mcp-Session-Id"}

// preflighted are the headers a page must be able to send, sorted, as browsers
// send them (Fetch, "CORS-unsafe request-header names").
var preflighted = []string{"authorization", "content-type", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id"}

// asBrowser looks at the server from a page: preflight, exposed headers, Origin
// and Host. A server that turns every page away is left in peace.
func (v *visit) asBrowser() {
	a, err := v.ask(http.MethodOptions, http.Header{
		"Origin":                         {pageOrigin},
		"Access-Control-Request-Method":  {http.MethodPost},
		"Access-Control-Request-Headers": {strings.Join(preflighted, ",")},
	}, nil)
	switch {
	case err != nil:
	case a.status == http.StatusUnauthorized:
		v.find("preflight-401", a.line())
	case a.status == http.StatusForbidden:
		// The page is not one that may use it.
	case !allowsOrigin(a.header):
		v.find("preflight-refused", a.line())
	default:
		v.judgePreflight(a)
	}
	v.judgeOrigin()
}

func allowsOrigin(h http.Header) bool {
	got := h.Get("Access-Control-Allow-Origin")
	return got == "*" || got == pageOrigin
}

func (v *visit) judgePreflight(a answer) {
	allowed := strings.ToLower(a.header.Get("Access-Control-Allow-Headers"))
	for _, name := range preflighted {
		wildcard := strings.Contains(allowed, "*") && name != "authorization" // Fetch §4.8
		if !wildcard && !strings.Contains(allowed, name) {
			v.find("preflight-headers", name+" is missing in Access-Control-Allow-Headers: "+allowed)
			break
		}
	}
	if a.header.Get("Access-Control-Allow-Origin") == pageOrigin && a.header.Get("Access-Control-Allow-Credentials") == "true" {
		v.find("cors-credentials", "Access-Control-Allow-Origin mirrors "+pageOrigin+" with credentials")
	}
	got, err := v.post(v.initialize(), http.Header{"Origin": {pageOrigin}})
	if err != nil || got.status == http.StatusForbidden {
		return
	}
	open := strings.ToLower(strings.Join(got.header.Values("Access-Control-Expose-Headers"), ","))
	for _, name := range exposed {
		if !strings.Contains(open, strings.ToLower(name)) && open != "*" {
			v.find("cors-expose", name+" is missing in Access-Control-Expose-Headers of the "+http.StatusText(got.status)+": "+list(got.header.Values("Access-Control-Expose-Headers")))
			break
		}
	}
	if !allowsOrigin(got.header) {
		v.find("cors-expose", got.line()+" to a page has no Access-Control-Allow-Origin")
	}
}

// judgeOrigin asks as a hostile page and under a hostile name would (REQ-20).
func (v *visit) judgeOrigin() {
	h := http.Header{"Origin": {hostileOrigin}}
	if v.options.Token != "" {
		h.Set("Authorization", "Bearer "+v.options.Token)
	}
	a, err := v.post(v.initialize(), h)
	switch {
	case err != nil:
	case a.status == http.StatusForbidden && a.header.Get("WWW-Authenticate") != "":
		v.find("origin-challenged", a.line()+" "+a.header.Get("WWW-Authenticate"))
	case a.status != http.StatusForbidden && v.local:
		v.find("origin-unchecked", a.line()+" to Origin "+hostileOrigin)
	}
	if !v.local {
		return // the name is the load balancer's business
	}
	a, err = v.post(v.initialize(), http.Header{"Host": {"attacker.example"}})
	if err == nil && (a.status == http.StatusOK || a.status == http.StatusUnauthorized) {
		v.find("host-unchecked", a.line()+" to Host attacker.example")
	}
}
