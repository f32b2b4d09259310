package stile_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/stiletest"
)

// issuing changes how the fixture's issuer is known.
func issuing(t *testing.T, change func(*authenticate.JWTConfig)) func(*stile.Config) {
	return func(c *stile.Config) {
		config := authenticate.JWTConfig{Issuer: c.Servers[0].Issuers[0].Issuer, Audiences: []string{resource}}
		change(&config)
		jwt, err := authenticate.NewJWT(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(jwt.Keys().Close)
		c.Servers[0].Verifiers = []authenticate.Verifier{jwt}
		c.Servers[0].Issuers = []*authenticate.Profile{jwt.Profile()}
	}
}

// metadataOf is the protected-resource document of an endpoint.
func metadataOf(t *testing.T, h http.Handler, path string) (doc struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported"`
}) {
	t.Helper()
	w := do(t, h, ask{method: http.MethodGet, path: "/.well-known/oauth-protected-resource" + path})
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return doc
}

// What is told to clients is in the issuer's words, what is decided in ours
// (DES-07).
func TestIssuersOwnVocabulary(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) {
		issuing(t, func(j *authenticate.JWTConfig) { j.ScopePrefix = "api://notes/" })(c)
	})
	if got := metadataOf(t, f.gateway, "/mcp"); !slices.Equal(got.Scopes, []string{"api://notes/notes:read"}) {
		t.Errorf("metadata %q", got.Scopes)
	}
	if got := do(t, f.gateway, stream("")).Header().Get("WWW-Authenticate"); !strings.Contains(got, `scope="api://notes/notes:read"`) {
		t.Errorf("401 %s", got)
	}
	token := f.token("api://notes/notes:read")
	w := do(t, f.gateway, tool(era2026, token, "delete_note", `{"id":"1","permanent":true}`))
	checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusForbidden, "7")
	want := `scope="api://notes/notes:read api://notes/notes:write api://notes/notes:admin"`
	if got := w.Header().Get("WWW-Authenticate"); !strings.Contains(got, want) {
		t.Errorf("403 %s", got)
	}
	if got := readError(t, w.Body.Bytes()).Error.Data.Required; !slices.Equal(got, []string{"api://notes/notes:read", "api://notes/notes:write", "api://notes/notes:admin"}) {
		t.Errorf("required_scopes %q", got)
	}
	if w := do(t, f.gateway, tool(era2026, token, "list_notes", `{}`)); w.Code != http.StatusOK {
		t.Errorf("list_notes: %d %s", w.Code, w.Body)
	}
	if w := do(t, f.gateway, tool(era2026, f.token("api://notes/notes:read api://notes/notes:write"), "delete_note", `{"id":"1"}`)); w.Code != http.StatusOK {
		t.Errorf("delete_note: %d %s", w.Code, w.Body)
	}
	list := do(t, f.gateway, rpc(era2026, token, "tools/list", "")).Body.String()
	if !strings.Contains(list, `"scopes":["api://notes/notes:read","api://notes/notes:write"]`) {
		t.Errorf("the list does not name the scopes in the issuer's words: %s", list)
	}
	for _, record := range f.records(t) {
		if strings.Contains(strings.Join(strs(record["needed"]), " "), "api://") {
			t.Errorf("the audit is not in our words: %v", record)
		}
	}
}

func strs(v any) (out []string) {
	list, _ := v.([]any)
	for _, s := range list {
		out = append(out, s.(string))
	}
	return out
}

