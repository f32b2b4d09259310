package stile_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/stiletest"
)

// fixedVerifier knows one token.
type fixedVerifier struct{ authenticate.Identity }

func (v *fixedVerifier) Verify(context.Context, string) (*authenticate.Identity, error) {
	return &v.Identity, nil
}

// goodConfig is the smallest configuration for people who log in.
func goodConfig(t *testing.T) stile.Config {
	t.Helper()
	return stile.Config{
		PublicURL: publicURL,
		Servers: []stile.Server{{
			Name: "notes", Path: "/mcp", Upstream: stiletest.NewScripted(nil),
			Policy:    compile(t, notesPolicy),
			Verifiers: []authenticate.Verifier{&fixedVerifier{}},
		}},
		Audit: io.Discard,
		Log:   slog.New(slog.DiscardHandler),
	}
}

// mistakesOf are the paths of what New refuses, and all of it.
func mistakesOf(t *testing.T, c stile.Config) (paths []string, all string) {
	t.Helper()
	g, err := stile.New(c)
	if err == nil {
		return nil, ""
	}
	if g != nil {
		t.Error("a Gateway beside an error")
	}
	var list problem.List
	if !errors.As(err, &list) {
		t.Fatalf("error %T: %v", err, err)
	}
	for _, m := range list {
		if m.Want == "" {
			t.Errorf("%s: nothing is said of what was expected", m.Path)
		}
		paths = append(paths, m.Path)
	}
	return paths, err.Error()
}

