package authserver_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/people"
)

func basicAuth(id, secret string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}
}

// TestCodesOfOthers: a code is of use to nobody but the client that asked for it,
// at the place it was sent to, with the verifier it began with (RFC 9700 §4.5).
func TestCodesOfOthers(t *testing.T) {
	f := newFixture(t, func(c *authserver.Config) {
		c.Clients = append(c.Clients, authserver.Client{ID: "twin", RedirectURIs: []string{"https://app.example.com/cb"}},
			authserver.Client{ID: "secretive", SecretHash: authserver.HashSecret("s3cret"), RedirectURIs: []string{"https://app.example.com/cb"}})
	})
	for name, take := range map[string]func(code string) reply{
		"another client, same redirect URI": func(code string) reply { return f.redeem(code, "client_id", "twin") },
		"another client that proves itself": func(code string) reply {
			return f.form("/token", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier},
				"redirect_uri": {"https://app.example.com/cb"}}, basicAuth("secretive", "s3cret")...)
		},
		"two clients at once": func(code string) reply {
			return f.form("/token", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier},
				"redirect_uri": {"https://app.example.com/cb"}, "client_id": {"app"}}, basicAuth("secretive", "s3cret")...)
		},
		"as a refresh token": func(code string) reply { return f.refresh(code) },
		"as an assertion": func(code string) reply {
			return f.form("/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {code}, "client_id": {"app"}})
		},
		"as a device code": func(code string) reply {
			return f.form("/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code}, "client_id": {"app"}})
		},
	} {
		if r := take(f.allowed(f.request(), ada, "notes:read")); r.status == http.StatusOK || r.text("access_token") != "" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	code := f.allowed(f.request("client_id", "secretive"), ada, "notes:read")
	if r := f.redeem(code, "client_id", "secretive"); r.status != http.StatusUnauthorized {
		t.Errorf("a client with a secret, without it: %d %s", r.status, r.body)
	}
	if r := f.form("/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"notes:read"}, "resource": {f.resource}, "client_id": {"app"}}); r.status == http.StatusOK {
		t.Errorf("a public client got tokens without a person: %s", r.body)
	}
}

// TestAnswersSayWhose: whatever comes back to a client says of whom it is, so that
// none is taken to another authorization server (RFC 9207).
func TestAnswersSayWhose(t *testing.T) {
	f := newFixture(t, nil)
	allowed, err := f.Allow(t.Context(), f.waiting(f.request()), ada, []string{"notes:read"})
	if err != nil {
		t.Fatal(err)
	}
	refused, err := f.Refuse(t.Context(), f.waiting(f.request()))
	if err != nil {
		t.Fatal(err)
	}
	wrong := f.get("/authorize?" + f.request("resource", "https://else.example").Encode()).header.Get("Location")
	for name, location := range map[string]string{"allowed": allowed, "refused": refused, "wrong": wrong} {
		if got := answer(t, location)["iss"]; len(got) != 1 || got[0] != f.url {
			t.Errorf("%s: iss %q in %s", name, got, location)
		}
	}
	// A parameter of the registered redirect URI cannot stand in for one of ours.
	spoof := newFixture(t, func(c *authserver.Config) {
		c.Clients[0].RedirectURIs = []string{"https://app.example.com/cb?iss=https://evil.example&code=x&state=y"}
	})
	q := spoof.request("redirect_uri", "https://app.example.com/cb?iss=https://evil.example&code=x&state=y")
	to, err := spoof.Allow(t.Context(), spoof.waiting(q), ada, []string{"notes:read"})
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range answer(t, to) {
		if len(values) != 1 {
			t.Errorf("%s stands %d times in %s", name, len(values), to)
		}
	}
}

// TestNoBounce: a link to the authorization server does not bring anybody to a place
// that nobody vouches for, before somebody has consented (RFC 9700 §4.11.2).
func TestNoBounce(t *testing.T) {
	f := newFixture(t, nil)
	id := f.registered(map[string]any{"redirect_uris": []string{"https://evil.example/phish", "http://127.0.0.1/cb"}, "token_endpoint_auth_method": "none"}).text("client_id")
	for name, pairs := range map[string][]string{
		"unknown scope": {"scope", "nonsense"}, "no PKCE": {"code_challenge", ""}, "other resource": {"resource", "https://else.example"},
		"prompt": {"prompt", "none"}, "response type": {"response_type", "token"},
	} {
		r := f.get("/authorize?" + f.request(append(pairs, "client_id", id, "redirect_uri", "https://evil.example/phish")...).Encode())
		if r.status != http.StatusBadRequest || r.header.Get("Location") != "" || strings.Contains(r.body, "http-equiv") {
			t.Errorf("%s: %d %s", name, r.status, r.header.Get("Location"))
		}
		// A program on the device is told.
		r = f.get("/authorize?" + f.request(append(pairs, "client_id", id, "redirect_uri", "http://127.0.0.1:5/cb")...).Encode())
		if r.status != http.StatusSeeOther {
			t.Errorf("%s on the device: %d", name, r.status)
		}
	}
}

// TestHugeParameters: strangers cannot have much stored for them.
func TestHugeParameters(t *testing.T) {
	f := newFixture(t, func(c *authserver.Config) { c.Known = func(string) bool { return true } })
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf("notes:item:%d", i))
	}
	for name, pairs := range map[string][]string{
		"state": {"state", strings.Repeat("x", 20_000)}, "scope": {"scope", strings.Join(many, " ")},
	} {
		q := f.request(pairs...)
		for how, r := range map[string]reply{"GET": f.get("/authorize?" + q.Encode()), "POST": f.form("/authorize", q)} {
			if to := r.header.Get("Location"); !strings.Contains(to, "error=invalid_request") || len(to) > 2000 {
				t.Errorf("%s by %s: %d %.200s", name, how, r.status, to)
			}
		}
	}
	if r := f.get("/authorize?" + f.request("client_id", "https://"+strings.Repeat("x", 5000)+".example/c").Encode()); r.status != http.StatusBadRequest {
		t.Errorf("client_id: %d", r.status)
	}
	if r := f.registered(map[string]any{"redirect_uris": slicesOf(20, "https://app.example.com/"+strings.Repeat("x", 900))}); r.status != http.StatusBadRequest {
		t.Errorf("registration: %d", r.status)
	}
	for _, path := range []string{"/token", "/revoke", "/introspect"} {
		if r := f.form(path, url.Values{"token": {strings.Repeat("x", 100_000)}}); r.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if r := f.refresh(strings.Repeat("x", 30_000)); r.text("error") != "invalid_grant" {
		t.Errorf("a long refresh token: %d %s", r.status, r.body)
	}
}

