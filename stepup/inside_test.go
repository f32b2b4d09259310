package stepup

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stile-mcp/stile/scope"
)

var plainAddress = regexp.MustCompile(`^https?://[A-Za-z0-9._~%:\[\]-]+(/[A-Za-z0-9._~:@/=,+%\[\]-]*)?\?[A-Za-z0-9._~%&=+-]+$`)

// Whatever a server names as the place to authorise at: it is refused, or what is
// opened is an address of that place, in characters that mean nothing to a shell.
func FuzzAddressToOpen(f *testing.F) {
	for _, seed := range []string{"https://idp.example.com/authorize", "https://idp.example.com/a;b?c='$(id)'&d", "http://localhost:1/%2f(x)",
		"javascript:alert(1)", "https://$(id)/", "https://[::1%25en0]/", "https://a/\x1b", "https://a\\b/", "https://a/ü", "https://a:b/"} {
		f.Add(seed, "a b")
	}
	f.Fuzz(func(t *testing.T, endpoint, scopes string) {
		if checkAddress(endpoint) != nil {
			return
		}
		flow := codeFlow{found: &discovery{issuer: issuer{AuthServerMeta: oauthex.AuthServerMeta{AuthorizationEndpoint: endpoint}}},
			scopes: scopesOf(strings.Fields(scopes))}
		address, err := flow.address()
		if err != nil {
			t.Fatalf("%q: %v", endpoint, err)
		}
		from, to := must(url.Parse(endpoint)), must(url.Parse(address))
		if !plainAddress.MatchString(address) || to.Host != from.Host || to.Path != from.Path || to.Fragment != "" || to.User != nil {
			t.Errorf("%q is opened as %q", endpoint, address)
		}
		for name, values := range from.Query() {
			if got := to.Query(); !got.Has(name) || got.Get(name) != values[0] && !strings.Contains(" response_type client_id redirect_uri state code_challenge code_challenge_method resource scope prompt ", " "+name+" ") {
				t.Errorf("%q lost %s: %q", endpoint, name, address)
			}
		}
	})
}

func must(u *url.URL, err error) *url.URL {
	if err != nil {
		panic(err)
	}
	return u
}

// Whatever a challenge says: it asks for scopes that are scopes, and not for too many.
func FuzzDemand(f *testing.F) {
	f.Add(403, `Bearer error="insufficient_scope", scope="a b"`, `Basic realm="x"`)
	f.Add(401, `DPoP error="use_dpop_nonce"`, "Bearer")
	f.Add(403, `Basic realm="`, "Bearer error=insufficient_scope, scope=\"\u009b31m a\"")
	f.Fuzz(func(t *testing.T, status int, one, other string) {
		d := readDemand(&http.Response{StatusCode: status, Header: http.Header{"Www-Authenticate": {one, other}}})
		if d.kind != satisfied && status != 401 && status != 403 || d.kind == wantsScopes && status != 403 {
			t.Errorf("%d is a demand of kind %d", status, d.kind)
		}
		if len(d.scopes) > maxScopes {
			t.Errorf("%d scopes", len(d.scopes))
		}
		for _, s := range d.scopes {
			if !scope.ValidToken(s) || len(s) > maxScope {
				t.Errorf("no scope: %q", s)
			}
		}
	})
}

// Whatever a token endpoint answers: it is an error, or a token that fits a header.
func FuzzTokenAnswer(f *testing.F) {
	f.Add(`{"access_token":"t","token_type":"Bearer","expires_in":"3600","scope":"a"}`)
	f.Add(`{"access_token":"t\r\nX: y","expires_in":1e400}`)
	f.Add(`{"access_token":"t","expires_in":{"a":[1]},"scope":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		var got tokenResponse
		if json.Unmarshal([]byte(body), &got) != nil {
			return
		}
		l := &Login{RefreshToken: "kept"}
		if got.into(l) != nil {
			return
		}
		r := http.Request{Header: http.Header{"Authorization": {"Bearer " + l.AccessToken}}}
		if strings.ContainsFunc(r.Header.Get("Authorization"), func(c rune) bool { return c < ' ' || c > '~' }) || l.AccessToken == "" {
			t.Errorf("the token %q", l.AccessToken)
		}
		if until := time.Until(l.Expires); !l.Expires.IsZero() && (until < -time.Minute || until > maxLifetime) {
			t.Errorf("good for %s", until)
		}
		if l.RefreshToken == "" || l.Key != nil {
			t.Errorf("%+v", l)
		}
	})
}
