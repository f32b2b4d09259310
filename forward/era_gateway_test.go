package forward_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

// across is a gateway in front of a server of one generation.
type across struct {
	t       *testing.T
	gateway *stile.Gateway
	issuer  *stiletest.Issuer
	header  http.Header // of the last answer
}

const resource = "https://mcp.example.com/mcp"

func newAcross(t *testing.T, server string, protocol forward.Protocol) *across {
	t.Helper()
	sdk := twoGenerations(t)[server]
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.Contains(string(body), `"name":"progress"`) { // which wants a scope of its own
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="pay"`)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		sdk.ServeHTTP(w, r)
	})
	e, err := forward.NewEra(forward.EraConfig{Name: "x", Upstream: upstream, Protocol: protocol, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	a := &across{t: t, issuer: stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://idp.example.com", Scopes: []string{"use", "ask", "pay"}})}
	policy, err := authorize.New(authorize.Config{Baseline: "use", Default: authorize.Strings{"use"}, Rules: []authorize.Rule{
		{Tools: []string{"ask"}, Scopes: []string{"use ask"}},
		{Tools: []string{"pay"}, Scopes: []string{"use pay"}}, // so that the scope is known
	}})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: a.issuer.URL(), Audiences: []string{resource}, Transport: a.issuer.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	a.gateway, err = stile.New(stile.Config{PublicURL: "https://mcp.example.com", Log: slog.New(slog.DiscardHandler), Audit: io.Discard,
		Servers: []stile.Server{{Name: "x", Path: "/mcp", Upstream: e, Policy: policy, Verifiers: []authenticate.Verifier{tokens},
			Issuers: []*authenticate.Profile{tokens.Profile()}}}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// post sends a message as somebody with scopes.
func (a *across) post(who, scopes, version, body string, header ...string) (int, string) {
	a.t.Helper()
	r := httptest.NewRequestWithContext(a.t.Context(), http.MethodPost, resource, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", bothTypes)
	r.Header.Set("Authorization", "Bearer "+a.issuer.Token(stiletest.Claims{Subject: who, Scope: scopes, Audience: []string{resource}}))
	if version != "" {
		r.Header.Set("MCP-Protocol-Version", version)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.gateway.ServeHTTP(w, r)
	a.header = w.Header()
	return w.Code, w.Body.String()
}

// wants checks for a challenge with all the scopes.
func (a *across) wants(what string, status int, body, scopes string) {
	a.t.Helper()
	if got := a.header.Get("WWW-Authenticate"); status != http.StatusForbidden || !strings.Contains(got, `scope="`+scopes+`"`) {
		a.t.Errorf("%s: %d %q %s", what, status, got, body)
	}
}

// TestEraBehindTheGateway: what is decided is decided on the client's own words, in
// either direction; a server's demand for scopes becomes a challenge; a retry is
// judged as any call, and its state is worth nothing to anybody else.
func TestEraBehindTheGateway(t *testing.T) {
	t.Run("2026-07-28 on 2025", func(t *testing.T) {
		a := newAcross(t, "old", forward.ProtocolAuto)
		const version = "2026-07-28"
		ask := call(1, asking, "ask", "Who", "ada")
		headers := func(name string) []string { return []string{"Mcp-Method", "tools/call", "Mcp-Name", name} }
		status, body := a.post("ada", "use", version, ask, headers("ask")...)
		a.wants("by policy", status, body, "use ask")
		status, body = a.post("ada", "use", version, call(2, asking, "progress"), headers("progress")...)
		a.wants("by the server", status, body, "use pay")
		status, body = a.post("ada", "use ask", version, ask, headers("ask")...)
		if status != 200 || member(t, body, "result", "resultType") != "input_required" {
			t.Fatalf("%d %s", status, body)
		}
		retry := call(3, asking+`},"requestState":"`+member(t, body, "result", "requestState")+`","inputResponses":{"q1":{"action":"accept","content":{"name":"Ada"}}`, "ask", "Who", "ada")
		status, body = a.post("ada", "use", version, retry, headers("ask")...)
		a.wants("the retry", status, body, "use ask")
		if _, body = a.post("bob", "use ask", version, retry, headers("ask")...); member(t, body, "error", "code") != "-32602" {
			t.Errorf("the retry of another: %s", body)
		}
		if _, body = a.post("ada", "use ask", version, retry, headers("ask")...); !strings.Contains(body, "ada is Ada") {
			t.Errorf("the retry: %s", body)
		}
	})
	t.Run("2025 on 2026-07-28", func(t *testing.T) {
		a := newAcross(t, "new", forward.Protocol2026)
		const version = "2025-11-25"
		status, body := a.post("ada", "use", "", initialize(version))
		id := a.header.Get("Mcp-Session-Id")
		if status != 200 || id == "" {
			t.Fatalf("%d %s", status, body)
		}
		status, body = a.post("ada", "use", version, tool(1, "ask", "Who", "ada"), "Mcp-Session-Id", id)
		a.wants("by policy", status, body, "use ask")
		status, body = a.post("ada", "use", version, tool(2, "progress"), "Mcp-Session-Id", id)
		a.wants("by the server", status, body, "use pay")
		if status, _ = a.post("bob", "use ask", version, tool(3, "ask"), "Mcp-Session-Id", id); status != http.StatusNotFound {
			t.Errorf("the session of another: %d", status)
		}
		// The client of initialize offers no elicitation.
		if _, body = a.post("ada", "use ask", version, tool(4, "ask", "Who", "ada"), "Mcp-Session-Id", id); !strings.Contains(body, "does not offer") &&
			!strings.Contains(body, "elicitation") {
			t.Errorf("the call: %s", body)
		}
	})
}
