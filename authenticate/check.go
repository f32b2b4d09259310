package authenticate

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/internal/problem"
)

// DefaultClockSkew is how far our clock and an issuer's may be apart.
const DefaultClockSkew = 30 * time.Second

// maxClockSkew bounds what may be configured: a token lives that much longer.
const maxClockSkew = 5 * time.Minute

// checkIssuer wants an issuer identifier (RFC 8414 §2).
func checkIssuer(mistakes *problem.List, issuer string) {
	u, err := fetch.CheckURL(issuer, true)
	switch {
	case issuer == "":
		mistakes.Add("issuer", "", "the issuer identifier, such as https://idp.example.com")
	case err != nil:
		mistakes.Add("issuer", withoutUser(issuer), "an https URL (http only on loopback), without user information or fragment")
	case u.RawQuery != "" || u.ForceQuery:
		mistakes.Add("issuer", issuer, "an issuer identifier without a query")
	}
}

// checkURL wants a URL that may be fetched, or nothing.
func checkURL(mistakes *problem.List, path, raw string) {
	if raw == "" {
		return
	}
	if _, err := fetch.CheckURL(raw, true); err != nil {
		mistakes.Add(path, withoutUser(raw), "an https URL (http only on loopback), without user information or fragment")
	}
}

// withoutUser leaves out what could be a password.
func withoutUser(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil {
		return ""
	}
	return raw
}

// checkMapping wants what every kind of issuer has.
func checkMapping(mistakes *problem.List, m *mapping, skew time.Duration) {
	for i, a := range m.audiences {
		if a == "" {
			mistakes.Add("audiences["+strconv.Itoa(i)+"]", "", "a value of aud, such as the URL of the endpoint")
		}
	}
	if len(m.audiences) == 0 && !m.anyAudience {
		mistakes.Add("audiences", "", "at least one value of aud: a token for somebody else must not be accepted")
	}
	if m.noAudience[""] {
		mistakes.Add("dangerously_no_audience_clients", "", "client ids; the empty one would be every token that names no client")
	}
	for i, name := range m.names.scopes {
		if name == "" {
			mistakes.Add("scope_claims["+strconv.Itoa(i)+"]", "", "the name of a claim")
		}
	}
	if p := m.profile.ScopePrefix; p != "" && !isScopeToken(p) {
		mistakes.Add("scope_prefix", p, "characters that a scope may have (RFC 6749 section 3.3)")
	}
	for i, g := range m.profile.Grantable {
		name, _ := strings.CutSuffix(g, "*")
		if strings.Contains(name, "*") || g == "" || (name != "" && !isScopeToken(name)) {
			mistakes.Add("grantable["+strconv.Itoa(i)+"]", g, "a scope, or the beginning of scopes and * at its end")
		}
	}
	if skew < 0 || skew > maxClockSkew {
		mistakes.Add("clock_skew", skew.String(), "0 to 5m")
	}
}

// set returns the values as a set.
func setOf(values []string) map[string]bool {
	set := make(map[string]bool, len(values))
	for _, v := range values {
		set[v] = true
	}
	return set
}

// defaultClaims are where scopes stand: RFC 9068 §2.2.3, and what Okta, Entra and
// Hydra use.
var defaultClaims = []string{"scope", "scp"}