// What the issuer cannot grant is never asked for: the call is refused in-band,
// and the entry is not in the list (DES-21, DES-31).
func TestIssuerThatCannotGrant(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) {
		issuing(t, func(j *authenticate.JWTConfig) { j.Grantable = []string{"notes:read", "notes:item:*", "tags:*"} })(c)
	})
	token := f.token("notes:read")
	w := do(t, f.gateway, tool(era2026, token, "delete_note", `{"id":"1"}`))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"isError":true`) || !strings.Contains(w.Body.String(), "does not grant") || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("delete_note: %d %v %s", w.Code, w.Header(), w.Body)
	}
	w = do(t, f.gateway, rpc(era2025, token, "prompts/get", `"name":"summarise"`))
	if e := readError(t, w.Body.Bytes()); w.Code != http.StatusOK || e.Error.Code >= -32768 && e.Error.Code <= -32000 || string(e.ID) != "7" {
		t.Errorf("prompts/get: %d %s", w.Code, w.Body)
	}
	if f.notes.Calls("delete_note")+f.notes.Served("prompts/get") != 0 {
		t.Error("a denied call reached the server")
	}
	// Of the alternatives of export_notes the one that can be granted is asked for.
	w = do(t, f.gateway, tool(era2026, token, "export_notes", `{}`))
	if got := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusForbidden || !strings.Contains(got, `scope="notes:read tags:read"`) {
		t.Errorf("export_notes: %d %s", w.Code, got)
	}
	list := do(t, f.gateway, rpc(era2026, token, "tools/list", "")).Body.String()
	for name, want := range map[string]bool{"list_notes": true, "export_notes": true, "delete_note": false, "drop_everything": false} {
		if strings.Contains(list, `"`+name+`"`) != want {
			t.Errorf("%s listed: %t, want %t", name, !want, want)
		}
	}
	// A token that has it all the same is not argued with.
	if w := do(t, f.gateway, tool(era2026, f.token("notes:read notes:write"), "delete_note", `{"id":"1"}`)); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "isError") {
		t.Errorf("delete_note by a token that has it: %d %s", w.Code, w.Body)
	}
}

// A client that nobody can send to a login page gets final answers.
func TestNonInteractiveClients(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool, func(c *stile.Config) {
		issuing(t, func(j *authenticate.JWTConfig) { j.NonInteractiveClients = []string{"nightly"} })(c)
	})
	job := f.mint(stiletest.Claims{Scope: "notes:read", ClientID: "nightly"})
	w := do(t, f.gateway, tool(era2025, job, "delete_note", `{}`))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "cannot be given more by signing in") {
		t.Errorf("a job: %d %s", w.Code, w.Body)
	}
	w = do(t, f.gateway, tool(era2025, f.token("notes:read"), "delete_note", `{}`))
	checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusForbidden, "7")
}

// Two servers with their own policies, upstreams and issuers, in one gateway:
// nothing of one is good for the other.
func TestTwoServers(t *testing.T) {
	tags := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	archive := stiletest.NewScripted(answerTool)
	f := newFixture(t, notesPolicy, answerTool, func(c *stile.Config) {
		jwt, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: tags.URL(), Audiences: []string{publicURL + "/archive"}, ScopePrefix: "tags/"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(jwt.Keys().Close)
		c.Servers = append(c.Servers, stile.Server{Name: "archive", Path: "/archive", Upstream: archive,
			Policy:    compile(t, "baseline: a\nrules: [{tools: [list_notes], scopes: b}]"),
			Verifiers: []authenticate.Verifier{jwt}, Issuers: []*authenticate.Profile{jwt.Profile()}})
	})
	notes, other := f.token("notes:read"), tags.Token(stiletest.Claims{Scope: "tags/a", Audience: []string{publicURL + "/archive"}})
	both := tags.Token(stiletest.Claims{Scope: "tags/a tags/b", Audience: []string{publicURL + "/archive"}})
	for _, tc := range []struct {
		name, path, token string
		want              int
		challenge         string
	}{
		{"notes by its token", "/mcp", notes, 200, ""},
		{"archive by its token", "/archive", other, 403, `scope="tags/a tags/b", resource_metadata="` + publicURL + `/.well-known/oauth-protected-resource/archive"`},
		{"archive stepped up", "/archive", both, 200, ""},
		{"notes by the other's token", "/mcp", both, 401, `scope="notes:read"`},
		{"archive by the other's token", "/archive", notes, 401, `scope="tags/a"`},
		{"notes by nobody", "/mcp", "", 401, `resource_metadata="` + publicURL + `/.well-known/oauth-protected-resource/mcp"`},
		{"archive by nobody", "/archive", "", 401, `resource_metadata="` + publicURL + `/.well-known/oauth-protected-resource/archive"`},
	} {
		a := tool(era2025, tc.token, "list_notes", `{}`)
		a.path = tc.path
		before := []int{f.reached(), len(archive.Recorded())}
		w := do(t, f.gateway, a)
		if w.Code != tc.want || !strings.Contains(w.Header().Get("WWW-Authenticate"), tc.challenge) {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Header().Get("WWW-Authenticate"))
		}
		after := []int{f.reached(), len(archive.Recorded())}
		if tc.want == http.StatusOK {
			before[map[string]int{"/mcp": 0, "/archive": 1}[tc.path]]++
		}
		if !slices.Equal(before, after) {
			t.Errorf("%s: the upstreams saw %v requests, want %v", tc.name, after, before)
		}
	}
	for path, want := range map[string]string{"/mcp": f.issuer.URL(), "/archive": tags.URL()} {
		doc := metadataOf(t, f.gateway, path)
		if doc.Resource != publicURL+path || !slices.Equal(doc.Servers, []string{want}) {
			t.Errorf("metadata of %s: %+v", path, doc)
		}
	}
}

// Several issuers of one server: each challenge is in the words of the one whose
// token was sent, and all are advertised in their order.
func TestSeveralIssuers(t *testing.T) {
	second := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	f := newFixture(t, notesPolicy, answerTool, func(c *stile.Config) {
		jwt, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: second.URL(), Audiences: []string{resource}, ScopePrefix: "x/"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(jwt.Keys().Close)
		c.Servers[0].Verifiers = append(c.Servers[0].Verifiers, jwt)
		c.Servers[0].Issuers = append(c.Servers[0].Issuers, jwt.Profile())
	})
	if got := metadataOf(t, f.gateway, "/mcp").Servers; !slices.Equal(got, []string{f.issuer.URL(), second.URL()}) {
		t.Errorf("authorization servers %q", got)
	}
	for token, want := range map[string]string{
		f.token("notes:read"): `scope="notes:read notes:write"`,
		second.Token(stiletest.Claims{Scope: "x/notes:read", Audience: []string{resource}}): `scope="x/notes:read x/notes:write"`,
	} {
		w := do(t, f.gateway, tool(era2025, token, "delete_note", `{}`))
		if got := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusForbidden || !strings.Contains(got, want) {
			t.Errorf("%d %s, want %s", w.Code, got, want)
		}
	}
}
