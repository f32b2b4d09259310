package stiletest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stiletest"
)

// guard is the smallest handler that challenges: every request needs notes:read,
// create_note needs notes:write besides. It is no model for a gateway.
type guard struct {
	issuer *stiletest.Issuer
	next   http.Handler
	url    string
}

func newGuard(t *testing.T, issuer *stiletest.Issuer, notes *stiletest.Notes) *guard {
	t.Helper()
	target, err := url.Parse(notes.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, target.Host
		r.Out.Header.Del("Authorization")
	}}
	g := &guard{issuer: issuer, next: proxy}
	server := httptest.NewServer(g)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	g.url = server.URL
	return g
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	metadata := "/.well-known/oauth-protected-resource/mcp"
	if r.URL.Path == metadata {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"resource": g.url + "/mcp", "authorization_servers": []string{g.issuer.URL()}, "scopes_supported": []string{"notes:read"},
		})
		return
	}
	refuse := func(status int, challenge string) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer %sresource_metadata="%s"`, challenge, g.url+metadata))
		w.WriteHeader(status)
	}
	held, err := scopesOf(g.issuer, r.Header.Get("Authorization"), g.url+"/mcp")
	if err != nil {
		refuse(401, `scope="notes:read", `)
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	if strings.Contains(string(body), `"create_note"`) && !slices.Contains(held, "notes:write") {
		refuse(403, `error="insufficient_scope", scope="notes:write", `)
		return
	}
	g.next.ServeHTTP(w, r)
}

// scopesOf verifies a token with go-jose against the issuer's published keys.
func scopesOf(issuer *stiletest.Issuer, header, audience string) ([]string, error) {
	var claims struct {
		jwt.Claims
		Scope string `json:"scope"`
	}
	if err := verify(issuer, strings.TrimPrefix(header, "Bearer "), audience, &claims.Claims, &claims); err != nil {
		return nil, err
	}
	return strings.Fields(claims.Scope), nil
}

func verify(issuer *stiletest.Issuer, token, audience string, std *jwt.Claims, out any) error {
	res, err := http.Get(issuer.EndpointURL(stiletest.EndpointJWKS))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(res.Body).Decode(&keys); err != nil {
		return err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA})
	if err != nil {
		return err
	}
	if typ := parsed.Headers[0].ExtraHeaders["typ"]; typ != "at+jwt" {
		return fmt.Errorf("typ %v", typ)
	}
	if err := parsed.Claims(keys, out); err != nil {
		return err
	}
	if std.Expiry == nil {
		return fmt.Errorf("no exp")
	}
	return std.ValidateWithLeeway(jwt.Expected{Issuer: issuer.URL(), AnyAudience: jwt.Audience{audience}, Time: time.Now()}, 0)
}

func TestStepUp(t *testing.T) {
	for _, version := range []string{stiletest.Version2025, stiletest.Version2026} {
		for _, answers := range []string{"sse", "json"} {
			t.Run(version+" "+answers, func(t *testing.T) {
				testStepUp(t, version, answers == "json")
			})
		}
	}
}

func testStepUp(t *testing.T, version string, asJSON bool) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Path: "/realms/acme"})
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{JSON: asJSON})
	g := newGuard(t, issuer, notes)
	session, err := stiletest.NewClient(t.Context(), g.url+"/mcp", stiletest.ClientOptions{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if got := session.InitializeResult().ProtocolVersion; got != version {
		t.Errorf("revision %s, want %s", got, version)
	}
	id := session.ID()
	if got := call(t, session, "get_note", map[string]any{"id": "1"}); !strings.HasPrefix(got, "Shopping") {
		t.Errorf("get_note: %q", got)
	}
	if got := call(t, session, "create_note", map[string]any{"title": "New"}); got != "created 4" {
		t.Errorf("create_note: %q", got)
	}
	var asked []string
	for _, r := range issuer.Requests(stiletest.EndpointAuthorize) {
		scopes := r.Scopes()
		slices.Sort(scopes) // the go-sdk asks in any order
		asked = append(asked, strings.Join(scopes, " "))
		if got := r.Query.Get("resource"); got != g.url+"/mcp" {
			t.Errorf("resource %q", got)
		}
	}
	if want := []string{"notes:read", "notes:read notes:write"}; !slices.Equal(asked, want) {
		t.Errorf("scopes asked for %q, want %q", asked, want)
	}
	if session.ID() != id || (version == stiletest.Version2025) != (id != "") {
		t.Errorf("session %q, then %q", id, session.ID())
	}
	if notes.Saw("Authorization") {
		t.Error("a token reached the upstream")
	}
	if got := notes.Calls("create_note"); got != 1 {
		t.Errorf("create_note was called %d times, want once", got)
	}
}

// call calls a tool and returns its text.
func call(t *testing.T, session *mcp.ClientSession, name string, args map[string]any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return textOf(t, res)
}

func textOf(t *testing.T, res *mcp.CallToolResult) string {
	t.Helper()
	if len(res.Content) != 1 {
		t.Fatalf("content %v, want one", res.Content)
	}
	c, ok := res.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("content %T, want text", res.Content[0])
	}
	return c.Text
}