func TestNewFindsEachMistake(t *testing.T) {
	server := func(change func(*stile.Server)) func(*stile.Config) {
		return func(c *stile.Config) { change(&c.Servers[0]) }
	}
	second := func(change func(*stile.Server)) func(*stile.Config) {
		return func(c *stile.Config) {
			other := c.Servers[0]
			other.Name, other.Path = "other", "/other"
			change(&other)
			c.Servers = append(c.Servers, other)
		}
	}
	public := func(url string) func(*stile.Config) { return func(c *stile.Config) { c.PublicURL = url } }
	at := func(path string) func(*stile.Config) { return server(func(s *stile.Server) { s.Path = path }) }
	origin := func(o string) func(*stile.Config) {
		return func(c *stile.Config) { c.AllowedOrigins = []string{"https://ok.example", o} }
	}
	host := func(h string) func(*stile.Config) { return func(c *stile.Config) { c.AllowedHosts = []string{h} } }
	for _, tc := range []struct {
		name   string
		change func(*stile.Config)
		path   string
		says   string // the value and what was expected
	}{
		{"no public URL", public(""), "public_url", "scheme and host"},
		{"public URL without scheme", public("mcp.example.com"), "public_url", `"mcp.example.com": scheme and host`},
		{"public URL of another scheme", public("ftp://mcp.example.com"), "public_url", `"ftp://mcp.example.com": scheme`},
		{"public URL with slash", public(publicURL + "/"), "public_url", "without path"},
		{"public URL with path", public(publicURL + "/mcp"), "public_url", "without path"},
		{"public URL with query", public(publicURL + "?a=b"), "public_url", "query"},
		{"public URL with empty query", public(publicURL + "?"), "public_url", "query"},
		{"public URL with empty fragment", public(publicURL + "#"), "public_url", "without path"},
		{"public URL with user", public("https://me@mcp.example.com"), "public_url", "scheme and host"},
		{"public URL with port alone", public("https://:8443"), "public_url", "scheme and host"},
		{"public URL that cannot stand in a challenge", public("https://a,b.example"), "public_url", "scheme and host"},

		{"no servers", func(c *stile.Config) { c.Servers = nil }, "servers", "at least one server"},
		{"no name", server(func(s *stile.Server) { s.Name = "" }), "servers[0].name", "letters, digits"},
		{"bad name", server(func(s *stile.Server) { s.Name = "my notes" }), "servers[0].name", `"my notes": letters, digits`},
		{"long name", server(func(s *stile.Server) { s.Name = strings.Repeat("x", 65) }), "servers[0].name", "64 at most"},
		{"same name", second(func(s *stile.Server) { s.Name = "notes" }), "servers[1].name", `"notes": a name that no other server has`},
		{"no path", at(""), "servers[0].path", `a path such as "/mcp"`},
		{"relative path", at("mcp"), "servers[0].path", `"mcp": a path such as`},
		{"path with slash at the end", at("/mcp/"), "servers[0].path", "without a trailing slash"},
		{"path with two slashes", at("//mcp"), "servers[0].path", "a path such as"},
		{"path with dots", at("/a/../b"), "servers[0].path", `"/a/../b": a path such as`},
		{"path with query", at("/mcp?x"), "servers[0].path", "a path such as"},
		{"path with escape", at("/m%63p"), "servers[0].path", "a path such as"},
		{"same path", second(func(s *stile.Server) { s.Path = "/mcp" }), "servers[1].path", `"/mcp": a path that no other server has`},
		{"path of the health probe", at("/healthz"), "servers[0].path", `"/healthz": a path that Stile does not answer itself`},
		{"path of the readiness probe", at("/readyz"), "servers[0].path", "does not answer itself"},
		{"path of the metadata", at("/.well-known/oauth-protected-resource"), "servers[0].path", "does not answer itself"},
		{"path below well-known", at("/.well-known/x"), "servers[0].path", "does not answer itself"},
		{"no upstream", server(func(s *stile.Server) { s.Upstream = nil }), "servers[0].upstream", "the handler that calls are forwarded to"},
		{"no policy", server(func(s *stile.Server) { s.Policy = nil }), "servers[0].policy", "nothing is allowed without one"},
		{"nobody can log in", server(func(s *stile.Server) { s.Verifiers = nil }), "servers[0].verifiers", "baseline of the policy asks for scopes"},
		{"a rule that nobody can meet", server(func(s *stile.Server) {
			s.Verifiers, s.Policy = nil, compile(t, "rules: [{tools: a, anonymous: true}, {tools: b, deny: no}, {tools: c, scopes: s}]")
		}), "servers[0].verifiers", "rules[2] of the policy asks for scopes"},
		{"a default that nobody can meet", server(func(s *stile.Server) {
			s.Verifiers, s.Policy = nil, compile(t, "rules: [{tools: a, anonymous: true}]\ndefault: s")
		}), "servers[0].verifiers", "default of the policy asks for scopes"},
		{"nothing but denials", server(func(s *stile.Server) {
			s.Verifiers, s.Policy = nil, compile(t, "rules: [{tools: a, deny: no}]")
		}), "servers[0].verifiers", "nobody could call this server"},
		{"nil verifier", server(func(s *stile.Server) { s.Verifiers = append(s.Verifiers, nil) }), "servers[0].verifiers[1]", "a verifier"},
		{"nil issuer", server(func(s *stile.Server) { s.Issuers = []*authenticate.Profile{nil} }), "servers[0].issuers[0]", "the profile of an issuer"},
		{"policy reads tools of no catalogue", server(func(s *stile.Server) {
			s.Policy = compile(t, "rules: [{tools: ['*'], when: tool.readOnlyHint, scopes: a}]")
		}), "servers[0].tools", "a ToolCatalogue"},

		{"any origin", origin("*"), "allowed_origins[1]", `"*": an origin such as`},
		{"origins of a domain", origin("https://*.example.com"), "allowed_origins[1]", "an origin such as"},
		{"null origin", origin("null"), "allowed_origins[1]", `"null": an origin such as`},
		{"origin with slash", origin("https://app.example.com/"), "allowed_origins[1]", "an origin such as"},
		{"origin with empty query", origin("https://app.example.com?"), "allowed_origins[1]", "an origin such as"},
		{"origin without scheme", origin("app.example.com"), "allowed_origins[1]", "an origin such as"},
		{"no host", host(""), "allowed_hosts[0]", "a host name or address"},
		{"any host", host("*"), "allowed_hosts[0]", `"*": a host name or address`},
		{"host with port", host("a.example:8080"), "allowed_hosts[0]", "without a port"},
		{"address with port", host("127.0.0.1:8080"), "allowed_hosts[0]", "without a port"},
		{"URL as host", host("http://a.example"), "allowed_hosts[0]", "a host name or address"},

		{"short session key", func(c *stile.Config) { c.SessionKeys = [][]byte{make([]byte, 32), []byte("secret")} }, "session_keys[1]", "has 6 bytes, want at least 32"},
		{"negative session age", func(c *stile.Config) { c.SessionMaxAge = -time.Hour }, "session_max_age", `"-1h0m0s": want at least 1s`},
		{"negative body", func(c *stile.Config) { c.MaxBody = -1 }, "max_body", `"-1": a number of bytes`},
		{"negative time for bodies", func(c *stile.Config) { c.BodyTimeout = -time.Second }, "body_timeout", `"-1s": a time`},
		{"root metadata of two", func(c *stile.Config) {
			second(func(*stile.Server) {})(c)
			c.RootMetadata = true
		}, "root_metadata", `"true": false with more than one server`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := goodConfig(t)
			tc.change(&c)
			paths, all := mistakesOf(t, c)
			if !slices.Equal(paths, []string{tc.path}) {
				t.Fatalf("mistakes at %q, want one at %s\n%s", paths, tc.path, all)
			}
			if !strings.Contains(all, tc.says) {
				t.Errorf("says %q, want %q in it", all, tc.says)
			}
			if strings.Contains(all, "secret") {
				t.Errorf("repeats a secret: %s", all)
			}
		})
	}
}

