package stiletest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stile-mcp/stile/stiletest"
)

// get fetches a URL without following redirects.
func get(t *testing.T, rawURL string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// post sends a form, as a client with a secret where one is given, and reads the
// JSON answer.
func post(t *testing.T, rawURL string, client stiletest.Client, form url.Values) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", rawURL, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if client.Secret != "" {
		req.SetBasicAuth(url.QueryEscape(client.ID), url.QueryEscape(client.Secret))
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return res.StatusCode, out
}

func TestDiscovery(t *testing.T) {
	all := map[string]string{
		"oauth-inserted": "/.well-known/oauth-authorization-server/realms/acme",
		"oauth-appended": "/realms/acme/.well-known/oauth-authorization-server",
		"oidc-inserted":  "/.well-known/openid-configuration/realms/acme",
		"oidc-appended":  "/realms/acme/.well-known/openid-configuration",
	}
	for only := range all {
		t.Run(only, func(t *testing.T) {
			issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{
				Path: "/realms/acme", Discovery: []string{only},
				Metadata: map[string]any{"x": 1.0, "jwks_uri": nil}, Scopes: []string{"a"},
			})
			base := strings.TrimSuffix(issuer.URL(), "/realms/acme")
			for form, path := range all {
				res, body := get(t, base+path)
				if want := map[bool]int{true: 200, false: 404}[form == only]; res.StatusCode != want {
					t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
				}
				if form != only {
					continue
				}
				var doc map[string]any
				if err := json.Unmarshal([]byte(body), &doc); err != nil {
					t.Fatal(err)
				}
				if doc["issuer"] != issuer.URL() || doc["x"] != 1.0 || doc["jwks_uri"] != nil || doc["token_endpoint"] != issuer.URL()+"/token" {
					t.Errorf("metadata %v", doc)
				}
			}
		})
	}
}

// TestDiscoveryByClient: the go-sdk's strict reader takes the metadata, with and
// without a path.
func TestDiscoveryByClient(t *testing.T) {
	for _, path := range []string{"", "/realms/acme"} {
		issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Path: path})
		doc, err := auth.GetAuthServerMetadata(t.Context(), issuer.URL(), http.DefaultClient)
		if err != nil || doc == nil {
			t.Fatalf("%q: %v %v", path, doc, err)
		}
		if !doc.AuthorizationResponseIssParameterSupported || !slices.Equal(doc.CodeChallengeMethodsSupported, []string{"S256"}) {
			t.Errorf("%q: %+v", path, doc)
		}
		if got, want := issuer.EndpointURL(stiletest.EndpointMetadata), strings.TrimSuffix(issuer.URL(), path)+"/.well-known/oauth-authorization-server"+path; got != want {
			t.Errorf("metadata URL %q, want %q", got, want)
		}
	}
}

// The verifier and its challenge are those of RFC 7636, Appendix B.
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	callback  = "https://app.example/cb?x=1"
)

var app = stiletest.Client{ID: "app", RedirectURIs: []string{callback}}

// authorization is a good authorization request, changed by pairs of name and
// value; an empty value leaves the parameter out.
func authorization(issuer *stiletest.Issuer, change ...string) string {
	q := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "state": {"s1"},
		"scope": {"a b a"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}, "resource": {audience},
	}
	for n := 0; n < len(change); n += 2 {
		q.Set(change[n], change[n+1])
		if change[n+1] == "" {
			q.Del(change[n])
		}
	}
	return issuer.EndpointURL(stiletest.EndpointAuthorize) + "?" + q.Encode()
}

