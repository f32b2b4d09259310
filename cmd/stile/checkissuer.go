package main

import (
	"github.com/stile-mcp/stile/internal/fetch"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
)

// algorithms are the signature algorithms that can be accepted: those with a
// public key, so that nobody who can verify a token can also make one.
var algorithms = []string{"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"}

// maxSkew is the most that two clocks may be apart.
const maxSkew = Duration(5 * time.Minute)

// checkIssuer looks at one issuer.
func checkIssuer(list *problem.List, at string, i Issuer) {
	if i.Issuer == "" {
		list.Add(at+".issuer", "", "an issuer needs its identifier, such as https://idp.example.com")
	} else if u := secureURL(i.Issuer); u == nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(i.Issuer, "#") {
		list.Add(at+".issuer", i.Issuer, "expected an https URL without query or fragment (http only on loopback)")
	}
	checkSecureURL(list, at+".jwks_uri", i.JWKSURI)
	checkSecureURL(list, at+".metadata_url", i.MetadataURL)
	if i.Introspection != nil {
		i.Introspection.check(list, at+".introspection")
	}
	checkNotEmpty(list, at+".audiences", i.Audiences, "expected an audience")
	checkNotEmpty(list, at+".dangerously_no_audience_clients", i.DangerouslyNoAudienceClients, "expected a client id")
	checkNotEmpty(list, at+".scope_claims", i.ScopeClaims, "expected the name of a claim")
	checkNotEmpty(list, at+".non_interactive_clients", i.NonInteractiveClients, "expected a client id")
	if i.ScopePrefix != "" && !isScope(i.ScopePrefix) {
		list.Add(at+".scope_prefix", i.ScopePrefix, wantScope)
	}
	for n, grantable := range i.Grantable {
		if whole := strings.TrimSuffix(grantable, "*"); (whole != "" && !isScope(whole)) || grantable == "" || strings.Contains(whole, "*") {
			list.Add(index(at+".grantable", n), grantable, `expected a scope, or the beginning of scopes and "*" at the end`)
		}
	}
	for n, name := range i.Algorithms {
		checkAlgorithm(list, index(at+".algorithms", n), name)
	}
	if i.ClockSkew > maxSkew {
		list.Add(at+".clock_skew", time.Duration(i.ClockSkew).String(), "expected at most 5m")
	}
}

// check looks at how tokens are asked about.
func (i *Introspection) check(list *problem.List, at string) {
	if i.URL == "" {
		list.Add(at+".url", "", "expected a url: that of the endpoint")
	}
	checkSecureURL(list, at+".url", i.URL)
	if i.ClientID == "" {
		list.Add(at+".client_id", "", "expected a client_id")
	}
	if i.ClientSecret == "" {
		list.Add(at+".client_secret", "", "expected a client_secret")
	}
}

// checkAlgorithm refuses what is not known, and says why of HMAC and none.
func checkAlgorithm(list *problem.List, at, name string) {
	known := "expected one of " + strings.Join(algorithms, ", ")
	switch {
	case slices.Contains(algorithms, name):
	case strings.HasPrefix(name, "HS"):
		list.Add(at, name, "HMAC is never accepted, since whoever checks a token could make one: "+known)
	case strings.EqualFold(name, "none"):
		list.Add(at, name, "a token must be signed: "+known)
	default:
		list.Add(at, name, known)
	}
}

func checkNotEmpty(list *problem.List, at string, values []string, want string) {
	for i, value := range values {
		if value == "" {
			list.Add(index(at, i), "", want)
		}
	}
}

// checkSecureURL looks at an optional URL that secrets or keys travel by.
func checkSecureURL(list *problem.List, at, text string) {
	if text != "" && secureURL(text) == nil {
		shown, _ := url.Parse(text)
		list.Add(at, withoutPassword(shown), "expected an https URL (http only on loopback)")
	}
}

// secureURL parses an https URL, or an http one on loopback; nil for others.
func secureURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return nil
	}
	if u.Scheme == "https" || (u.Scheme == "http" && fetch.IsLoopback(u.Hostname())) {
		return u
	}
	return nil
}

const wantScope = `expected scopes of printable ASCII without spaces, quotes and backslashes (RFC 6749, 3.3)`

// badScope is the first of the scopes in a text that is not one, or "".
func badScope(text string) string {
	for _, token := range strings.Fields(text) {
		if !isScope(token) {
			return token
		}
	}
	return ""
}

// isScope reports whether a text is one scope token of RFC 6749 §3.3.
func isScope(token string) bool {
	for i := range len(token) {
		if c := token[i]; c < '!' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return token != ""
}
