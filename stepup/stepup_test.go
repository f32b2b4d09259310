package stepup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/stepup"
	"github.com/stile-mcp/stile/stiletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// person opens the URL as a browser would that is signed in, and may spoil the
// answer.
type person struct {
	spoil func(url.Values)

	mu    sync.Mutex
	asked []stepup.Request
}

func (p *person) Begin(_ context.Context, preferred string) (stepup.Visit, error) {
	if preferred == "" {
		preferred = "http://127.0.0.1:49152/callback"
	}
	return &visit{p, preferred}, nil
}

type visit struct {
	p        *person
	redirect string
}

func (v *visit) RedirectURI() string { return v.redirect }
func (v *visit) Close() error        { return nil }

func (v *visit) Authorize(ctx context.Context, r stepup.Request) (url.Values, error) {
	v.p.mu.Lock()
	v.p.asked = append(v.p.asked, r)
	v.p.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		b, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("no redirect but %d %s", resp.StatusCode, b)
	}
	q := to.Query()
	if v.p.spoil != nil {
		v.p.spoil(q)
	}
	return q, nil
}

func (p *person) requests() []stepup.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// world is a gateway with an issuer, and a client of both.
type world struct {
	issuer *stiletest.Issuer
	notes  *stiletest.Notes
	url    string
	person *person
	config stepup.Config
	before func(w http.ResponseWriter, r *http.Request) bool
}