// respond visits the authorization endpoint and returns the parameters of the
// redirect.
func respond(t *testing.T, rawURL string) url.Values {
	t.Helper()
	res, body := get(t, rawURL)
	if res.StatusCode != 302 {
		t.Fatalf("%d %s, want a redirect", res.StatusCode, body)
	}
	u, err := url.Parse(res.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if u.Host != "app.example" || u.Query().Get("x") != "1" {
		t.Errorf("redirected to %s", u)
	}
	return u.Query()
}

func TestAuthorize(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Clients: []stiletest.Client{app}, Resources: []string{audience}})
	tests := []struct {
		name   string
		change []string
		want   string // error, empty: a code
	}{
		{"good", nil, ""},
		{"no resource", []string{"resource", ""}, ""},
		{"no PKCE", []string{"code_challenge", ""}, "invalid_request"},
		{"plain PKCE", []string{"code_challenge_method", "plain"}, "invalid_request"},
		{"PKCE without method is plain", []string{"code_challenge_method", ""}, "invalid_request"},
		{"implicit", []string{"response_type", "token"}, "unsupported_response_type"},
		{"scope", []string{"scope", `a "b"`}, "invalid_scope"},
		{"unknown resource", []string{"resource", "https://other.example/mcp"}, "invalid_target"},
		{"resource with fragment", []string{"resource", audience + "#x"}, "invalid_target"},
		{"relative resource", []string{"resource", "/mcp"}, "invalid_target"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := respond(t, authorization(issuer, test.change...))
			if q.Get("error") != test.want || (q.Get("code") != "") != (test.want == "") {
				t.Errorf("response %v, want the error %q", q, test.want)
			}
			if q.Get("iss") != issuer.URL() || q.Get("state") != "s1" {
				t.Errorf("iss %q, state %q", q.Get("iss"), q.Get("state"))
			}
		})
	}
	for _, change := range [][]string{{"client_id", "other"}, {"redirect_uri", "https://evil.example/cb"}, {"redirect_uri", callback + "&y=2"}} {
		if res, _ := get(t, authorization(issuer, change...)); res.StatusCode != 400 {
			t.Errorf("%v: %d, want 400 and no redirect", change, res.StatusCode)
		}
	}
	if res, _ := get(t, authorization(issuer)+"&scope=c"); !strings.Contains(res.Header.Get("Location"), "error=invalid_request") {
		t.Error("a scope sent twice was taken")
	}
}

func TestConsent(t *testing.T) {
	var asked []stiletest.ConsentRequest
	var events []stiletest.Event
	answer := func(stiletest.ConsentRequest) ([]string, error) { return []string{"a"}, nil }
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{
		Clients: []stiletest.Client{app},
		User:    func(r stiletest.ConsentRequest) string { return "user-of-" + r.ClientID },
		Consent: func(r stiletest.ConsentRequest) ([]string, error) {
			asked = append(asked, r)
			return answer(r)
		},
		OnEvent: func(e stiletest.Event) { events = append(events, e) },
	})
	code := respond(t, authorization(issuer)).Get("code")
	if got := asked[0]; got.Subject != "user-of-app" || !slices.Equal(got.Scopes, []string{"a", "b"}) || !slices.Equal(got.Resource, []string{audience}) {
		t.Errorf("asked %+v", got)
	}
	_, res := post(t, issuer.EndpointURL(stiletest.EndpointToken), app, codeForm(code))
	_, claims := decode(t, res["access_token"].(string))
	if res["scope"] != "a" || claims["scope"] != "a" || claims["sub"] != "user-of-app" {
		t.Errorf("token response %v, claims %v", res, claims)
	}
	if e := events[0]; e.Endpoint != stiletest.EndpointAuthorize || !slices.Equal(e.Asked, []string{"a", "b"}) || !slices.Equal(e.Granted, []string{"a"}) || e.Error != "" {
		t.Errorf("event %+v", e)
	}
	answer = func(stiletest.ConsentRequest) ([]string, error) { return nil, errors.New("no") }
	if got := respond(t, authorization(issuer)); got.Get("error") != "access_denied" || got.Get("iss") != issuer.URL() {
		t.Errorf("refused consent: %v", got)
	}
	answer = func(stiletest.ConsentRequest) ([]string, error) {
		return nil, &stiletest.OAuthError{Code: "invalid_scope", Description: "not b"}
	}
	if got := respond(t, authorization(issuer)); got.Get("error") != "invalid_scope" || got.Get("error_description") != "not b" {
		t.Errorf("refused consent: %v", got)
	}
	if e := events[len(events)-1]; e.Error != "invalid_scope" || e.Status != 302 {
		t.Errorf("event %+v", e)
	}
}

// codeForm redeems a code as app.
func codeForm(code string, change ...string) url.Values {
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"app"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {callback}, "resource": {audience},
	}
	for n := 0; n < len(change); n += 2 {
		form.Set(change[n], change[n+1])
	}
	return form
}

