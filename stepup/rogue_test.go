package stepup_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stile-mcp/stile/stepup"
)

// rogue is a protected server and its authorization server in one, of which any part
// can be made to misbehave. What is not replaced is good.
type rogue struct {
	*httptest.Server
	t        *testing.T
	metadata map[string]any // of the authorization server
	resource map[string]any // of the resource
	parts    map[string]http.HandlerFunc

	mu       sync.Mutex
	requests []*http.Request // with their forms read
	person   *person
	tokens   int
}

func newRogue(t *testing.T) *rogue {
	t.Helper()
	g := &rogue{t: t, parts: map[string]http.HandlerFunc{}, person: &person{}}
	g.Server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.Close)
	g.metadata = map[string]any{"issuer": g.URL, "token_endpoint": g.URL + "/token", "authorization_endpoint": g.URL + "/authorize",
		"registration_endpoint": g.URL + "/register", "code_challenge_methods_supported": []string{"S256"}}
	g.resource = map[string]any{"resource": g.URL + "/mcp", "authorization_servers": []string{g.URL}}
	return g
}

func (g *rogue) serve(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the client has gone
	g.mu.Lock()
	g.requests = append(g.requests, r)
	g.mu.Unlock()
	if part := g.parts[r.URL.Path]; part != nil {
		part(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/oauth-protected-resource/mcp":
		answerJSON(w, 200, g.resource)
	case "/.well-known/oauth-authorization-server":
		answerJSON(w, 200, g.metadata)
	case "/register":
		answerJSON(w, 201, map[string]any{"client_id": "registered", "token_endpoint_auth_method": "none"})
	case "/authorize":
		q := r.URL.Query()
		http.Redirect(w, r, q.Get("redirect_uri")+"?code=secret-code&state="+q.Get("state")+"&iss="+url.QueryEscape(g.URL), http.StatusFound)
	case "/token":
		g.issue(w, nil)
	case "/mcp":
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer secret-token") {
			g.challenge(w, 401, "Bearer "+g.told())
			return
		}
		_, _ = io.WriteString(w, "in")
	default:
		http.NotFound(w, r)
	}
}

// told is where the resource's metadata is, as a challenge says it.
func (g *rogue) told() string {
	return `resource_metadata="` + g.URL + `/.well-known/oauth-protected-resource/mcp"`
}

func (g *rogue) challenge(w http.ResponseWriter, status int, lines ...string) {
	w.Header()["Www-Authenticate"] = lines
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "no")
}

// issue answers with a token of its own, with more members or other ones.
func (g *rogue) issue(w http.ResponseWriter, members map[string]any) {
	g.mu.Lock()
	g.tokens++
	answer := map[string]any{"access_token": fmt.Sprintf("secret-token-%d", g.tokens), "token_type": "Bearer"}
	g.mu.Unlock()
	for name, value := range members {
		answer[name] = value
	}
	answerJSON(w, 200, answer)
}

// count tells how many requests went to a path.
func (g *rogue) count(path string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, r := range g.requests {
		if r.URL.Path == path {
			n++
		}
	}
	return n
}

func (g *rogue) transport(config stepup.Config) *stepup.Transport {
	g.t.Helper()
	base := &http.Transport{DisableKeepAlives: true}
	config.Base = base
	if config.Person == nil && config.Grant == nil {
		config.Person = g.person
	}
	tr, err := stepup.New(config)
	if err != nil {
		g.t.Fatal(err)
	}
	return tr
}

// call sends a request that does op, and returns what came of it.
func (g *rogue) call(tr http.RoundTripper, op string) (*http.Response, error) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.URL+"/mcp",
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+op+`"}}`))
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := tr.RoundTrip(r)
	if err == nil {
		g.t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// wantExplanation wants a response of a status that says why it was not followed.
func wantExplanation(t *testing.T, resp *http.Response, err error, status int, says string) {
	t.Helper()
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%v, %v; want status %d", resp, err, status)
	}
	if why := stepup.Explanation(resp); why == nil || !strings.Contains(why.Error(), says) {
		t.Errorf("the explanation is %v, want %q", why, says)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "no" {
		t.Errorf("the body is %q, %v", body, err)
	}
}

func wantError(t *testing.T, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %v, want %q", err, says)
	}
}
