package stiletest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// TestAnswerHeaders: nothing an issuer says may be stored (RFC 6749 §5.1), a
// client that tried Basic is told Basic (§5.2), and each endpoint has one method.
func TestAnswerHeaders(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Clients: []stiletest.Client{app}})
	send := func(method string, e stiletest.Endpoint, body string, header ...string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, issuer.EndpointURL(e), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(header); n += 2 {
			req.Header.Set(header[n], header[n+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if got := res.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s %s: Cache-Control %q", method, e, got)
		}
		return res
	}
	const form, basic = "application/x-www-form-urlencoded", "Basic eDp5"
	tests := []struct {
		method    string
		endpoint  stiletest.Endpoint
		body      string
		header    []string
		status    int
		challenge string
	}{
		{"POST", stiletest.EndpointToken, "a=b", []string{"Content-Type", form, "Authorization", basic}, 401, `Basic realm="stiletest"`},
		{"POST", stiletest.EndpointToken, "client_id=nobody", []string{"Content-Type", form}, 401, ""},
		{"POST", stiletest.EndpointToken, "", []string{"Content-Type", form}, 400, ""},
		{"POST", stiletest.EndpointToken, `{"a":1}`, []string{"Content-Type", "application/json"}, 400, ""},
		{"POST", stiletest.EndpointIntrospect, "", []string{"Content-Type", form}, 400, ""},
		{"POST", stiletest.EndpointIntrospect, "token=x", []string{"Content-Type", form, "Authorization", basic}, 401, `Basic realm="stiletest"`},
		{"POST", stiletest.EndpointRevoke, "", []string{"Content-Type", form}, 400, ""},
		{"POST", stiletest.EndpointRevoke, "token=x", []string{"Content-Type", form, "Authorization", "Basic JSV6Og=="}, 401, `Basic realm="stiletest"`},
		{"POST", stiletest.EndpointRegister, "no JSON", nil, 400, ""},
		{"GET", stiletest.EndpointToken, "", nil, 405, ""},
		{"GET", stiletest.EndpointIntrospect, "", nil, 405, ""},
		{"GET", stiletest.EndpointRegister, "", nil, 405, ""},
		{"PUT", stiletest.EndpointMetadata, "", nil, 405, ""},
		{"POST", stiletest.EndpointAuthorize, "", nil, 405, ""},
		{"GET", stiletest.EndpointJWKS, "", nil, 200, ""},
		{"HEAD", stiletest.EndpointJWKS, "", nil, 200, ""},
		{"HEAD", stiletest.EndpointToken, "", nil, 405, ""},
	}
	for _, test := range tests {
		res := send(test.method, test.endpoint, test.body, test.header...)
		if res.StatusCode != test.status || res.Header.Get("WWW-Authenticate") != test.challenge {
			t.Errorf("%s %s %q: %d %q, want %d %q", test.method, test.endpoint, test.body, res.StatusCode, res.Header.Get("WWW-Authenticate"), test.status, test.challenge)
		}
	}
	if res, _ := get(t, issuer.URL()+"/nothing"); res.StatusCode != 404 {
		t.Errorf("a path that is no endpoint: %d", res.StatusCode)
	}
	if got := len(issuer.Requests()); got != len(tests) {
		t.Errorf("%d requests recorded, want %d", got, len(tests))
	}
}

// TestSeveralResources: a token for one of two resources that were authorised,
// and for both (RFC 8707 §2.2).
func TestSeveralResources(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Clients: []stiletest.Client{app}})
	const second = "https://other.example/mcp"
	audienceOf := func(change url.Values) any {
		code := respond(t, authorization(issuer)+"&resource="+url.QueryEscape(second)).Get("code")
		form := codeForm(code)
		form["resource"] = change["resource"]
		_, res := post(t, issuer.EndpointURL(stiletest.EndpointToken), app, form)
		if res["error"] != nil {
			return res["error"]
		}
		_, claims := decode(t, res["access_token"].(string))
		return claims["aud"]
	}
	for _, test := range []struct {
		ask  []string
		want string
	}{
		{nil, fmt.Sprint([]string{audience, second})},
		{[]string{second}, second},
		{[]string{second, audience}, fmt.Sprint([]string{second, audience})},
		{[]string{"https://third.example"}, "invalid_target"},
	} {
		if got := fmt.Sprint(audienceOf(url.Values{"resource": test.ask})); got != test.want {
			t.Errorf("asked for %q: aud %s, want %s", test.ask, got, test.want)
		}
	}
}

// TestRevokeRefreshToken ends all that came of one authorization (RFC 7009
// §2.1), and nothing that came of another.
func TestRevokeRefreshToken(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{RefreshTokens: true, Clients: []stiletest.Client{app}})
	login := func() map[string]any {
		_, res := post(t, issuer.EndpointURL(stiletest.EndpointToken), app, codeForm(respond(t, authorization(issuer)).Get("code")))
		return res
	}
	one, two := login(), login()
	post(t, issuer.EndpointURL(stiletest.EndpointRevoke), app, url.Values{"client_id": {"app"}, "token": {one["refresh_token"].(string)}})
	for _, test := range []struct {
		name string
		res  map[string]any
		want bool
	}{{"the revoked one", one, false}, {"the other", two, true}} {
		if got := introspect(t, issuer, test.res["access_token"].(string))["active"]; got != test.want {
			t.Errorf("%s: active %v, want %t", test.name, got, test.want)
		}
		_, res := post(t, issuer.EndpointURL(stiletest.EndpointToken), app, url.Values{
			"grant_type": {"refresh_token"}, "client_id": {"app"}, "refresh_token": {test.res["refresh_token"].(string)},
		})
		if (res["access_token"] != nil) != test.want {
			t.Errorf("%s refreshes: %v", test.name, res)
		}
	}
}

// TestOpaqueStepUp: the whole flow with tokens that only introspection
// understands.
func TestOpaqueStepUp(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Opaque: true})
	var mu sync.Mutex
	var held []string
	notes := stiletest.NewNotes(stiletest.NotesOptions{})
	defer notes.Close()
	var resource string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"resource": resource, "authorization_servers": []string{issuer.URL()}})
			return
		}
		got := introspect(t, issuer, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		scopes := strings.Fields(fmt.Sprint(got["scope"]))
		switch {
		case got["active"] != true || got["aud"] != resource:
			w.Header().Set("WWW-Authenticate", `Bearer scope="a"`)
			w.WriteHeader(401)
		case r.Header.Get("Mcp-Name") == "ping" && !slices.Contains(scopes, "b"):
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="b"`)
			w.WriteHeader(403)
		default:
			mu.Lock()
			held = append(held, strings.Join(slices.Sorted(slices.Values(scopes)), " "))
			mu.Unlock()
			r.Header.Del("Authorization")
			notes.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	resource = server.URL + "/mcp"
	session, err := stiletest.NewClient(t.Context(), resource, stiletest.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if got := call(t, session, "ping", nil); got != "pong" {
		t.Errorf("ping: %q", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"a", "a b"}; !slices.Equal(held, want) {
		t.Errorf("tokens held %q, want %q", held, want)
	}
}
