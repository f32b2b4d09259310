package doctor

import (
	"net/http"
	"slices"
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
		v.judgeAnswerToPage()
	}
}

func allowsOrigin(h http.Header) bool {
	got := h.Get("Access-Control-Allow-Origin")
	return got == "*" || got == pageOrigin
}

// allowsHeader reports whether a preflight lets a header through. The wildcard does
// not stand for Authorization (Fetch §3.3.5).
func allowsHeader(h http.Header, name string) bool {
	allowed := members(h, "Access-Control-Allow-Headers")
	return slices.Contains(allowed, name) || slices.Contains(allowed, "*") && name != "authorization"
}

// members are the members of a header that is a list, in small letters.
func members(h http.Header, name string) []string {
	all := strings.Split(strings.ToLower(strings.Join(h.Values(name), ",")), ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

func (v *visit) judgePreflight(a answer) {
	for _, name := range preflighted {
		if !allowsHeader(a.header, name) {
			v.find("preflight-headers", name+" is missing in Access-Control-Allow-Headers: "+list(a.header.Values("Access-Control-Allow-Headers")))
			break
		}
	}
	v.judgeCredentials(a)
	a, err := v.ask(http.MethodOptions, http.Header{"Origin": {pageOrigin}, "Access-Control-Request-Method": {http.MethodDelete},
		"Access-Control-Request-Headers": {"authorization,mcp-protocol-version,mcp-session-id"}}, nil)
	if m := members(a.header, "Access-Control-Allow-Methods"); err == nil && !slices.Contains(m, "delete") && !slices.Contains(m, "*") {
		v.find("preflight-methods", "Access-Control-Allow-Methods for DELETE: "+list(a.header.Values("Access-Control-Allow-Methods")))
	}
}

func (v *visit) judgeCredentials(a answer) {
	origin := a.header.Get("Access-Control-Allow-Origin")
	if a.header.Get("Access-Control-Allow-Credentials") == "true" {
		if origin == "*" {
			v.find("cors-star-credentials", "Access-Control-Allow-Origin: * with Access-Control-Allow-Credentials: true")
		} else {
			v.find("cors-credentials", "Access-Control-Allow-Origin mirrors "+pageOrigin+" with credentials")
		}
	}
	if origin == pageOrigin && !slices.Contains(members(a.header, "Vary"), "origin") && !slices.Contains(members(a.header, "Vary"), "*") {
		v.find("cors-no-vary", "Access-Control-Allow-Origin: "+origin+", Vary: "+list(a.header.Values("Vary")))
	}
}

// judgeAnswerToPage looks at what a page may read of a refusal.
func (v *visit) judgeAnswerToPage() {
	a, err := v.post(initialize(), http.Header{"Origin": {pageOrigin}})
	if err != nil || a.status == http.StatusForbidden {
		return
	}
	if !allowsOrigin(a.header) {
		v.find("cors-expose", a.line()+" to a page has no Access-Control-Allow-Origin")
		return
	}
	open := members(a.header, "Access-Control-Expose-Headers")
	for _, name := range exposed {
		// The wildcard serves, since no cookies are sent.
		if !slices.Contains(open, strings.ToLower(name)) && !slices.Contains(open, "*") {
			v.find("cors-expose", name+" is missing in Access-Control-Expose-Headers of the "+http.StatusText(a.status)+": "+list(a.header.Values("Access-Control-Expose-Headers")))
			return
		}
	}
}

// judgeOrigin asks as a hostile page and under a hostile name would (REQ-20). A server
// may look at the token first, so that only who has one can tell.
func (v *visit) judgeOrigin() {
	a, err := v.post(initialize(), http.Header{"Origin": {hostileOrigin}}, v.credentials())
	switch {
	case err != nil:
	case a.status == http.StatusForbidden && a.header.Get("WWW-Authenticate") != "" && v.barred == "" && !v.report.Has("login-insufficient"):
		v.find("origin-challenged", a.told())
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		if a.status == http.StatusUnauthorized && v.options.Token == "" {
			v.notTried("Whether Origin and Host are looked at: it may be behind the token.")
		}
	case v.local:
		v.find("origin-unchecked", a.line()+" to Origin "+hostileOrigin)
	default:
		v.find("origin-any", a.line()+" to Origin "+hostileOrigin)
	}
	if !v.local {
		return // the name is the load balancer's business
	}
	a, err = v.post(initialize(), http.Header{"Host": {"attacker.example"}}, v.credentials())
	if err == nil && a.status == http.StatusOK {
		v.find("host-unchecked", a.line()+" to Host attacker.example")
	}
}
