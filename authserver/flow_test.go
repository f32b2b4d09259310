package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
)

func TestFirstLogin(t *testing.T) {
	f := newFixture(t, nil)
	r := f.redeem(f.allowed(f.request("scope", "notes:read unknown openid"), ada, "notes:read"))
	if r.status != 200 || r.text("scope") != "notes:read" || r.text("token_type") != "Bearer" || r.json()["expires_in"] != 600.0 || r.text("refresh_token") == "" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if r.header.Get("Cache-Control") == "" || !strings.Contains(r.header.Get("Cache-Control"), "no-store") {
		t.Errorf("Cache-Control: %s", r.header.Get("Cache-Control"))
	}
	header, c := claims(t, r.text("access_token"))
	if header["typ"] != "at+jwt" || header["alg"] != "ES256" || header["kid"] == "" {
		t.Errorf("header %v", header)
	}
	aud, _ := c["aud"].([]any)
	if c["iss"] != f.url || c["sub"] != "ada" || c["client_id"] != "app" || c["scope"] != "notes:read" || c["jti"] == nil ||
		!(c["aud"] == f.resource || len(aud) == 1 && aud[0] == f.resource) {
		t.Errorf("claims %v", c)
	}
	keys, err := f.PublicKeys(t.Context())
	if err != nil || keys[header["kid"].(string)] == nil {
		t.Errorf("the key is not published: %v %v", keys, err)
	}
	if !strings.Contains(f.get("/authserver/jwks.json").body, header["kid"].(string)) || strings.Contains(f.get("/authserver/jwks.json").body, `"d":`) {
		t.Error("the key set lacks the key, or has its private half")
	}
}

func TestStepUpMergesConsent(t *testing.T) {
	f := newFixture(t, nil)
	f.redeem(f.allowed(f.request(), ada, "notes:read"))
	f.Challenged("ada", "app", []string{"notes:read", "notes:write"}, "delete_note")
	id := f.waiting(f.request("scope", "notes:read notes:write"))
	pending, err := f.Pending(t.Context(), id, ada)
	if err != nil {
		t.Fatal(err)
	}
	want := []portal.Scope{{Name: "notes:read", Description: "may notes:read", Granted: true, Needed: true}, {Name: "notes:write", Description: "may notes:write", Needed: true}}
	if !slices.Equal(pending.Scopes, want) || pending.Operation != "delete_note" || pending.Server != "Notes" || pending.Client.Name != "App" || pending.Browser == "" {
		t.Errorf("%+v", pending)
	}
	to, err := f.Allow(t.Context(), id, ada, []string{"notes:write", "notes:read"})
	if err != nil {
		t.Fatal(err)
	}
	r := f.redeem(answer(t, to).Get("code"))
	if r.text("scope") != "notes:read notes:write" {
		t.Errorf("%s", r.body)
	}
	// A narrower request gets what it asks for; the consent stays what it was.
	if r := f.redeem(f.allowed(f.request("scope", "notes:write"), ada, "notes:write")); r.text("scope") != "notes:write" {
		t.Errorf("%s", r.body)
	}
	grants, err := f.Grants(t.Context(), "ada")
	if err != nil || len(grants) != 1 || len(grants[0].Scopes) != 2 {
		t.Errorf("%+v %v", grants, err)
	}
	// Somebody else, and another client of the same person, have allowed nothing.
	if p, _ := f.Pending(t.Context(), f.waiting(f.request()), people.Person{Subject: "bob"}); p.Scopes[0].Granted {
		t.Error("one person's consent is another's")
	}
	other := f.registered(map[string]any{"redirect_uris": []string{"https://app.example.com/cb"}, "token_endpoint_auth_method": "none"}).text("client_id")
	if p, _ := f.Pending(t.Context(), f.waiting(f.request("client_id", other)), ada); p.Scopes[0].Granted {
		t.Error("one client's consent is another's")
	}
}

func TestAPersonMayGrantLess(t *testing.T) {
	f := newFixture(t, nil)
	if r := f.redeem(f.allowed(f.request("scope", "notes:read notes:write"), ada, "notes:read")); r.text("scope") != "notes:read" {
		t.Errorf("%s", r.body)
	}
	limited := people.Person{Subject: "bob", Scopes: []string{"notes:read"}}
	id := f.waiting(f.request("scope", "notes:read notes:write"))
	for _, scopes := range [][]string{{"notes:write"}, {"notes:read", "notes:write"}, {"notes:admin"}, {}, nil} {
		if to, err := f.Allow(t.Context(), id, limited, scopes); err == nil {
			t.Errorf("%q granted: %s", scopes, to)
		}
	}
	if _, err := f.Allow(t.Context(), id, limited, []string{"notes:read"}); err != nil {
		t.Errorf("after what could not be granted: %v", err)
	}
}

