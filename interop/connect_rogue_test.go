package interop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// rogue is a protected MCP server of 2025-11-25 with its own authorization server, of
// which any part can be made to misbehave. What is not replaced is good, and lets
// everybody in who comes with a token.
type rogue struct {
	*httptest.Server
	metadata map[string]any // of the authorization server
	resource string         // in the metadata of the resource
	parts    map[string]http.HandlerFunc
	refuse   func(w http.ResponseWriter, method string) bool // a request that has a token
	tokens   atomic.Int64
	strays   chan string // requests that came to the server that others redirect to
	stray    *httptest.Server
}

func newRogue(t *testing.T) *rogue {
	t.Helper()
	g := &rogue{parts: map[string]http.HandlerFunc{}, strays: make(chan string, 64)}
	g.stray = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g.strays <- fmt.Sprint(r.Method, r.URL, r.Header, string(body))
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(g.stray.Close)
	g.Server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
	})
	g.resource = g.URL + "/mcp"
	g.metadata = map[string]any{"issuer": g.URL, "token_endpoint": g.URL + "/token", "authorization_endpoint": g.URL + "/authorize",
		"registration_endpoint": g.URL + "/register", "code_challenge_methods_supported": []string{"S256"}}
	return g
}

func (g *rogue) serve(w http.ResponseWriter, r *http.Request) {
	if part := g.parts[r.URL.Path]; part != nil {
		part(w, r)
		return
	}
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/.well-known/oauth-protected-resource/mcp":
		answer(200, map[string]any{"resource": g.resource, "authorization_servers": []string{g.URL}})
	case "/.well-known/oauth-authorization-server":
		answer(200, g.metadata)
	case "/register":
		answer(201, map[string]any{"client_id": "registered", "token_endpoint_auth_method": "none"})
	case "/authorize":
		q := r.URL.Query()
		http.Redirect(w, r, q.Get("redirect_uri")+"?code=secret-code&state="+q.Get("state")+"&iss="+url.QueryEscape(g.URL), http.StatusFound)
	case "/token":
		answer(200, map[string]any{"access_token": fmt.Sprint("secret-token-", g.tokens.Add(1)), "token_type": "Bearer"})
	case "/mcp":
		g.mcp(w, r, answer)
	default:
		http.NotFound(w, r)
	}
}

func (g *rogue) mcp(w http.ResponseWriter, r *http.Request, answer func(int, any)) {
	var m struct {
		ID     any
		Method string
	}
	_ = json.NewDecoder(r.Body).Decode(&m)
	switch {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer secret-token"):
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+g.URL+`/.well-known/oauth-protected-resource/mcp"`)
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case g.refuse != nil && g.refuse(w, m.Method):
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
	case m.Method == "initialize":
		answer(200, map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": map[string]any{"protocolVersion": era2025,
			"capabilities": map[string]any{"tools": map[string]any{}}, "serverInfo": map[string]any{"name": "rogue", "version": "1"}}})
	default:
		answer(200, map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": map[string]any{"content": []any{map[string]any{"type": "text", "text": "done"}}}})
	}
}

// refuseCalls refuses calls of tools with challenges; the nth call gets what lines says.
func (g *rogue) refuseCalls(lines func(n int) []string) {
	n := 0
	g.refuse = func(w http.ResponseWriter, method string) bool {
		if method != "tools/call" {
			return false
		}
		n++
		challenge := lines(n)
		if challenge == nil {
			return false
		}
		w.Header()["Www-Authenticate"] = challenge
		w.WriteHeader(http.StatusForbidden)
		return true
	}
}

// redirect sends a part elsewhere.
func (g *rogue) redirect(path string) {
	g.parts[path] = func(w http.ResponseWriter, r *http.Request) {
		if path == "/mcp" && r.Header.Get("Authorization") == "" {
			g.mcp(w, r, nil)
			return
		}
		http.Redirect(w, r, g.stray.URL+path, http.StatusTemporaryRedirect)
	}
}