func slicesOf(n int, s string) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s%d", s, i))
	}
	return all
}

// TestAllIsTakenBack: who allowed more clients than a page shows, takes back all.
func TestAllIsTakenBack(t *testing.T) {
	f := newFixture(t, func(c *authserver.Config) {
		for i := range 250 {
			c.Clients = append(c.Clients, authserver.Client{ID: fmt.Sprint("c", i), RedirectURIs: []string{"https://app.example.com/cb"}})
		}
	})
	var tokens []string
	for i := range 250 {
		id := fmt.Sprint("c", i)
		code := f.allowed(f.request("client_id", id), ada, "notes:read")
		tokens = append(tokens, f.redeem(code, "client_id", id).text("access_token"))
	}
	if err := f.RevokeAll(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	for i, token := range tokens {
		if f.active(token) {
			t.Fatalf("the token of client %d is good still", i)
		}
	}
}

// TestRequestsOfOthersCannotBeDecided: a person decides what they may only.
func TestRequestsOfOthersCannotBeDecided(t *testing.T) {
	f := newFixture(t, nil)
	id := f.waiting(f.request("scope", "notes:read notes:write"))
	for name, who := range map[string]people.Person{"nobody": {}, "barred": {Subject: "bob", Scopes: []string{}}} {
		if to, err := f.Allow(t.Context(), id, who, []string{"notes:read"}); err == nil {
			t.Errorf("%s: %s", name, to)
		}
	}
}

// TestDocumentsAreFetchedForFew: nobody makes the server fetch for them at will, at
// the token endpoint either; who was here before is not kept out by it.
func TestDocumentsAreFetchedForFew(t *testing.T) {
	f := newFixture(t, func(c *authserver.Config) { c.LocalDocuments = true })
	s, count := documents(t, document, http.Header{"Cache-Control": {"max-age=600"}})
	q := f.request("client_id", s.URL+"/client", "redirect_uri", "https://agent.example/cb")
	code := f.allowed(q, ada, "notes:read")
	for i := range 400 {
		f.redeem("x", "client_id", fmt.Sprintf("%s/stranger/%d", s.URL, i))
	}
	if n := count.Load(); n > 200 {
		t.Errorf("%d documents were fetched for strangers", n)
	}
	if r := f.redeem(code, "client_id", s.URL+"/client", "redirect_uri", "https://agent.example/cb"); r.status != http.StatusOK {
		t.Errorf("kept out: %d %s", r.status, r.body)
	}
}