func TestOneAnswerOnly(t *testing.T) {
	f := newFixture(t, nil)
	id := f.waiting(f.request())
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := f.Allow(t.Context(), id, ada, []string{"notes:read"}); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d answers", won.Load())
	}
	if _, err := f.Refuse(t.Context(), id); err == nil {
		t.Error("refused after it was allowed")
	}
	if r := f.get("/authorize/" + id); r.status == 200 || strings.Contains(r.header.Get("Location"), "code=") {
		t.Errorf("%d %s", r.status, r.header.Get("Location"))
	}
}

func TestRefusal(t *testing.T) {
	f := newFixture(t, nil)
	to, err := f.Refuse(t.Context(), f.waiting(f.request()))
	q := answer(t, to)
	if err != nil || q.Get("error") != "access_denied" || q.Get("iss") != f.url || q.Get("state") != "st" || q.Has("code") {
		t.Errorf("%s %v", to, err)
	}
}

// Mistakes that the client is told, at its redirect URI and with iss.
func TestRequestsSentBack(t *testing.T) {
	f := newFixture(t, nil)
	for name, c := range map[string]struct {
		change []string
		more   string
		code   string
	}{
		"no PKCE":           {[]string{"code_challenge", "", "code_challenge_method", ""}, "", "invalid_request"},
		"plain PKCE":        {[]string{"code_challenge_method", "plain"}, "", "invalid_request"},
		"PKCE without kind": {[]string{"code_challenge_method", ""}, "", "invalid_request"},
		"short challenge":   {[]string{"code_challenge", "x"}, "", "invalid_request"},
		"other resource":    {[]string{"resource", "https://else.example/mcp"}, "", "invalid_target"},
		"two resources":     {nil, "&resource=https://else.example", "invalid_target"},
		"resource fragment": {nil, "", ""},
		"token":             {[]string{"response_type", "token"}, "", "unsupported_response_type"},
		"no response type":  {[]string{"response_type", ""}, "", "invalid_request"},
		"scope twice":       {nil, "&scope=notes:admin", "invalid_request"},
		"state twice":       {nil, "&state=x", "invalid_request"},
		"unknown scopes":    {[]string{"scope", "openid email"}, "", "invalid_scope"},
		"request object":    {[]string{"request", "x"}, "", "request_not_supported"},
		"request by URL":    {[]string{"request_uri", "https://x.example"}, "", "request_uri_not_supported"},
		"fragment":          {[]string{"response_mode", "fragment"}, "", "invalid_request"},
		"without a person":  {[]string{"prompt", "none"}, "", "interaction_required"},
	} {
		if c.code == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := f.get("/authorize?" + f.request(c.change...).Encode() + c.more)
			to := r.header.Get("Location")
			q := answer(t, to)
			if r.status != http.StatusSeeOther || !strings.HasPrefix(to, "https://app.example.com/cb?") || q.Get("error") != c.code || q.Get("iss") != f.url {
				t.Errorf("%d %s, want %s", r.status, to, c.code)
			}
			if name != "state twice" && q.Get("state") != "st" {
				t.Errorf("state %q", q.Get("state"))
			}
		})
	}
}

// Requests whose redirect URI cannot be trusted are answered with a page.
func TestRequestsShown(t *testing.T) {
	f := newFixture(t, nil)
	for name, query := range map[string]string{
		"unknown client":   f.request("client_id", "nobody").Encode(),
		"no client":        f.request("client_id", "").Encode(),
		"two clients":      f.request().Encode() + "&client_id=job",
		"no redirect":      f.request("redirect_uri", "").Encode(),
		"two redirects":    f.request().Encode() + "&redirect_uri=https://app.example.com/cb",
		"other host":       f.request("redirect_uri", "https://app.example.org/cb").Encode(),
		"longer path":      f.request("redirect_uri", "https://app.example.com/cb/x").Encode(),
		"more query":       f.request("redirect_uri", "https://app.example.com/cb?x=1").Encode(),
		"other port":       f.request("redirect_uri", "https://app.example.com:444/cb").Encode(),
		"other case":       f.request("redirect_uri", "https://app.example.com/CB").Encode(),
		"user":             f.request("redirect_uri", "https://app.example.com@evil.example/cb").Encode(),
		"script":           f.request("redirect_uri", "javascript:alert(1)").Encode(),
		"not for browsers": f.request("client_id", "job", "redirect_uri", "https://app.example.com/cb").Encode(),
	} {
		t.Run(name, func(t *testing.T) {
			r := f.get("/authorize?" + query)
			if r.status != http.StatusBadRequest || r.header.Get("Location") != "" || !strings.Contains(r.body, "cannot go on") {
				t.Errorf("%d %s %s", r.status, r.header.Get("Location"), r.body)
			}
			if !strings.Contains(r.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
				t.Error("the page may be framed")
			}
		})
	}
}

