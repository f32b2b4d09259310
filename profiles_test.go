package stile_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/stiletest"
)

// ask sends one request to the gateway itself.
func (f *fixture) ask(method, path, token, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, publicURL+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
	}
	w := httptest.NewRecorder()
	f.gateway.ServeHTTP(w, r)
	return w
}

// token is a good token of the issuer for our resource.
func (f *fixture) token(scopes string) string {
	return f.issuer.Token(stiletest.Claims{Scope: scopes, Audience: []string{resource}})
}

const deleteNote = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_note","arguments":{"id":"1"}}}`

// TestBroad advertises every scope to clients that never step up (DES-08), and
// still challenges for what a call needs and nothing more.
func TestBroad(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) { c.Servers[0].Broad = true })
	all := "notes:read notes:write notes:admin tags:read tags:write notes:index notes:prompts"
	want := `Bearer resource_metadata="` + publicURL + `/.well-known/oauth-protected-resource/mcp", scope="` + all + `"`
	if got := f.ask("GET", "/mcp", "", "").Header().Get("WWW-Authenticate"); got != want {
		t.Errorf("401 has\n%s, want\n%s", got, want)
	}
	var doc struct {
		Scopes []string `json:"scopes_supported"`
	}
	if err := json.Unmarshal(f.ask("GET", "/.well-known/oauth-protected-resource/mcp", "", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(doc.Scopes, " "); got != all {
		t.Errorf("metadata has %q, want %q", got, all)
	}
	if got := f.ask("POST", "/mcp", f.token("notes:read"), deleteNote).Header().Get("WWW-Authenticate"); !strings.Contains(got, `scope="notes:read notes:write"`) {
		t.Errorf("403 has %s", got)
	}
}

// TestInBandChallenge puts the challenge where ChatGPT reads it (DES-35).
func TestInBandChallenge(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) { c.Servers[0].InBandChallenge = true })
	w := f.ask("POST", "/mcp", f.token("notes:read"), deleteNote)
	var answer struct {
		Result struct {
			IsError bool                `json:"isError"`
			Meta    map[string][]string `json:"_meta"`
		} `json:"result"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	got := answer.Result.Meta["mcp/www_authenticate"]
	if w.Code != http.StatusOK || !answer.Result.IsError || len(got) != 1 || !strings.HasPrefix(got[0], `Bearer error="insufficient_scope", scope="notes:read notes:write"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w.Header().Get("WWW-Authenticate") != "" {
		t.Error("the header is there too")
	}
	if f.notes.Calls("delete_note") != 0 {
		t.Error("the call reached the server")
	}
	read := `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"note://1"}}`
	if w := f.ask("POST", "/mcp", f.token("notes:read"), read); w.Code != http.StatusForbidden {
		t.Errorf("resources/read answers %d, want the 403 that everyone reads", w.Code)
	}
}

// TestRelayIssuerMetadata serves the issuer's own document, unchanged.
func TestRelayIssuerMetadata(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) { c.RelayIssuerMetadata = true })
	if w := f.ask("GET", "/.well-known/oauth-authorization-server", "", ""); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("before discovery: %d, want 503 with Retry-After", w.Code)
	}
	f.ask("POST", "/mcp", f.token("notes:read"), deleteNote) // has the keys discovered
	w := f.ask("GET", "/.well-known/oauth-authorization-server", "", "")
	var doc struct{ Issuer string }
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	if doc.Issuer != f.issuer.URL() {
		t.Errorf("issuer is %q, want %q", doc.Issuer, f.issuer.URL())
	}
	if w := newFixture(t, notesPolicy, nil).ask("GET", "/.well-known/oauth-authorization-server", "", ""); w.Code != http.StatusNotFound {
		t.Errorf("off by default: %d, want 404", w.Code)
	}
}

// TestRelayNeedsOneIssuer refuses what one document cannot describe.
func TestRelayNeedsOneIssuer(t *testing.T) {
	f := newFixture(t, notesPolicy, nil)
	other := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	c := f.config
	c.RelayIssuerMetadata = true
	c.Servers[0].Verifiers = []authenticate.Verifier{verifier(t, f.issuer), verifier(t, other)}
	if _, err := stile.New(c); err == nil || !strings.Contains(err.Error(), "relay_issuer_metadata") {
		t.Errorf("two issuers: %v", err)
	}
}