func newWorld(t *testing.T, o stiletest.IssuerOptions) *world {
	t.Helper()
	w := &world{issuer: stiletest.NewIssuerServer(t, o), notes: stiletest.NewNotes(stiletest.NotesOptions{JSON: true}), person: &person{}}
	t.Cleanup(func() { _ = w.notes.Close() })
	var gateway http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.before == nil || !w.before(rw, r) {
			gateway.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	w.url = server.URL + "/mcp"
	policy, err := authorize.New(authorize.Config{Baseline: "notes:read", Challenge: "minimal", Rules: []authorize.Rule{
		{Tools: []string{"list_notes"}, Scopes: []string{"notes:read"}},
		{Tools: []string{"delete_note"}, Scopes: []string{"notes:write"}},
		{Tools: []string{"export_notes"}, Scopes: []string{"notes:export"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: w.issuer.URL(), Audiences: []string{w.url}})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err = stile.New(stile.Config{PublicURL: server.URL, Audit: io.Discard, Servers: []stile.Server{{Name: "notes", Path: "/mcp",
		Upstream: w.notes, Policy: policy, Verifiers: []authenticate.Verifier{tokens}, Issuers: []*authenticate.Profile{tokens.Profile()}}}})
	if err != nil {
		t.Fatal(err)
	}
	w.config = stepup.Config{Person: w.person, Base: &http.Transport{DisableKeepAlives: true}}
	return w
}

func (w *world) transport(t *testing.T) *stepup.Transport {
	t.Helper()
	tr, err := stepup.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// call calls a tool with 2026-07-28, which needs no session.
func (w *world) call(t *testing.T, tr http.RoundTripper, tool string) (int, string, error) {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":{"id":"1"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, tool)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.GetBody = nil // as a proxy sends
	for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool} {
		r.Header.Set(name, value)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func scopesAsked(p *person) []string {
	var out []string
	for _, r := range p.requests() {
		out = append(out, strings.Join(r.Scopes, " "))
	}
	return out
}

func want(t *testing.T, what string, got, wanted any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(wanted); g != w {
		t.Errorf("%s: %s, want %s", what, g, w)
	}
}

func TestLoginAndStepUp(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{})
	tr := w.transport(t)
	for _, tool := range []string{"list_notes", "delete_note", "list_notes", "export_notes"} {
		status, body, err := w.call(t, tr, tool)
		if err != nil || status != 200 || strings.Contains(body, `"error"`) {
			t.Fatalf("%s: %d %s %v", tool, status, body, err)
		}
	}
	// The challenges are minimal, so that what was had is kept by the client alone.
	want(t, "scopes", scopesAsked(w.person), []string{"notes:read", "notes:read notes:write", "notes:read notes:write notes:export"})
	want(t, "registrations", w.issuer.Count(stiletest.EndpointRegister), 1)
	last := w.person.requests()[2]
	want(t, "operation", last.Operation, "tools/call export_notes")
	want(t, "new", last.New, []string{"notes:export"})
	want(t, "deletions", w.notes.Calls("delete_note"), 1)
	for _, r := range w.issuer.Requests(stiletest.EndpointAuthorize, stiletest.EndpointToken) {
		form := r.Query
		if r.Form != nil {
			form = r.Form
		}
		want(t, "resource", form.Get("resource"), w.url)
	}
}

// Logins and scopes outlive the process, and serve the next one.
func TestLoginIsKept(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{})
	w.config.Store = stepup.NewMemory()
	if _, _, err := w.call(t, w.transport(t), "delete_note"); err != nil {
		t.Fatal(err)
	}
	tr := w.transport(t)
	status, _, err := w.call(t, tr, "delete_note")
	if err != nil || status != 200 {
		t.Fatalf("%d %v", status, err)
	}
	want(t, "logins", len(w.person.requests()), 2)
	if _, _, err := w.call(t, tr, "export_notes"); err != nil {
		t.Fatal(err)
	}
	want(t, "scopes", scopesAsked(w.person)[2], "notes:read notes:write notes:export")
	want(t, "registrations", w.issuer.Count(stiletest.EndpointRegister), 1)
	if err := stepup.Logout(t.Context(), w.config.Store, w.url); err != nil {
		t.Fatal(err)
	}
	if l, err := stepup.LoadLogin(t.Context(), w.config.Store, w.url); l != nil || err != nil {
		t.Errorf("still logged in: %v %v", l, err)
	}
}

func TestParallelRefusalsShareOneLogin(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{})
	tr := w.transport(t)
	var wg sync.WaitGroup
	for _, tool := range []string{"list_notes", "delete_note"} {
		for range 20 {
			wg.Go(func() {
				if status, body, err := w.call(t, tr, tool); err != nil || status != 200 {
					t.Errorf("%d %s %v", status, body, err)
				}
			})
		}
		wg.Wait()
	}
	want(t, "logins", len(w.person.requests()), 2)
}

// Another process has logged in with the same store meanwhile: its login is used.
func TestLoginOfAnotherProcess(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{})
	w.config.Store = stepup.NewMemory()
	one, other := w.transport(t), w.transport(t)
	for _, tr := range []http.RoundTripper{one, other} {
		if _, _, err := w.call(t, tr, "list_notes"); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "logins", len(w.person.requests()), 1)
	for _, tr := range []http.RoundTripper{one, other} {
		if status, _, err := w.call(t, tr, "delete_note"); err != nil || status != 200 {
			t.Fatal(status, err)
		}
	}
	want(t, "logins", len(w.person.requests()), 2)
}

func TestExpiredTokenIsRefreshed(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{RefreshTokens: true, Lifetime: 1e9})
	tr := w.transport(t)
	for range 2 {
		if status, body, err := w.call(t, tr, "list_notes"); err != nil || status != 200 {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	want(t, "logins", len(w.person.requests()), 1)
	tokens := w.issuer.Requests(stiletest.EndpointToken)
	last := tokens[len(tokens)-1].Form
	want(t, "grant", last.Get("grant_type"), "refresh_token")
	want(t, "resource", last.Get("resource"), w.url)
}

// A person who grants less is not asked for ever: the refusal comes back as it is.
func TestStepUpsEnd(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{Consent: func(stiletest.ConsentRequest) ([]string, error) { return []string{"notes:read"}, nil }})
	tr := w.transport(t)
	for range 3 {
		status, body, err := w.call(t, tr, "delete_note")
		if err != nil || status != 403 && !strings.Contains(body, "isError") {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	if n := len(w.person.requests()); n != 2 {
		t.Errorf("%d logins, want the first one and one step-up", n)
	}
	want(t, "deletions", w.notes.Calls("delete_note"), 0)
}

// A server that wants another scope each time gets three step-ups.
func TestStepUpsOfOneOperationAreBounded(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{})
	n := 0
	w.before = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Mcp-Name") != "delete_note" || r.Header.Get("Authorization") == "" {
			return false
		}
		n++
		rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope="more:%d"`, n))
		rw.WriteHeader(http.StatusForbidden)
		return true
	}
	status, _, err := w.call(t, w.transport(t), "delete_note")
	if err != nil || status != http.StatusForbidden {
		t.Fatal(status, err)
	}
	want(t, "logins", len(w.person.requests()), 1+3)
}

func TestRefusalsThatAreNoStepUp(t *testing.T) {
	for name, header := range map[string][]string{
		"no error":       {`Bearer scope="notes:admin"`},
		"other error":    {`Bearer error="access_denied", scope="notes:admin"`},
		"no scope":       {`Bearer error="insufficient_scope"`},
		"no challenge":   nil,
		"not a Bearer":   {`Basic realm="x"`},
		"cannot be read": {`Bearer error="insufficient_scope" scope=`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, stiletest.IssuerOptions{})
			w.before = func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Mcp-Name") != "delete_note" || r.Header.Get("Authorization") == "" {
					return false
				}
				rw.Header()["Www-Authenticate"] = header
				rw.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(rw, "no")
				return true
			}
			status, body, err := w.call(t, w.transport(t), "delete_note")
			if err != nil || status != 403 || body != "no" {
				t.Errorf("%d %q %v", status, body, err)
			}
			want(t, "logins", len(w.person.requests()), 1)
		})
	}
}

func TestChallengeInTheSecondHeader(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{})
	stepped := false
	w.before = func(rw http.ResponseWriter, r *http.Request) bool {
		if stepped || r.Header.Get("Mcp-Name") != "delete_note" || r.Header.Get("Authorization") == "" {
			return false
		}
		stepped = true
		rw.Header()["Www-Authenticate"] = []string{`Basic realm="`, `Bearer error="insufficient_scope", scope="notes:write"`}
		rw.WriteHeader(http.StatusForbidden)
		return true
	}
	if status, _, err := w.call(t, w.transport(t), "delete_note"); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	want(t, "scopes", scopesAsked(w.person)[1], "notes:read notes:write")
}

// REQ-57, row by row.
func TestIssOfTheAnswer(t *testing.T) {
	for _, c := range []struct {
		advertised bool
		iss        string // "" absent, "own" the issuer's
		good       bool
	}{
		{true, "own", true}, {true, "", false}, {true, "https://else.example", false}, {true, "own/", false},
		{false, "own", true}, {false, "", true}, {false, "https://else.example", false}, {false, "own/", false},
	} {
		t.Run(fmt.Sprintf("%v %s", c.advertised, c.iss), func(t *testing.T) {
			o := stiletest.IssuerOptions{Metadata: map[string]any{"authorization_response_iss_parameter_supported": c.advertised}}
			w := newWorld(t, o)
			for _, refused := range []bool{false, true} {
				w.person.spoil = func(q url.Values) {
					q.Del("iss")
					if c.iss != "" {
						q.Set("iss", strings.Replace(c.iss, "own", w.issuer.URL(), 1))
					}
					if refused {
						q.Del("code")
						q.Set("error", "access_denied")
					}
				}
				_, _, err := w.call(t, w.transport(t), "list_notes")
				var denied *stepup.DeniedError
				if refused && errors.As(err, &denied) != c.good || !refused && (err == nil) != c.good {
					t.Errorf("refused %v: %v", refused, err)
				}
			}
		})
	}
}

func TestAnswersThatAreNotTaken(t *testing.T) {
	for name, spoil := range map[string]func(url.Values){
		"state is not ours": func(q url.Values) { q.Set("state", "x") },
		"no state":          func(q url.Values) { q.Del("state") },
		"two codes":         func(q url.Values) { q.Add("code", "x") },
		"no code":           func(q url.Values) { q.Del("code") },
		"wrong code":        func(q url.Values) { q.Set("code", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, stiletest.IssuerOptions{})
			w.person.spoil = spoil
			_, _, err := w.call(t, w.transport(t), "list_notes")
			var failed *stepup.Error
			if !errors.As(err, &failed) || failed.Resource != w.url {
				t.Errorf("%v", err)
			}
		})
	}
}