func TestPortsOfLoopback(t *testing.T) {
	f := newFixture(t, nil)
	id := f.registered(map[string]any{"redirect_uris": []string{"http://127.0.0.1:7777/cb", "http://localhost/cb", "http://[::1]/cb", "cursor://anysphere/cb"}, "token_endpoint_auth_method": "none"}).text("client_id")
	for _, uri := range []string{"http://127.0.0.1:7777/cb", "http://127.0.0.1:50000/cb", "http://127.0.0.1/cb", "http://localhost:1234/cb", "http://[::1]:5/cb", "cursor://anysphere/cb"} {
		q := f.request("client_id", id, "redirect_uri", uri)
		to, err := f.Allow(t.Context(), f.waiting(q), ada, []string{"notes:read"})
		if err != nil || !strings.HasPrefix(to, uri+"?") {
			t.Fatalf("%s: %s %v", uri, to, err)
		}
		code := answer(t, to).Get("code")
		if r := f.redeem(code, "client_id", id, "redirect_uri", uri); r.status != 200 {
			t.Errorf("%s: %s", uri, r.body)
		}
	}
	for _, uri := range []string{"http://127.0.0.1:7777/other", "http://127.0.0.2:7777/cb", "https://127.0.0.1/cb", "http://localhost.evil.example/cb", "http://127.0.0.1:80@evil.example/cb", "cursor://anysphere/cb2"} {
		if r := f.get("/authorize?" + f.request("client_id", id, "redirect_uri", uri).Encode()); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", uri, r.status, r.header.Get("Location"))
		}
	}
}

func TestRedemptions(t *testing.T) {
	f := newFixture(t, nil)
	for name, c := range map[string]struct {
		change []string
		code   string
	}{
		"wrong verifier":              {[]string{"code_verifier", "another-verifier-that-is-long-enough-for-the-rfc-76"}, "invalid_grant"},
		"no verifier":                 {[]string{"code_verifier", ""}, "invalid_grant"},
		"other redirect":              {[]string{"redirect_uri", "https://app.example.com/cb2"}, "invalid_grant"},
		"no redirect, wrong verifier": {[]string{"redirect_uri", "", "code_verifier", "another-verifier-that-is-long-enough-for-the-rfc-76"}, "invalid_grant"},
		"other client":                {[]string{"client_id", "nobody"}, "invalid_client"},
		"other resource":              {[]string{"resource", "https://else.example/mcp"}, "invalid_target"},
		"wrong code":                  {[]string{"code", "x"}, "invalid_grant"},
		"no code":                     {[]string{"code", ""}, "invalid_request"},
		"no grant type":               {[]string{"grant_type", ""}, "unsupported_grant_type"},
		"password":                    {[]string{"grant_type", "password"}, "unsupported_grant_type"},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.redeem(f.allowed(f.request(), ada, "notes:read"), c.change...)
			if r.status < 400 || r.status > 401 || r.text("error") != c.code && !(c.code == "invalid_grant" && r.text("error") == "invalid_request") {
				t.Errorf("%d %s, want %s", r.status, r.body, c.code)
			}
			if !strings.Contains(r.header.Get("Cache-Control"), "no-store") {
				t.Error("may be stored")
			}
		})
	}
	code := f.allowed(f.request(), ada, "notes:read")
	for name, form := range map[string]string{
		"code twice": "grant_type=authorization_code&client_id=app&redirect_uri=https://app.example.com/cb&code_verifier=" + verifier + "&code=x&code=" + code,
		"JSON":       `{"grant_type":"authorization_code"}`,
	} {
		media := "application/x-www-form-urlencoded"
		if name == "JSON" {
			media = "application/json"
		}
		if r := f.post("/token", media, form); r.status != 400 || r.text("error") != "invalid_request" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if r := f.post("/token?code="+code, "application/x-www-form-urlencoded", "grant_type=authorization_code"); r.status != 400 {
		t.Errorf("in the query: %d", r.status)
	}
	if r := f.redeem(code); r.status != 200 {
		t.Errorf("the code was used up by what was refused: %s", r.body)
	}
}

