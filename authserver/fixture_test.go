package authserver_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/store"
)

var known = []string{"notes:read", "notes:write", "notes:admin"}

// fixture is an authorization server that listens.
type fixture struct {
	*authserver.Server
	t        testing.TB
	url      string
	resource string
	client   *http.Client // follows no redirects
}

func newFixture(t testing.TB, change func(*authserver.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t}
	listener := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.Serves(r) {
			http.Error(w, "the gateway's", http.StatusTeapot)
			return
		}
		f.ServeHTTP(w, r)
	}))
	f.url = "http://" + listener.Listener.Addr().String()
	f.resource = f.url + "/mcp"
	f.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c := authserver.Config{
		Issuer: f.url, Resources: []authserver.Resource{{URL: f.resource, Name: "Notes", Baseline: []string{"notes:read"}}},
		Scopes: known, Known: func(s string) bool { return slices.Contains(known, s) },
		Describe: func(s string) string { return "may " + s }, Store: store.NewMemory(),
		Clients: []authserver.Client{
			{ID: "app", Name: "App", RedirectURIs: []string{"https://app.example.com/cb"}},
			{ID: "job", SecretHash: authserver.HashSecret("s3cret"), Scopes: []string{"notes:read"}},
			{ID: "resource", SecretHash: authserver.HashSecret("s3cret"), Introspects: true},
		},
	}
	if change != nil {
		change(&c)
	}
	server, err := authserver.New(c)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = server
	listener.Start()
	t.Cleanup(listener.Close)
	return f
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) json() map[string]any {
	var m map[string]any
	_ = json.Unmarshal([]byte(r.body), &m)
	return m
}

func (r reply) text(name string) string { s, _ := r.json()[name].(string); return s }

func (f *fixture) do(r *http.Request) reply {
	f.t.Helper()
	resp, err := f.client.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(b)}
}

func (f *fixture) get(path string) reply {
	f.t.Helper()
	r, err := http.NewRequest(http.MethodGet, f.url+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.do(r)
}

func (f *fixture) post(path, mediaType, body string, header ...string) reply {
	f.t.Helper()
	r, err := http.NewRequest(http.MethodPost, f.url+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", mediaType)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return f.do(r)
}

func (f *fixture) form(path string, form url.Values, header ...string) reply {
	f.t.Helper()
	return f.post(path, "application/x-www-form-urlencoded", form.Encode(), header...)
}

const verifier = "a-verifier-that-is-long-enough-to-be-one-of-rfc-7636"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// request is a good authorization request of the client app; pairs change it, an
// empty value takes a parameter away.
func (f *fixture) request(pairs ...string) url.Values {
	q := url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {"https://app.example.com/cb"}, "state": {"st"},
		"scope": {"notes:read"}, "resource": {f.resource}, "code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// waiting sends an authorization request and returns the id under which it waits.
func (f *fixture) waiting(q url.Values) string {
	f.t.Helper()
	r := f.get("/authorize?" + q.Encode())
	to, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusSeeOther || to.Query().Get("request") == "" {
		f.t.Fatalf("not waiting: %d %s %s", r.status, r.header.Get("Location"), r.body)
	}
	return to.Query().Get("request")
}

// answer is what came back to a client.
func answer(t testing.TB, location string) url.Values {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

var ada = people.Person{Subject: "ada", Name: "Ada"}

// allowed has a person allow scopes, and returns the code.
func (f *fixture) allowed(q url.Values, who people.Person, scopes ...string) string {
	f.t.Helper()
	to, err := f.Allow(f.t.Context(), f.waiting(q), who, scopes)
	if err != nil {
		f.t.Fatal(err)
	}
	back := answer(f.t, to)
	if back.Get("code") == "" || back.Get("state") != q.Get("state") || back.Get("iss") != f.url {
		f.t.Fatalf("answered %s", to)
	}
	return back.Get("code")
}

// redeem redeems a code of the client app; pairs change the form.
func (f *fixture) redeem(code string, pairs ...string) reply {
	f.t.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"app"}, "code_verifier": {verifier},
		"redirect_uri": {"https://app.example.com/cb"}, "resource": {f.resource}}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			form.Del(pairs[i])
		} else {
			form.Set(pairs[i], pairs[i+1])
		}
	}
	return f.form("/token", form)
}

func (f *fixture) refresh(token string, pairs ...string) reply {
	f.t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"app"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return f.form("/token", form)
}

// claims reads a token, having looked at its signature's key only as far as needed.
func claims(t testing.TB, token string) (header, payload map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWT: %q", token)
	}
	for i, into := range []*map[string]any{&header, &payload} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, payload
}

// active asks whether the grant of a token is good.
func (f *fixture) active(token string) bool {
	f.t.Helper()
	_, c := claims(f.t, token)
	ok, err := f.Active(f.t.Context(), c["grant_id"].(string))
	if err != nil {
		f.t.Fatal(err)
	}
	return ok
}

// registers a client and returns what it was told.
func (f *fixture) registered(metadata map[string]any) reply {
	f.t.Helper()
	b, _ := json.Marshal(metadata)
	return f.post("/register", "application/json", string(b))
}