// Metadata that must not be believed, and what is asked after it was read.
func TestMetadataThatIsNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		issuer   map[string]any
		resource func(w *world) string // the document, or empty for the gateway's own
		says     string
	}{
		"another issuer":    {issuer: map[string]any{"issuer": "https://else.example"}, says: "another issuer"},
		"no PKCE":           {issuer: map[string]any{"code_challenge_methods_supported": nil}, says: "PKCE"},
		"plain PKCE":        {issuer: map[string]any{"code_challenge_methods_supported": []string{"plain"}}, says: "PKCE"},
		"http token":        {issuer: map[string]any{"token_endpoint": "http://idp.example.com/token"}, says: "endpoint"},
		"script to open":    {issuer: map[string]any{"authorization_endpoint": "javascript:alert(1)"}, says: "endpoint"},
		"no registration":   {issuer: map[string]any{"registration_endpoint": nil}, says: "client id"},
		"another resource":  {resource: func(w *world) string { return doc("https://else.example/mcp", w.issuer.URL()) }, says: "of the resource"},
		"a sibling":         {resource: func(w *world) string { return doc(w.url+"2", w.issuer.URL()) }, says: "of the resource"},
		"no issuer":         {resource: func(w *world) string { return `{"resource":"` + w.url + `"}` }, says: "names no authorization server"},
		"issuer of no kind": {resource: func(w *world) string { return doc(w.url, "file:///etc/passwd") }, says: "authorization server"},
		"no JSON":           {resource: func(*world) string { return "<html>" }, says: "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, stiletest.IssuerOptions{Metadata: c.issuer})
			if c.resource != nil {
				w.before = func(rw http.ResponseWriter, r *http.Request) bool {
					if !strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
						return false
					}
					rw.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(rw, c.resource(w))
					return true
				}
			}
			_, _, err := w.call(t, w.transport(t), "list_notes")
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if len(w.person.requests()) > 0 {
				t.Errorf("the person was sent to %s", w.person.requests()[0].URL)
			}
		})
	}
}