// TestConnectToRogues has the real program in front of servers that misbehave: the
// client hears what happened, few windows open, nothing goes to another origin, and the
// program goes on.
func TestConnectToRogues(t *testing.T) {
	for name, c := range map[string]struct {
		make    func(g *rogue)
		windows int
		says    string // the answer to the last of four calls, or to initialize if that fails
		begins  bool   // initialize does not fail
	}{
		"good": {func(*rogue) {}, 1, `"text":"done"`, true},
		"the same 403 for ever": {func(g *rogue) {
			g.refuseCalls(func(int) []string { return []string{`Bearer error="insufficient_scope", scope="a"`} })
		}, 2, "asked for a and was not given it", true},
		"another scope each time": {func(g *rogue) {
			g.refuseCalls(func(n int) []string {
				return []string{fmt.Sprintf(`Bearer error="insufficient_scope", scope="s%d"`, n)}
			})
		}, 4, "3 logins in a row did not help", true},
		"the challenge in the second of two headers": {func(g *rogue) {
			g.refuseCalls(func(n int) []string {
				if n > 1 {
					return nil
				}
				return []string{`Basic realm="`, `Bearer error="insufficient_scope", scope="a"`}
			})
		}, 2, `"text":"done"`, true},
		"a 403 without an error": {func(g *rogue) {
			g.refuseCalls(func(int) []string { return []string{`Bearer scope="a"`} })
		}, 1, "refused tools/call", true},
		"no token is good": {func(g *rogue) {
			g.refuse = func(w http.ResponseWriter, _ string) bool { w.WriteHeader(http.StatusUnauthorized); return true }
		}, 1, "has just issued for it", false},
		"metadata of another issuer": {func(g *rogue) { g.metadata["issuer"] = "https://else.example" }, 0, "of another issuer", false},
		"metadata of another resource": {func(g *rogue) {
			g.resource = "https://else.example/mcp"
		}, 0, "is of the resource", false},
		"a script to open":   {func(g *rogue) { g.metadata["authorization_endpoint"] = "javascript:alert(1)" }, 0, "endpoint", false},
		"a command for host": {func(g *rogue) { g.metadata["authorization_endpoint"] = "https://$(touch pwned)/" }, 0, "endpoint", false},
		"a command in a path": {func(g *rogue) {
			g.metadata["authorization_endpoint"] = g.URL + "/$(touch%20pwned);touch%20pwned&calc'"
		}, 1, "not finished within", false},
		"a token endpoint that hangs": {func(g *rogue) {
			g.parts["/token"] = func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}
		}, 1, "not finished within", false},
		"metadata without an end": {func(g *rogue) {
			g.parts["/.well-known/oauth-protected-resource/mcp"] = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
						return
					}
				}
			}
		}, 0, "a body of at most", false},
		"a token endpoint that redirects": {func(g *rogue) { g.redirect("/token") }, 1, "redirects are not followed", false},
		"metadata that redirects":         {func(g *rogue) { g.redirect("/.well-known/oauth-authorization-server") }, 0, "redirects are not followed", false},
		"an endpoint that redirects":      {func(g *rogue) { g.redirect("/mcp") }, 1, "give that URL instead", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRogue(t)
			c.make(g)
			d := newDesk(t, g.URL+"/mcp", func(address string) string {
				response, err := http.Get(address)
				if err == nil {
					response.Body.Close()
				}
				return ""
			})
			limit := "5m"
			if strings.Contains(c.says, "not finished") {
				limit = "2s"
			}
			connect := d.connect("--timeout", limit)
			p := start(t, connect.Env, connect.Args[0], connect.Args[1:]...)
			answer := roguesAnswer(p, c.begins)
			if !strings.Contains(answer, c.says) {
				t.Errorf("the client is told %s\nwant %q\n%s", answer, c.says, p.stderr)
			}
			if got := len(d.asked()); got != c.windows {
				t.Errorf("%d windows, want %d", got, c.windows)
			}
			if strings.Contains(answer+p.stderr.String(), "secret") {
				t.Errorf("a secret is shown: %s\n%s", answer, p.stderr)
			}
			select {
			case stray := <-g.strays:
				t.Errorf("went elsewhere: %s", stray)
			default:
			}
			if _, err := os.Stat("pwned"); err == nil {
				t.Error("a shell has run")
			}
			if code := p.terminate(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// roguesAnswer begins, calls a tool four times, and returns the last answer. Where
// beginning fails it is that one.
func roguesAnswer(p *program, begins bool) string {
	p.t.Helper()
	say := func(line string) { _, _ = io.WriteString(p.stdin, line+"\n") }
	say(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + era2025 + `","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	answer := p.line(`"id":1`)
	if strings.Contains(answer, `"error"`) == begins {
		p.t.Errorf("initialize is answered with %s\n%s", answer, p.stderr)
	}
	if !begins {
		return answer
	}
	say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	for id := 2; id < 6; id++ {
		say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"t","arguments":{}}}`, id))
		answer = p.line(fmt.Sprintf(`"id":%d`, id))
	}
	return answer
}