// All mistakes come at once, in the order of the fields; one does not hide
// another.
func TestNewFindsEveryMistakeAtOnce(t *testing.T) {
	c := goodConfig(t)
	c.PublicURL, c.AllowedOrigins, c.AllowedHosts = "x", []string{"*"}, []string{"*"}
	c.MaxBody, c.BodyTimeout = -1, -1
	c.SessionKeys, c.SessionMaxAge = [][]byte{nil}, -1
	c.RootMetadata = true
	c.Servers = []stile.Server{
		{Name: "a b", Path: "/mcp"},
		{Name: "b", Path: "/mcp", Policy: c.Servers[0].Policy},
	}
	got, _ := mistakesOf(t, c)
	want := []string{
		"public_url", "allowed_origins[0]", "allowed_hosts[0]", "max_body", "body_timeout", "session_max_age", "session_keys[0]",
		"root_metadata",
		"servers[0].name", "servers[0].upstream", "servers[0].policy",
		"servers[1].path", "servers[1].upstream", "servers[1].verifiers",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A wholly anonymous server needs nobody who logs in, and its answers name no
// authorization server.
func TestNewWithoutVerifiers(t *testing.T) {
	c := goodConfig(t)
	c.Servers[0].Verifiers = nil
	c.Servers[0].Policy = compile(t, "rules: [{tools: [ping], anonymous: true}]")
	c.Servers[0].Upstream = answerTool
	g, err := stile.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if w := do(t, g, tool(era2026, "", "ping", `{}`)); w.Code != http.StatusOK {
		t.Errorf("ping: %d %s", w.Code, w.Body)
	}
	w := do(t, g, tool(era2026, "", "delete_note", `{}`))
	checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusUnauthorized, "7")
	w = do(t, g, tool(era2026, "whatever", "ping", `{}`))
	checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusUnauthorized, "null")
}

// What is changed in a Config after New changes nothing.
func TestConfigIsFrozen(t *testing.T) {
	c := goodConfig(t)
	issuers := []*authenticate.Profile{{Issuer: "https://idp.example.com", ScopePrefix: "api://"}}
	c.Servers[0].Issuers = issuers
	c.AllowedOrigins = []string{"https://app.example.com"}
	g, err := stile.New(c)
	if err != nil {
		t.Fatal(err)
	}
	want := do(t, g, stream("")).Header().Get("WWW-Authenticate")
	if !strings.Contains(want, `scope="api://notes:read"`) {
		t.Fatalf("challenge %s", want)
	}
	issuers[0] = &authenticate.Profile{ScopePrefix: "other://"}
	c.AllowedOrigins[0] = "https://evil.example"
	c.Servers[0].Policy, c.Servers[0].Verifiers[0], c.Servers[0].Upstream = authorizeAll(t), nil, nil
	if got := do(t, g, stream("")).Header().Get("WWW-Authenticate"); got != want {
		t.Errorf("challenge %s, want %s", got, want)
	}
	if w := do(t, g, stream("").with("Origin", "https://evil.example")); w.Code != http.StatusForbidden {
		t.Errorf("an origin added later: %d, want 403", w.Code)
	}
}

