package stepup

import (
	"net/http"
	"strings"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// kind is what an answer wants of its client.
type kind int

const (
	satisfied   kind = iota
	wantsToken       // 401: there is none, or it is good no more
	wantsScopes      // 403 insufficient_scope
	wantsNonce       // 401 use_dpop_nonce (RFC 9449 §9)
)

// demand is what a refusal asks for.
type demand struct {
	kind        kind
	scopes      []string
	metadata    string // resource_metadata
	description string
	dpop        bool   // the challenge is of the DPoP scheme
	operation   string // what the request does
	anew        bool   // a token that was refreshed is refused too
}

// readDemand reads a refusal. A 403 that does not say insufficient_scope is an
// answer like any other.
func readDemand(resp *http.Response) demand {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return demand{}
	}
	parsed := readChallenges(resp.Header.Values("WWW-Authenticate"))
	if resp.StatusCode == http.StatusForbidden {
		for _, scheme := range []string{"Bearer", "DPoP"} {
			if p, ok := challenge.Find(parsed, scheme, "insufficient_scope"); ok {
				return demandOf(wantsScopes, p)
			}
		}
		return demand{}
	}
	if _, ok := challenge.Find(parsed, "DPoP", "use_dpop_nonce"); ok && resp.Header.Get("DPoP-Nonce") != "" {
		return demand{kind: wantsNonce}
	}
	for _, p := range parsed {
		if strings.EqualFold(p.Scheme, "Bearer") || strings.EqualFold(p.Scheme, "DPoP") {
			return demandOf(wantsToken, p)
		}
	}
	return demand{kind: wantsToken} // servers of 2025-03-26 send no challenge
}

func demandOf(k kind, p challenge.Parsed) demand {
	d := demand{kind: k, dpop: strings.EqualFold(p.Scheme, "DPoP")}
	d.metadata, _ = p.Get("resource_metadata")
	d.description, _ = p.Get("error_description")
	named, _ := p.Get("scope")
	d.scopes = scopesOf(strings.Fields(named))
	return d
}

// Bounds of what a stranger may have a login ask for.
const (
	maxScopes = 256
	maxScope  = 512 // bytes of one
)

// scopesOf leaves out what is no scope (RFC 6749 §3.3): a person is shown them, and a
// terminal must not obey.
func scopesOf(named []string) []string {
	var scopes []string
	for _, token := range named {
		if scope.ValidToken(token) && len(token) <= maxScope && len(scopes) < maxScopes {
			scopes = append(scopes, token)
		}
	}
	return scope.Of(scopes...)
}

// readChallenges reads every line that can be read: one that cannot must not hide
// the others.
func readChallenges(values []string) []challenge.Parsed {
	if parsed, err := challenge.Parse(values); err == nil {
		return parsed
	}
	var all []challenge.Parsed
	for _, line := range values {
		if parsed, err := challenge.Parse([]string{line}); err == nil {
			all = append(all, parsed...)
		}
	}
	return all
}

// operationOf names what a request does, so that step-ups can be counted for each
// (REQ-53).
func operationOf(r *http.Request, body []byte) string {
	if body == nil {
		return r.Method
	}
	call, wrong := message.Read(body)
	if wrong != nil || call.Method == "" {
		return r.Method
	}
	return strings.TrimSpace(call.Method + " " + call.Name + call.URI)
}

// includes reports whether all of some are in all.
func includes(all, some []string) bool { return len(scope.Set(some).Without(all)) == 0 }

// union is a and then what of b is not in it.
func union(a, b []string) []string { return scope.Set(a).Union(b) }