func doc(resource, issuer string) string {
	b, _ := json.Marshal(map[string]any{"resource": resource, "authorization_servers": []string{issuer}})
	return string(b)
}

func TestEveryFormOfMetadataIsFound(t *testing.T) {
	for _, form := range []string{stiletest.DiscoveryOAuthInserted, stiletest.DiscoveryOIDCInserted, stiletest.DiscoveryOIDCAppended, stiletest.DiscoveryOAuthAppended} {
		t.Run(form, func(t *testing.T) {
			w := newWorld(t, stiletest.IssuerOptions{Path: "/realms/acme", Discovery: []string{form}})
			if status, _, err := w.call(t, w.transport(t), "list_notes"); err != nil || status != 200 {
				t.Error(status, err)
			}
		})
	}
}

func TestRegistrationsAreKeptApart(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{})
	w.config.Client = stepup.Client{ID: "mine", Issuer: "https://else.example"}
	_, _, err := w.call(t, w.transport(t), "list_notes")
	if err == nil || !strings.Contains(err.Error(), "registered with") {
		t.Errorf("%v", err)
	}
	want(t, "registrations", w.issuer.Count(stiletest.EndpointRegister), 0)
}

func TestClientCredentials(t *testing.T) {
	w := newWorld(t, stiletest.IssuerOptions{ClientCredentials: true, Clients: []stiletest.Client{{ID: "ci", Secret: "s3cret"}}})
	w.config.Person, w.config.Grant, w.config.Client = nil, &stepup.ClientCredentials{}, stepup.Client{ID: "ci", Secret: "s3cret"}
	for _, tool := range []string{"list_notes", "delete_note"} {
		if status, body, err := w.call(t, w.transport(t), tool); err != nil || status != 200 {
			t.Fatal(status, body, err)
		}
	}
}

func TestBodiesAreSentAgainWhole(t *testing.T) {
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		rw.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	w := newWorld(t, stiletest.IssuerOptions{})
	w.config.MaxBody = 8
	tr := w.transport(t) // too long to keep: sent once
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, io.NopCloser(bytes.NewReader([]byte("longer than eight"))))
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want(t, "status", resp.StatusCode, 401)
	want(t, "bodies", bodies, []string{"longer than eight"})
}

func TestConfigMistakes(t *testing.T) {
	for _, c := range []stepup.Config{{}, {Person: &person{}, Grant: &stepup.ClientCredentials{}}, {Person: &person{}, ClientMetadataURL: "http://x.example/c"}, {Person: &person{}, ClientMetadataURL: "https://x.example"}} {
		if _, err := stepup.New(c); err == nil {
			t.Errorf("no error for %+v", c)
		}
	}
}