func TestRedeemCode(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{
		Clients: []stiletest.Client{app, {ID: "other", RedirectURIs: []string{callback}}},
	})
	endpoint := issuer.EndpointURL(stiletest.EndpointToken)
	tests := []struct {
		name   string
		change []string
		want   string
	}{
		{"good", nil, ""},
		{"verifier", []string{"code_verifier", "x" + verifier[1:]}, "invalid_grant"},
		{"no verifier", []string{"code_verifier", ""}, "invalid_grant"},
		{"redirect", []string{"redirect_uri", "https://app.example/other"}, "invalid_grant"},
		{"client", []string{"client_id", "other"}, "invalid_grant"},
		{"unknown client", []string{"client_id", "nobody"}, "invalid_client"},
		{"secret of a public client", []string{"client_secret", "guess"}, "invalid_client"},
		{"code", []string{"code", "guess"}, "invalid_grant"},
		{"grant type", []string{"grant_type", "password"}, "unsupported_grant_type"},
		{"resource", []string{"resource", "https://other.example"}, "invalid_target"},
		{"refresh is off", []string{"grant_type", "refresh_token"}, "unsupported_grant_type"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code := respond(t, authorization(issuer)).Get("code")
			status, res := post(t, endpoint, stiletest.Client{}, codeForm(code, test.change...))
			if got, _ := res["error"].(string); got != test.want || (status == 200) != (test.want == "") {
				t.Errorf("%d %v, want the error %q", status, res, test.want)
			}
			if test.want != "" {
				return
			}
			if res["token_type"] != "Bearer" || res["scope"] != "a b" || res["expires_in"] != 300.0 || res["refresh_token"] != nil {
				t.Errorf("token response %v", res)
			}
			var claims jwt.Claims
			if err := verify(issuer, res["access_token"].(string), audience, &claims, &claims); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCodeOnce: the second use of a code fails, and ends the token of the first
// (RFC 6749 §4.1.2). Of many at once, one wins.
func TestCodeOnce(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Clients: []stiletest.Client{app}})
	code := respond(t, authorization(issuer)).Get("code")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var tokens []string
	for range 8 {
		wg.Go(func() {
			_, res := post(t, issuer.EndpointURL(stiletest.EndpointToken), app, codeForm(code))
			mu.Lock()
			defer mu.Unlock()
			if token, ok := res["access_token"].(string); ok {
				tokens = append(tokens, token)
			}
		})
	}
	wg.Wait()
	if len(tokens) != 1 {
		t.Fatalf("%d tokens for one code", len(tokens))
	}
	post(t, issuer.EndpointURL(stiletest.EndpointToken), app, codeForm(code))
	if introspect(t, issuer, tokens[0])["active"] != false {
		t.Error("the token lives on though its code was used twice")
	}
}

func TestRefresh(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{
		RefreshTokens: true, Clients: []stiletest.Client{app, {ID: "once", RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code"}}},
	})
	endpoint := issuer.EndpointURL(stiletest.EndpointToken)
	_, first := post(t, endpoint, app, codeForm(respond(t, authorization(issuer)).Get("code")))
	refresh := func(token any, scope string) (int, map[string]any) {
		return post(t, endpoint, app, url.Values{"grant_type": {"refresh_token"}, "client_id": {"app"}, "refresh_token": {token.(string)}, "scope": {scope}})
	}
	if _, res := refresh(first["refresh_token"], "a b c"); res["error"] != "invalid_scope" {
		t.Errorf("more scopes: %v", res)
	}
	_, second := refresh(first["refresh_token"], "a")
	if second["scope"] != "a" || second["refresh_token"] == first["refresh_token"] {
		t.Fatalf("narrower: %v", second)
	}
	_, third := refresh(second["refresh_token"], "")
	if third["scope"] != "a b" {
		t.Errorf("a refresh token keeps the scopes of its grant: %v", third)
	}
	if _, res := refresh(first["refresh_token"], ""); res["error"] != "invalid_grant" {
		t.Errorf("used twice: %v", res)
	}
	if _, res := refresh(third["refresh_token"], ""); res["error"] != "invalid_grant" {
		t.Errorf("its family goes on: %v", res)
	}
	if introspect(t, issuer, third["access_token"].(string))["active"] != false {
		t.Error("the access token of the family is active still")
	}
	code := respond(t, authorization(issuer, "client_id", "once")).Get("code")
	if _, res := post(t, endpoint, app, codeForm(code, "client_id", "once")); res["access_token"] == nil || res["refresh_token"] != nil {
		t.Errorf("a client that did not register for refresh tokens: %v", res)
	}
}

func TestClientCredentials(t *testing.T) {
	robot := stiletest.Client{ID: "robot", Secret: "s: %cret"}
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{ClientCredentials: true, Clients: []stiletest.Client{robot, app}})
	endpoint := issuer.EndpointURL(stiletest.EndpointToken)
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"a"}, "resource": {audience}}
	status, res := post(t, endpoint, robot, form)
	if status != 200 {
		t.Fatalf("%d %v", status, res)
	}
	_, claims := decode(t, res["access_token"].(string))
	if claims["sub"] != "robot" || claims["client_id"] != "robot" || claims["scope"] != "a" || claims["aud"] != audience {
		t.Errorf("claims %v", claims)
	}
	if status, res := post(t, endpoint, stiletest.Client{ID: "robot", Secret: "no"}, form); status != 401 || res["error"] != "invalid_client" {
		t.Errorf("wrong secret: %d %v", status, res)
	}
	form.Set("client_id", "app")
	if _, res := post(t, endpoint, stiletest.Client{}, form); res["error"] != "unauthorized_client" {
		t.Errorf("a public client: %v", res)
	}
}