// OAuth 2.1 has no redirect URI at the token endpoint; what is there must match still.
func TestRedemptionWithoutRedirect(t *testing.T) {
	f := newFixture(t, nil)
	code := f.allowed(f.request(), ada, "notes:read")
	if r := f.redeem(code, "redirect_uri", ""); r.status != 200 || r.text("scope") != "notes:read" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := f.redeem(code, "redirect_uri", ""); r.text("error") != "invalid_grant" {
		t.Errorf("a second time: %d %s", r.status, r.body)
	}
}

func TestCodeUsedTwiceRevokes(t *testing.T) {
	f := newFixture(t, nil)
	code := f.allowed(f.request(), ada, "notes:read")
	first := f.redeem(code)
	if second := f.redeem(code); second.status != 400 || second.text("error") != "invalid_grant" {
		t.Errorf("%d %s", second.status, second.body)
	}
	if f.active(first.text("access_token")) {
		t.Error("what the code gave is still good")
	}
	if r := f.refresh(first.text("refresh_token")); r.text("error") != "invalid_grant" {
		t.Errorf("%s", r.body)
	}
}

func TestOneRedemptionWins(t *testing.T) {
	f := newFixture(t, nil)
	for range 3 {
		code := f.allowed(f.request(), ada, "notes:read")
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				switch r := f.redeem(code); {
				case r.status == 200:
					won.Add(1)
				case r.status != 400 || r.text("error") != "invalid_grant":
					t.Errorf("%d %s", r.status, r.body)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d redemptions of one code", won.Load())
		}
	}
}

func TestRefresh(t *testing.T) {
	f := newFixture(t, nil)
	first := f.redeem(f.allowed(f.request("scope", "notes:read notes:write"), ada, "notes:read", "notes:write"))
	if r := f.refresh(first.text("refresh_token"), "scope", "notes:read notes:admin"); r.text("error") != "invalid_scope" {
		t.Errorf("a refresh asked for more: %s", r.body)
	}
	narrow := f.refresh(first.text("refresh_token"), "scope", "notes:read")
	if narrow.text("scope") != "notes:read" {
		t.Fatalf("%s", narrow.body)
	}
	whole := f.refresh(narrow.text("refresh_token"))
	if whole.status != 200 || whole.text("scope") != "notes:read notes:write" || whole.text("refresh_token") == narrow.text("refresh_token") {
		t.Errorf("%s", whole.body)
	}
	if r := f.refresh(whole.text("refresh_token"), "resource", "https://else.example"); r.text("error") != "invalid_target" {
		t.Errorf("%s", r.body)
	}
	// Reuse of one that was exchanged ends the family.
	if r := f.refresh(narrow.text("refresh_token")); r.text("error") != "invalid_grant" {
		t.Errorf("%s", r.body)
	}
	if r := f.refresh(whole.text("refresh_token")); r.text("error") != "invalid_grant" || f.active(whole.text("access_token")) {
		t.Errorf("the family goes on: %s", r.body)
	}
	if r := f.refresh(f.redeem(f.allowed(f.request(), ada, "notes:read")).text("refresh_token"), "client_id", "job"); r.status == 200 {
		t.Errorf("another client refreshed: %s", r.body)
	}
}

// DES-34 ii: a client that refreshes first goes and asks instead; one that holds on to
// its tokens is refused once more, and never again.
func TestRefreshIsRefusedWhileAChallengeWaits(t *testing.T) {
	f := newFixture(t, nil)
	first := f.redeem(f.allowed(f.request(), ada, "notes:read"))
	f.Challenged("ada", "other", []string{"notes:write"}, "x")
	f.Challenged("ada", "app", []string{"notes:read"}, "x") // the grant has it
	next := f.refresh(first.text("refresh_token"))
	if next.status != 200 {
		t.Fatalf("%s", next.body)
	}
	f.Challenged("ada", "app", []string{"notes:write"}, "delete_note")
	if r := f.refresh(next.text("refresh_token")); r.status != 400 || r.text("error") != "invalid_grant" {
		t.Errorf("%d %s", r.status, r.body)
	}
	f.Challenged("ada", "app", []string{"notes:write"}, "delete_note") // the client repeats its call
	if r := f.refresh(next.text("refresh_token")); r.status != 400 || r.text("error") != "server_error" {
		t.Errorf("at once again: %d %s", r.status, r.body)
	}
	f.Challenged("ada", "app", []string{"notes:write"}, "delete_note")
	if r := f.refresh(next.text("refresh_token")); r.status != 200 {
		t.Errorf("refused for ever: %s", r.body)
	}
	off := newFixture(t, func(c *authserver.Config) { c.NoRefusedRefresh = true })
	one := off.redeem(off.allowed(off.request(), ada, "notes:read"))
	off.Challenged("ada", "app", []string{"notes:write"}, "delete_note")
	if r := off.refresh(one.text("refresh_token")); r.status != 200 {
		t.Errorf("switched off, but %s", r.body)
	}
}