func authorizeAll(t *testing.T) *authorize.Policy {
	t.Helper()
	return compile(t, "rules: [{methods: ['*'], anonymous: true}]")
}

// Without an audit the operator is told so at the start, once.
func TestNoAuditIsTold(t *testing.T) {
	c := goodConfig(t)
	var log lockedBuffer
	c.Audit, c.Log = nil, slog.New(slog.NewTextHandler(&log, nil))
	if _, err := stile.New(c); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "no audit log is configured") {
		t.Errorf("log %q", got)
	}
}

// The defaults are those that the comments of Config name.
func TestDefaults(t *testing.T) {
	for name, c := range map[string]struct{ got, want any }{
		"DefaultSessionMaxAge": {stile.DefaultSessionMaxAge, 24 * time.Hour},
		"DefaultBodyTimeout":   {stile.DefaultBodyTimeout, 30 * time.Second},
		"DefaultKeepAlive":     {stile.DefaultKeepAlive, 15 * time.Second},
		"DefaultRefusalWindow": {stile.DefaultRefusalWindow, time.Minute},
	} {
		if c.got != c.want {
			t.Errorf("%s = %v, want %v", name, c.got, c.want)
		}
	}
	f := newFixture(t, notesPolicy, answerTool)
	limit := 4 << 20
	pad := strings.Repeat("x", limit)
	w := do(t, f.gateway, tool(era2025, f.token("notes:read"), "list_notes", `{"x":"`+pad+`"}`))
	checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusRequestEntityTooLarge, "null")
	w = do(t, f.gateway, tool(era2025, f.token("notes:read"), "list_notes", `{"x":"`+pad[:limit-200]+`"}`))
	if w.Code != http.StatusOK {
		t.Errorf("just under 4 MiB: %d %s", w.Code, printable(w.Body.Bytes()))
	}
}

// The root document stands there only when asked for, and always for a server at
// the root (DES-30).
func TestRootMetadata(t *testing.T) {
	const root = "/.well-known/oauth-protected-resource"
	for _, tc := range []struct {
		name     string
		root     bool
		path     string
		want     int
		resource string
	}{
		{"off", false, "/mcp", http.StatusNotFound, ""},
		{"on", true, "/mcp", http.StatusOK, publicURL + "/mcp"},
		{"root endpoint", false, "/", http.StatusOK, publicURL},
		{"root endpoint and on", true, "/", http.StatusOK, publicURL},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := goodConfig(t)
			c.RootMetadata, c.Servers[0].Path = tc.root, tc.path
			g, err := stile.New(c)
			if err != nil {
				t.Fatal(err)
			}
			w := do(t, g, ask{method: http.MethodGet, path: root})
			if w.Code != tc.want {
				t.Fatalf("%d, want %d", w.Code, tc.want)
			}
			if tc.want == http.StatusOK && !strings.Contains(w.Body.String(), `"resource":"`+tc.resource+`"`) {
				t.Errorf("document %s, want the resource %s", w.Body, tc.resource)
			}
			// The challenge leads to a document that is there.
			challenge := do(t, g, ask{method: http.MethodGet, path: tc.path}).Header().Get("WWW-Authenticate")
			_, url, _ := strings.Cut(challenge, `resource_metadata="`+publicURL)
			url, _, _ = strings.Cut(url, `"`)
			if w := do(t, g, ask{method: http.MethodGet, path: url}); w.Code != http.StatusOK {
				t.Errorf("the challenge names %s, which answers %d", url, w.Code)
			}
		})
	}
}

// Hosts given with brackets, and addresses, are served.
func TestAllowedHosts(t *testing.T) {
	c := goodConfig(t)
	c.AllowedHosts = []string{"[::1]", "10.0.0.1", "Gateway.Internal"}
	g, err := stile.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"mcp.example.com": 401, "MCP.example.com:443": 401, "[::1]": 401, "[::1]:8080": 401, "10.0.0.1:80": 401, "gateway.internal": 401,
		"localhost": 403, "127.0.0.1:8080": 403, "evil.example": 403, "mcp.example.com.evil.example": 403, "": 403,
	} {
		r := stream("").request(t, publicURL)
		r.Host = host
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
	}
}