func TestRegister(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	endpoint := issuer.EndpointURL(stiletest.EndpointRegister)
	res, err := oauthex.RegisterClient(t.Context(), endpoint, &oauthex.ClientRegistrationMetadata{
		ClientName: "native", RedirectURIs: []string{"http://127.0.0.1:7777/cb"}, Scope: "a",
	}, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	if res.ClientSecret == "" || res.TokenEndpointAuthMethod != "client_secret_basic" || res.ClientName != "native" || res.Scope != "a" {
		t.Errorf("registered %+v", res)
	}
	// RFC 8252 §7.3: any port of the loopback address.
	q := authorization(issuer, "client_id", res.ClientID, "redirect_uri", "http://127.0.0.1:9/cb")
	if r, body := get(t, q); r.StatusCode != 302 {
		t.Errorf("another port: %d %s", r.StatusCode, body)
	}
	if r, _ := get(t, authorization(issuer, "client_id", res.ClientID, "redirect_uri", "http://127.0.0.1:9/other")); r.StatusCode != 400 {
		t.Errorf("another path: %d", r.StatusCode)
	}
	for want, meta := range map[string]oauthex.ClientRegistrationMetadata{
		"invalid_redirect_uri":    {RedirectURIs: []string{"http://app.example/cb"}},
		"invalid_client_metadata": {RedirectURIs: []string{callback}, TokenEndpointAuthMethod: "tls_client_auth"},
	} {
		var refused *oauthex.ClientRegistrationError
		if _, err := oauthex.RegisterClient(t.Context(), endpoint, &meta, http.DefaultClient); !errors.As(err, &refused) || refused.ErrorCode != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	closed := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{NoRegistration: true})
	if status, _ := post(t, closed.EndpointURL(stiletest.EndpointIntrospect), app, url.Values{"x": {"1"}}); status != 401 {
		t.Errorf("the other endpoints must answer, not %d", status)
	}
	if r, body := get(t, closed.EndpointURL(stiletest.EndpointMetadata)); strings.Contains(body, "registration_endpoint") || r.StatusCode != 200 {
		t.Errorf("metadata of an issuer without registration: %s", body)
	}
}

func introspect(t *testing.T, issuer *stiletest.Issuer, token string) map[string]any {
	t.Helper()
	status, res := post(t, issuer.EndpointURL(stiletest.EndpointIntrospect), stiletest.ResourceServer(), url.Values{"token": {token}})
	if status != 200 {
		t.Fatalf("introspection: %d %v", status, res)
	}
	return res
}

func TestIntrospectAndRevoke(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Opaque: opaque, Audience: []string{audience}, Clients: []stiletest.Client{app}})
		good := issuer.Token(stiletest.Claims{Scope: "a b", ClientID: "app", Extra: map[string]any{"tenant": "acme"}})
		if strings.Contains(good, ".") == opaque {
			t.Errorf("opaque %t: %s", opaque, good)
		}
		got := introspect(t, issuer, good)
		for name, want := range map[string]any{"active": true, "scope": "a b", "sub": "alice", "client_id": "app", "aud": audience, "iss": issuer.URL(), "tenant": "acme", "token_type": "Bearer"} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		for name, token := range map[string]string{
			"expired": issuer.Token(stiletest.Claims{Expiry: time.Now().Add(-time.Second)}),
			"not yet": issuer.Token(stiletest.Claims{NotBefore: time.Now().Add(time.Hour)}),
			"unknown": "guess", "alg none": issuer.Token(stiletest.Claims{Algorithm: "none"}),
		} {
			if got := introspect(t, issuer, token); opaque && name == "alg none" || len(got) == 1 && got["active"] == false {
				continue
			}
			t.Errorf("%s is active", name)
		}
		forever := issuer.Token(stiletest.Claims{Omit: []string{"exp"}})
		if introspect(t, issuer, forever)["active"] != true {
			t.Error("a token without exp must not expire")
		}
		form := url.Values{"token": {good}, "client_id": {"app"}}
		if status, _ := post(t, issuer.EndpointURL(stiletest.EndpointRevoke), stiletest.ResourceServer(), form); status != 200 || introspect(t, issuer, good)["active"] != true {
			t.Errorf("another client revoked it (%d)", status)
		}
		if status, _ := post(t, issuer.EndpointURL(stiletest.EndpointRevoke), stiletest.Client{}, form); status != 200 || introspect(t, issuer, good)["active"] != false {
			t.Errorf("it was not revoked (%d)", status)
		}
		issuer.Revoke(forever)
		if introspect(t, issuer, forever)["active"] != false {
			t.Error("Revoke did nothing")
		}
		for _, c := range []stiletest.Client{{}, {ID: "stile", Secret: "wrong"}} {
			if status, res := post(t, issuer.EndpointURL(stiletest.EndpointIntrospect), c, url.Values{"token": {good}, "client_id": {"app"}}); status != 401 {
				t.Errorf("introspection as %v: %d %v", c, status, res)
			}
		}
	}
}