func TestRevocation(t *testing.T) {
	f := newFixture(t, nil)
	basic := []string{"Authorization", "Basic " + "cmVzb3VyY2U6czNjcmV0"} // resource:s3cret
	introspect := func(token string) bool {
		r := f.form("/introspect", url.Values{"token": {token}}, basic...)
		if r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return r.json()["active"] == true
	}
	one := f.redeem(f.allowed(f.request(), ada, "notes:read"))
	if !introspect(one.text("access_token")) || introspect("nonsense") {
		t.Error("introspection is wrong about tokens")
	}
	if r := f.form("/introspect", url.Values{"token": {one.text("access_token")}, "client_id": {"app"}}); r.status == 200 && r.json()["active"] == true {
		t.Errorf("any client may introspect: %s", r.body)
	}
	if r := f.form("/revoke", url.Values{"token": {one.text("refresh_token")}, "client_id": {"app"}}); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if introspect(one.text("access_token")) || f.active(one.text("access_token")) || f.refresh(one.text("refresh_token")).status == 200 {
		t.Error("revoked, but good")
	}
	if r := f.form("/revoke", url.Values{"token": {"nonsense"}, "client_id": {"app"}}); r.status != 200 {
		t.Errorf("RFC 7009 section 2.2: %d", r.status)
	}

	two, three := f.redeem(f.allowed(f.request(), ada, "notes:read")), f.redeem(f.allowed(f.request(), ada, "notes:read"))
	grants, _ := f.Grants(t.Context(), "ada")
	if len(grants) != 1 {
		t.Fatalf("%+v", grants)
	}
	if _, err := f.Revoke(t.Context(), "bob", grants[0].ID); err == nil {
		t.Error("somebody else revoked it")
	}
	if _, err := f.Revoke(t.Context(), "ada", grants[0].ID); err != nil {
		t.Fatal(err)
	}
	if f.active(two.text("access_token")) || f.active(three.text("access_token")) || f.refresh(two.text("refresh_token")).status == 200 {
		t.Error("revoked by the person, but good")
	}
	if left, _ := f.Grants(t.Context(), "ada"); len(left) != 0 {
		t.Errorf("%+v", left)
	}
}

func TestClientCredentials(t *testing.T) {
	f := newFixture(t, nil)
	basic := []string{"Authorization", "Basic am9iOnMzY3JldA=="}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"notes:read"}, "resource": {f.resource}}
	r := f.form("/token", form, basic...)
	if r.status != 200 || r.text("scope") != "notes:read" || r.text("refresh_token") != "" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if _, c := claims(t, r.text("access_token")); c["sub"] != "job" || c["client_id"] != "job" {
		t.Errorf("%v", c)
	}
	for name, change := range map[string]func(url.Values){
		"more scopes":    func(v url.Values) { v.Set("scope", "notes:read notes:admin") },
		"no scope":       func(v url.Values) { v.Del("scope") },
		"other resource": func(v url.Values) { v.Set("resource", "https://else.example") },
	} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = slices.Clone(v)
		}
		change(bad)
		if r := f.form("/token", bad, basic...); r.status != 400 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if r := f.form("/token", form, "Authorization", "Basic am9iOndyb25n"); r.status != 401 || r.text("error") != "invalid_client" {
		t.Errorf("wrong secret: %d %s", r.status, r.body)
	}
	form.Set("client_id", "app")
	if r := f.form("/token", form); r.status == 200 {
		t.Errorf("a public client acts for itself: %s", r.body)
	}
}

func TestMetadata(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
		"/.well-known/oauth-authorization-server/mcp", "/.well-known/openid-configuration/mcp"} {
		r := f.get(path)
		m := r.json()
		if r.status != 200 || m["issuer"] != f.url || m["authorization_response_iss_parameter_supported"] != true ||
			m["client_id_metadata_document_supported"] != true || r.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		if list, _ := m["code_challenge_methods_supported"].([]any); len(list) != 1 || list[0] != "S256" {
			t.Errorf("%s: PKCE %v", path, list)
		}
	}
	if r := f.get("/.well-known/oauth-protected-resource/mcp"); r.status != http.StatusTeapot {
		t.Errorf("takes what is the gateway's: %d", r.status)
	}
	off := newFixture(t, func(c *authserver.Config) { c.NoRegistration = true })
	if off.get("/.well-known/oauth-authorization-server").json()["registration_endpoint"] != nil {
		t.Error("advertises registration that is off")
	}
}