func TestRotation(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Audience: []string{audience}})
	check := func(token string) error {
		var claims jwt.Claims
		return verify(issuer, token, audience, &claims, &claims)
	}
	old := issuer.Token(stiletest.Claims{})
	oldKid := issuer.KeyID()
	if kid := issuer.Rotate(); kid == oldKid || kid != issuer.KeyID() {
		t.Errorf("kid %s, then %s", oldKid, kid)
	}
	if err := check(old); err != nil {
		t.Errorf("the old key is gone too early: %v", err)
	}
	if header, _ := decode(t, issuer.Token(stiletest.Claims{})); header["kid"] == oldKid {
		t.Error("the old key signs still")
	}
	issuer.Retire()
	if check(old) == nil {
		t.Error("the old key is published still")
	}
	if err := check(issuer.Token(stiletest.Claims{})); err != nil {
		t.Error(err)
	}
	if got := issuer.Count(stiletest.EndpointJWKS); got != 3 {
		t.Errorf("%d fetches of the keys, want 3", got)
	}
}

func TestOutOfOrder(t *testing.T) {
	hold := make(chan struct{})
	var held sync.Once
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{
		Intercept: func(e stiletest.Endpoint, w http.ResponseWriter, _ *http.Request) bool {
			if e != stiletest.EndpointAuthorize {
				return false
			}
			held.Do(func() { <-hold })
			w.WriteHeader(418)
			return true
		},
	})
	jwks := issuer.EndpointURL(stiletest.EndpointJWKS)
	issuer.Down(true)
	if res, _ := get(t, jwks); res.StatusCode != 503 {
		t.Errorf("down: %d", res.StatusCode)
	}
	issuer.Down(false)
	issuer.Drop(true)
	if res, err := http.Get(jwks); err == nil {
		res.Body.Close()
		t.Errorf("dropping: %d", res.StatusCode)
	}
	issuer.Drop(false)
	if res, _ := get(t, jwks); res.StatusCode != 200 {
		t.Errorf("up again: %d", res.StatusCode)
	}
	var statuses []int
	for _, r := range issuer.Requests(stiletest.EndpointJWKS) {
		if statuses = append(statuses, r.Status); r.Method != "GET" {
			t.Errorf("method %s", r.Method)
		}
	}
	// A GET on a connection that was used before is tried again when it is cut.
	if statuses[0] != 503 || statuses[1] != 0 || statuses[len(statuses)-1] != 200 {
		t.Errorf("statuses %v", statuses)
	}
	issuer.Forget()
	go func() { close(hold) }()
	if res, _ := get(t, issuer.EndpointURL(stiletest.EndpointAuthorize)); res.StatusCode != 418 || issuer.Count(stiletest.EndpointAuthorize) != 1 {
		t.Errorf("intercepted: %d", res.StatusCode)
	}
	if status, _ := post(t, jwks, app, url.Values{}); status != 405 {
		t.Errorf("POST to the keys: %d", status)
	}
}

// TestStart is how a program uses it that is no test.
func TestStart(t *testing.T) {
	issuer := stiletest.NewIssuer(stiletest.IssuerOptions{Path: "/as"})
	if err := issuer.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(issuer.URL(), "http://127.0.0.1:") || !strings.HasSuffix(issuer.URL(), "/as") {
		t.Errorf("URL %s", issuer.URL())
	}
	jwks := issuer.EndpointURL(stiletest.EndpointJWKS)
	if res, _ := get(t, jwks); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	if err := errors.Join(issuer.Close(), issuer.Close()); err != nil {
		t.Fatal(err)
	}
	if res, err := http.Get(jwks); err == nil {
		res.Body.Close()
		t.Error("it listens still")
	}
	if err := issuer.Start("256.0.0.1:0"); err == nil {
		t.Error("it listens on no address")
	}
}
