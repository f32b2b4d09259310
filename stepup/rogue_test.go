package stepup_test

import (
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
	"time"

	"github.com/go-jose/go-jose/v4"

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

// No server can have one window after the other opened.
func TestLoopsOfRefusalsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		refuse  func(n int) (status int, challenge string) // the nth request with a token
		windows int                                        // for five calls of one operation
		others  int                                        // and of one more operation
		says    string
	}{
		"the same scope": {func(int) (int, string) { return 403, `Bearer error="insufficient_scope", scope="a"` },
			2, 0, "asked for a and was not given it"},
		"a scope that the token has": {func(int) (int, string) { return 403, `Bearer error="insufficient_scope", scope="had"` },
			1, 0, "the token has had, and the server still says that it is missing"},
		"two scopes in turn": {func(n int) (int, string) {
			return 403, `Bearer error="insufficient_scope", scope="` + []string{"a", "b"}[n%2] + `"`
		},
			3, 0, "asked for"},
		"another scope each time": {func(n int) (int, string) {
			return 403, fmt.Sprintf(`Bearer error="insufficient_scope", scope="s%d"`, n)
		},
			4, 3, "3 logins in a row did not help"},
		"more scopes each time": {func(n int) (int, string) {
			return 403, `Bearer error="insufficient_scope", scope="` + strings.TrimSpace(strings.Repeat("s ", n)) + fmt.Sprintf(` t%d"`, n)
		}, 4, 3, "3 logins in a row did not help"},
		"no token is good": {func(int) (int, string) {
			return 401, `Bearer error="invalid_token", error_description="wrong audience"`
		},
			1, 0, `has just issued for it ("wrong audience")`},
		"no token is good, without a word": {func(int) (int, string) { return 401, "" }, 1, 0, "has just issued for it"},
		"a scope is missing, which is a 401": {func(int) (int, string) { return 401, `Bearer error="insufficient_scope", scope="a"` },
			1, 0, "has just issued for it"},
		"not said which scope": {func(int) (int, string) { return 403, `Bearer error="insufficient_scope"` }, 1, 0, "does not say which scope"},
		"no scope but noise":   {func(int) (int, string) { return 403, "Bearer error=\"insufficient_scope\", scope=\"\u009b31mred\"" }, 1, 0, "does not say which scope"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRogue(t)
			n := 0
			g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					g.challenge(w, 401, "Bearer "+g.told())
					return
				}
				n++
				status, line := c.refuse(n)
				g.challenge(w, status, line)
			}
			if name == "a scope that the token has" {
				g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) { g.issue(w, map[string]any{"scope": "had"}) }
			}
			tr := g.transport(stepup.Config{})
			for range 5 {
				resp, err := g.call(tr, "one")
				wantExplanation(t, resp, err, g.lastStatus(c.refuse, n), c.says)
			}
			want(t, "windows", len(g.person.requests()), c.windows)
			resp, err := g.call(tr, "other")
			wantExplanation(t, resp, err, g.lastStatus(c.refuse, n), c.says)
			want(t, "windows for another operation", len(g.person.requests())-c.windows, c.others)
			if n > 30 {
				t.Errorf("%d requests for six calls", n)
			}
		})
	}
}

func (g *rogue) lastStatus(refuse func(int) (int, string), n int) int {
	status, _ := refuse(n)
	return status
}

// A refresh is tried once for a request, and is no way around the limit.
func TestLoopsOfRefreshesEnd(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprintf("refused %v", refused), func(t *testing.T) {
			g := newRogue(t)
			g.parts["/token"] = func(w http.ResponseWriter, r *http.Request) {
				if refused && r.PostForm.Get("grant_type") == "refresh_token" {
					answerJSON(w, 400, map[string]any{"error": "invalid_grant"})
					return
				}
				g.issue(w, map[string]any{"refresh_token": "secret-refresh"})
			}
			g.parts["/mcp"] = func(w http.ResponseWriter, _ *http.Request) { g.challenge(w, 401, "Bearer "+g.told()) }
			tr := g.transport(stepup.Config{})
			for range 3 {
				resp, err := g.call(tr, "one")
				if refused {
					wantError(t, err, "has just issued for it")
				} else {
					wantExplanation(t, resp, err, 401, "has just issued for it")
				}
			}
			want(t, "windows", len(g.person.requests()), 1)
			if n := g.count("/token"); n > 1+3 {
				t.Errorf("%d token requests for three calls", n)
			}
		})
	}
}

// The issuer has noticed that a refresh token was used twice, and revoked the family:
// one new login, and its refresh token takes the place of the old one.
func TestReusedRefreshToken(t *testing.T) {
	g := newRogue(t)
	family := 0
	g.parts["/token"] = func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("grant_type") == "refresh_token" {
			answerJSON(w, 400, map[string]any{"error": "invalid_grant", "error_description": "reuse"})
			return
		}
		family++
		g.issue(w, map[string]any{"refresh_token": fmt.Sprintf("family-%d", family)})
	}
	revoked := ""
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if token := r.Header.Get("Authorization"); token == "" || token == revoked {
			g.challenge(w, 401, "Bearer "+g.told())
		}
	}
	store := stepup.NewMemory()
	tr := g.transport(stepup.Config{Store: store})
	for i := range 3 {
		if resp, err := g.call(tr, "one"); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		if i == 0 {
			revoked = "Bearer secret-token-1"
		}
	}
	want(t, "windows", len(g.person.requests()), 2)
	l, err := stepup.LoadLogin(t.Context(), store, g.URL+"/mcp")
	if err != nil || l.RefreshToken != "family-2" {
		t.Errorf("%+v %v", l, err)
	}
}

// While the issuer is down nobody is sent to it, and the login stays.
func TestIssuerIsDownForARefresh(t *testing.T) {
	g := newRogue(t)
	down := false
	g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) {
		if down {
			answerJSON(w, 503, map[string]any{"error": "temporarily_unavailable"})
			return
		}
		g.issue(w, map[string]any{"refresh_token": "r"})
	}
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if down || r.Header.Get("Authorization") == "" {
			g.challenge(w, 401, "Bearer "+g.told())
		}
	}
	store := stepup.NewMemory()
	tr := g.transport(stepup.Config{Store: store})
	if _, err := g.call(tr, "one"); err != nil {
		t.Fatal(err)
	}
	down = true
	_, err := g.call(tr, "one")
	wantError(t, err, "temporarily_unavailable")
	want(t, "windows", len(g.person.requests()), 1)
	if l, err := stepup.LoadLogin(t.Context(), store, g.URL+"/mcp"); err != nil || l == nil || l.RefreshToken != "r" {
		t.Errorf("%+v %v", l, err)
	}
}

// Whoever declines, or closes the window, is not asked for ever.
func TestSomebodyWhoDeclines(t *testing.T) {
	g := newRogue(t)
	g.parts["/authorize"] = func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		http.Redirect(w, r, q.Get("redirect_uri")+"?error=access_denied&state="+q.Get("state")+"&iss="+url.QueryEscape(g.URL), http.StatusFound)
	}
	tr := g.transport(stepup.Config{})
	for range 3 {
		_, err := g.call(tr, "one")
		wantError(t, err, "access_denied")
	}
	resp, err := g.call(tr, "one")
	wantExplanation(t, resp, err, 401, "3 logins in a row did not help: try again in")
	want(t, "windows", len(g.person.requests()), 3)
}

// While the issuer is down nobody is asked for anything, and when it is up again nobody
// has to wait.
func TestIssuerIsDownForALogin(t *testing.T) {
	g := newRogue(t)
	down := true
	g.parts["/.well-known/oauth-authorization-server"] = func(w http.ResponseWriter, _ *http.Request) {
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		answerJSON(w, 200, g.metadata)
	}
	tr := g.transport(stepup.Config{})
	for range 5 {
		_, err := g.call(tr, "one")
		wantError(t, err, "status 503")
	}
	down = false
	if resp, err := g.call(tr, "one"); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	want(t, "windows", len(g.person.requests()), 1)
}

// Whoever logs out, in another process perhaps, is asked again at once.
func TestLogoutElsewhere(t *testing.T) {
	g := newRogue(t)
	grants := ""
	g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) { g.issue(w, map[string]any{"scope": grants}) }
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") == "":
			g.challenge(w, 401, "Bearer "+g.told())
		case grants == "":
			g.challenge(w, 403, `Bearer error="insufficient_scope", scope="a"`)
		}
	}
	store := stepup.NewMemory()
	tr := g.transport(stepup.Config{Store: store})
	for range 3 {
		resp, err := g.call(tr, "one")
		wantExplanation(t, resp, err, 403, "log out to be asked again")
	}
	want(t, "windows", len(g.person.requests()), 2)
	if err := stepup.Logout(t.Context(), store, g.URL+"/mcp"); err != nil {
		t.Fatal(err)
	}
	resp, err := g.call(tr, "one")
	wantExplanation(t, resp, err, 403, "log out to be asked again")
	want(t, "scopes", scopesAsked(g.person), []string{"", "a", "a"})
	if err := stepup.Logout(t.Context(), store, g.URL+"/mcp"); err != nil {
		t.Fatal(err)
	}
	grants = "a"
	if resp, err := g.call(tr, "one"); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
}

// full is a Store that keeps nothing.
type full struct{ *stepup.Memory }

func (full) Put(context.Context, string, []byte) error { return errors.New("the disk is full") }

// A login that cannot be kept is good for as long as the process lives, and is not taken
// for one that somebody has ended.
func TestStoreThatKeepsNothing(t *testing.T) {
	g := newRogue(t)
	g.metadata["registration_endpoint"] = nil
	refused := false
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			g.challenge(w, 401, "Bearer "+g.told())
		} else if refused {
			g.challenge(w, 403, `Bearer error="insufficient_scope", scope="a"`)
		}
	}
	tr := g.transport(stepup.Config{Store: full{stepup.NewMemory()}, Client: stepup.Client{ID: "mine"}})
	for range 3 {
		if resp, err := g.call(tr, "one"); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
	}
	want(t, "windows", len(g.person.requests()), 1)
	refused = true
	for range 3 {
		resp, err := g.call(tr, "one")
		wantExplanation(t, resp, err, 403, "asked for a and was not given it")
	}
	want(t, "windows", len(g.person.requests()), 2)
}

// Forty requests at once lack a scope that is then not granted: one window, and each of
// them is told.
func TestParallelRefusalsThatALoginDoesNotEnd(t *testing.T) {
	g := newRogue(t)
	g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) { g.issue(w, map[string]any{"scope": "less"}) }
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			g.challenge(w, 401, "Bearer "+g.told())
			return
		}
		g.challenge(w, 403, `Bearer error="insufficient_scope", scope="more"`)
	}
	tr := g.transport(stepup.Config{})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			resp, err := g.call(tr, fmt.Sprintf("op%d", i%4))
			if err != nil || resp.StatusCode != 403 {
				t.Errorf("%v %v", resp, err)
			} else if why := stepup.Explanation(resp); why == nil || !strings.Contains(why.Error(), "asked for more and was not given it") {
				t.Errorf("%v", why)
			}
		})
	}
	wg.Wait()
	want(t, "windows", len(g.person.requests()), 2)
}

// Challenges in every place and order, and ones that cannot be read.
func TestChallengesInOddPlaces(t *testing.T) {
	for name, lines := range map[string][]string{
		"the second of two lines":    {`Basic realm="x"`, `Bearer error="insufficient_scope", scope="a b"`},
		"the second in one line":     {`Basic realm="x", Bearer error="insufficient_scope", scope="a b"`},
		"behind a broken line":       {`Bearer error="`, `Bearer error="insufficient_scope", scope="a b"`},
		"behind another Bearer":      {`Bearer realm="x", Bearer error="insufficient_scope", scope="a b"`},
		"another case":               {`bEARER ERROR="insufficient_scope", SCOPE="a b"`},
		"spaces and a scope twice":   {`Bearer  error="insufficient_scope" ,scope="  a   b a "`},
		"beside token68":             {`Negotiate abc==, Bearer error="insufficient_scope", scope="a b"`},
		"behind an empty realm":      {`Bearer realm="", error="insufficient_scope", scope="a b"`},
		"an escape in its scope too": {"Bearer error=\"insufficient_scope\", scope=\"a b \u009b31mred\""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRogue(t)
			g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
				switch r.Header.Get("Authorization") {
				case "":
					g.challenge(w, 401, `Bearer realm="`, `Digest`) // the well-known URL leads on
				case "Bearer secret-token-1":
					g.challenge(w, 403, lines...)
				}
			}
			if resp, err := g.call(g.transport(stepup.Config{}), "one"); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v %v", resp, err)
			}
			want(t, "scopes", scopesAsked(g.person), []string{"", "a b"})
		})
	}
}

// Tokens, codes and secrets go where they belong, whoever redirects.
func TestNothingFollowsToAnotherOrigin(t *testing.T) {
	for _, path := range []string{"/mcp", "/token", "/register", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(path, " ", status), func(t *testing.T) {
				var strays []string
				elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					strays = append(strays, fmt.Sprint(r.URL, r.Header, string(body)))
					w.Header().Set("WWW-Authenticate", "Bearer")
					w.WriteHeader(http.StatusUnauthorized)
				}))
				defer elsewhere.Close()
				g := newRogue(t)
				g.parts[path] = func(w http.ResponseWriter, r *http.Request) {
					if path == "/mcp" && r.Header.Get("Authorization") == "" {
						g.challenge(w, 401, "Bearer "+g.told())
						return
					}
					http.Redirect(w, r, elsewhere.URL+"/mcp", status)
				}
				client := &http.Client{Transport: g.transport(stepup.Config{})}
				resp, err := client.Post(g.URL+"/mcp", "application/json", strings.NewReader("{}"))
				if err == nil {
					defer resp.Body.Close()
				}
				for _, stray := range strays {
					if path != "/mcp" || strings.Contains(stray, "secret") {
						t.Errorf("went elsewhere: %s", stray)
					}
				}
				switch {
				case path != "/mcp":
					wantError(t, err, "redirects are not followed")
				case err != nil || len(strays) != 1:
					t.Errorf("%v %v", err, strays)
				default:
					wantError(t, stepup.Explanation(resp), "is not the server that tokens are for")
				}
				for _, r := range g.person.requests() {
					if !strings.HasPrefix(r.URL, g.URL) {
						t.Errorf("the person was sent to %s", r.URL)
					}
				}
			})
		}
	}
}

// A redirect within the origin goes on with a token, and an endless one ends.
func TestRedirectsWithinTheOrigin(t *testing.T) {
	g := newRogue(t)
	g.parts["/old"] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/mcp", http.StatusTemporaryRedirect)
	}
	g.parts["/round"] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/round", http.StatusTemporaryRedirect)
	}
	client := &http.Client{Transport: g.transport(stepup.Config{})}
	resp, err := client.Post(g.URL+"/old", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	want(t, "status", resp.StatusCode, 200)
	_, err = client.Post(g.URL+"/round", "application/json", strings.NewReader("{}"))
	wantError(t, err, "stopped after 10 redirects")
}

// A caller's own credentials are left alone.
func TestAuthorizationOfTheCaller(t *testing.T) {
	g := newRogue(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer own")
	resp, err := g.transport(stepup.Config{}).RoundTrip(r)
	wantExplanation(t, resp, err, 401, "an Authorization of its own")
	resp.Body.Close()
	want(t, "windows", len(g.person.requests()), 0)
}

// hang answers never, or not before the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// drip answers with a status and a body that does not end.
func drip(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header()["Www-Authenticate"] = header
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// flood answers with more than anyone wants to read.
func flood(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	junk := []byte(strings.Repeat(" ", 1<<16))
	for r.Context().Err() == nil {
		if _, err := w.Write(junk); err != nil {
			return
		}
	}
}

func TestAnswersThatDoNotEnd(t *testing.T) {
	const resource, issuer = "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"
	for name, c := range map[string]struct {
		path string
		part http.HandlerFunc
		says string
	}{
		"token endpoint hangs":       {"/token", hang, "not finished within 100ms"},
		"token endpoint drips":       {"/token", drip(200), "not finished within 100ms"},
		"token endpoint floods":      {"/token", flood, "a body of at most"},
		"registration hangs":         {"/register", hang, "not finished within 100ms"},
		"registration floods":        {"/register", flood, "a body of at most"},
		"resource's metadata hangs":  {resource, hang, "not finished within 100ms"},
		"resource's metadata floods": {resource, flood, "a body of at most"},
		"issuer's metadata hangs":    {issuer, hang, "not finished within 100ms"},
		"issuer's metadata floods":   {issuer, flood, "a body of at most"},
		"the person's page hangs":    {"/authorize", hang, "not finished within 100ms"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRogue(t)
			g.parts[c.path] = c.part
			limit := 100 * time.Millisecond
			if strings.Contains(name, "floods") {
				limit = 0 // the default
			}
			_, err := g.call(g.transport(stepup.Config{LoginTimeout: limit}), "one")
			wantError(t, err, c.says)
		})
	}
}

// A refusal whose body does not end is answered all the same.
func TestRefusalsThatDoNotEnd(t *testing.T) {
	g := newRogue(t)
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "":
			drip(401, "Bearer "+g.told())(w, r)
		case "Bearer secret-token-1":
			drip(403, `Bearer error="insufficient_scope", scope="a"`)(w, r)
		}
	}
	if resp, err := g.call(g.transport(stepup.Config{}), "one"); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
}

// What the answer of the token endpoint says beside the token.
func TestTokenAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		members map[string]any
		says    string // the error
		expires bool
	}{
		"no lifetime":          {nil, "", false},
		"a lifetime":           {map[string]any{"expires_in": 3600}, "", true},
		"a fraction":           {map[string]any{"expires_in": 3600.5}, "", true},
		"a string":             {map[string]any{"expires_in": "3600"}, "", true},
		"a word":               {map[string]any{"expires_in": "soon"}, "", false},
		"negative":             {map[string]any{"expires_in": -5}, "", false},
		"huge":                 {map[string]any{"expires_in": 1e300}, "", true},
		"null":                 {map[string]any{"expires_in": nil}, "", false},
		"a list":               {map[string]any{"expires_in": []int{1}}, "", false},
		"no type":              {map[string]any{"token_type": ""}, "", false},
		"another case":         {map[string]any{"token_type": "BEARER"}, "", false},
		"another type":         {map[string]any{"token_type": "mac"}, `type "mac": expected Bearer`, false},
		"bound, but not asked": {map[string]any{"token_type": "DPoP"}, `type "DPoP": expected Bearer`, false},
		"no token":             {map[string]any{"access_token": ""}, "no access token", false},
		"two headers":          {map[string]any{"access_token": "a\r\nX-Evil: 1"}, "no access token", false},
		"a token of no kind":   {map[string]any{"access_token": 7}, "cannot be read", false},
		"a very long token":    {map[string]any{"access_token": strings.Repeat("a", 1<<17)}, "no access token", false},
		"an error with 200":    {map[string]any{"access_token": "", "error": "invalid_grant"}, "no access token", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRogue(t)
			g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) { g.issue(w, c.members) }
			g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					g.challenge(w, 401, "Bearer "+g.told())
				}
			}
			store := stepup.NewMemory()
			_, err := g.call(g.transport(stepup.Config{Store: store}), "one")
			if c.says != "" {
				wantError(t, err, c.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			l, err := stepup.LoadLogin(t.Context(), store, g.URL+"/mcp")
			if err != nil || l.Expires.IsZero() == c.expires {
				t.Errorf("%+v %v", l, err)
			}
		})
	}
}

// An error that another login was answered with ends none of ours with a refusal.
func TestAnswerToAnotherLogin(t *testing.T) {
	g := newRogue(t)
	g.person.spoil = func(q url.Values) {
		q.Del("code")
		q.Set("state", "of-somebody-else")
		q.Set("error", "access_denied")
	}
	_, err := g.call(g.transport(stepup.Config{}), "one")
	wantError(t, err, "belongs to another login")
	if strings.Contains(err.Error(), "refused") {
		t.Errorf("took it for an answer: %v", err)
	}
	want(t, "token requests", g.count("/token"), 0)
}

func TestNonceLoopsEnd(t *testing.T) {
	g := newRogue(t)
	g.metadata["dpop_signing_alg_values_supported"] = []string{"ES256"}
	g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("DPoP-Nonce", fmt.Sprint("n", g.count("/token")))
		answerJSON(w, 400, map[string]any{"error": "use_dpop_nonce"})
	}
	_, err := g.call(g.transport(stepup.Config{}), "one")
	wantError(t, err, "use_dpop_nonce")
	want(t, "token requests", g.count("/token"), 2)

	g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) { g.issue(w, map[string]any{"token_type": "DPoP"}) }
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			g.challenge(w, 401, "DPoP "+g.told())
			return
		}
		w.Header().Set("DPoP-Nonce", fmt.Sprint("n", g.count("/mcp")))
		g.challenge(w, 401, `DPoP error="use_dpop_nonce"`)
	}
	before := g.count("/mcp")
	resp, err := g.call(g.transport(stepup.Config{}), "one")
	wantExplanation(t, resp, err, 401, "too often in a row")
	if n := g.count("/mcp") - before; n > 8 {
		t.Errorf("%d requests", n)
	}
}

// What is opened in a browser is an address of https, or of http on this machine, and
// has nothing in it that a shell or a terminal would take for more.
func TestAddressesThatAreOpened(t *testing.T) {
	for address, good := range map[string]bool{
		"javascript:alert(1)":                  false,
		"file:///etc/passwd":                   false,
		"data:text/html,<script>":              false,
		"vscode://evil":                        false,
		"http://idp.example.com/authorize":     false,
		"//idp.example.com/authorize":          false,
		"/authorize":                           false,
		"-x":                                   false,
		" https://idp.example.com/":            false,
		"https://idp.example.com/\x1b]0;":      false,
		"https://a\"&calc&\"/":                 false,
		"https://$(id)/":                       false,
		"https://a;b/":                         false,
		"https://u:p@idp.example.com/":         false,
		"https://idp.example.com/#x":           false,
		"https://idp.example.com/a b":          false,
		"https://idp.example.com/`id`":         false,
		"https://idp.example.com/a|b":          false,
		"https://bücher.example/authorize":     false,
		"https://idp.example.com/$(id);'&!*":   true,
		"https://idp.example.com/a?b=$(id);'":  true,
		"https://[2001:db8::1]:8443/authorize": true,
		"https://idp.example.com/%C3%BC%2Fa":   true,
	} {
		t.Run(address, func(t *testing.T) {
			g := newRogue(t)
			g.metadata["authorization_endpoint"] = address
			somebody := &shown{}
			_, err := g.call(g.transport(stepup.Config{Person: somebody}), "one")
			if !good {
				if somebody.url != nil {
					t.Fatalf("%s would be opened", somebody.url)
				}
				wantError(t, err, "endpoint")
				return
			}
			if somebody.url == nil {
				t.Fatal(err)
			}
			shown := somebody.url.String()
			if somebody.url.Scheme != "https" || strings.ContainsAny(shown, " \"`|<>^\\\x1b$();'!*") {
				t.Errorf("%s would be opened", shown)
			}
		})
	}
}

// An issuer that has forgotten a client is told of it anew, where the client was
// registered dynamically.
func TestForgottenRegistration(t *testing.T) {
	g := newRogue(t)
	forgot, registered := false, 0
	g.parts["/register"] = func(w http.ResponseWriter, _ *http.Request) {
		registered++
		forgot = false
		answerJSON(w, 201, map[string]any{"client_id": fmt.Sprint("client-", registered), "token_endpoint_auth_method": "none"})
	}
	g.parts["/token"] = func(w http.ResponseWriter, r *http.Request) {
		if forgot {
			answerJSON(w, 401, map[string]any{"error": "invalid_client"})
			return
		}
		g.issue(w, map[string]any{"refresh_token": "r"})
	}
	bad := ""
	g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if token := r.Header.Get("Authorization"); token == "" || token == bad {
			g.challenge(w, 401, "Bearer "+g.told())
		}
	}
	tr := g.transport(stepup.Config{})
	for range 2 {
		if resp, err := g.call(tr, "one"); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		bad, forgot = "Bearer secret-token-1", true
	}
	want(t, "registrations", registered, 2)
	want(t, "windows", len(g.person.requests()), 2)
}

// silent is a person who does not finish: the issuer shows an error page.
type silent struct{ *person }

func (s silent) Begin(ctx context.Context, preferred string) (stepup.Visit, error) {
	v, err := s.person.Begin(ctx, preferred)
	return silentVisit{v}, err
}

type silentVisit struct{ stepup.Visit }

func (silentVisit) Authorize(ctx context.Context, _ stepup.Request) (url.Values, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A login that nobody finished may be one that could not be: the next one registers
// anew.
func TestUnfinishedLoginRegistersAnew(t *testing.T) {
	g := newRogue(t)
	store := stepup.NewMemory()
	_, err := g.call(g.transport(stepup.Config{Person: silent{g.person}, Store: store, LoginTimeout: 100 * time.Millisecond}), "one")
	wantError(t, err, "not finished within")
	if resp, err := g.call(g.transport(stepup.Config{Store: store}), "one"); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	want(t, "registrations", g.count("/register"), 2)
}

// Of several authorization servers the known one is taken, or the first that works.
func TestSeveralAuthorizationServers(t *testing.T) {
	g := newRogue(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	defer dead.Close()
	g.resource["authorization_servers"] = []string{"javascript:alert(1)", dead.URL, g.URL}
	if resp, err := g.call(g.transport(stepup.Config{}), "one"); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	g.resource["authorization_servers"] = []string{dead.URL, g.URL}
	if resp, err := g.call(g.transport(stepup.Config{Client: stepup.Client{ID: "mine", Issuer: g.URL}}), "one"); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	g.resource["authorization_servers"] = slices.Repeat([]string{dead.URL}, 1000)
	asked := 0
	dead.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.NotFound(w, r)
	})
	_, err := g.call(g.transport(stepup.Config{}), "one")
	wantError(t, err, "has no metadata")
	if asked > 16 {
		t.Errorf("%d requests for metadata", asked)
	}
}

// Metadata that cannot be had at one place is looked for at the next.
func TestMetadataAtTheNextPlace(t *testing.T) {
	for name, broken := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"an error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no JSON":    func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 200, "text") },
	} {
		t.Run(name, func(t *testing.T) {
			g := newRogue(t)
			g.parts["/.well-known/oauth-protected-resource/mcp"] = broken
			g.parts["/.well-known/oauth-authorization-server"] = broken
			g.parts["/.well-known/oauth-protected-resource"] = func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 200, g.resource) }
			g.parts["/.well-known/openid-configuration"] = func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 200, g.metadata) }
			if resp, err := g.call(g.transport(stepup.Config{}), "one"); err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
		})
	}
}

// A registration made beforehand goes to its own issuer, though another comes first.
func TestIssuerOfTheClient(t *testing.T) {
	g, other := newRogue(t), newRogue(t)
	g.resource["authorization_servers"] = []string{other.URL, g.URL}
	if resp, err := g.call(g.transport(stepup.Config{Client: stepup.Client{ID: "mine", Issuer: g.URL}}), "one"); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	want(t, "requests at the other issuer", len(other.requests), 0)
}

// A registration that is refused where the code is redeemed is made anew next time.
func TestRefusedRegistration(t *testing.T) {
	g := newRogue(t)
	g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 401, map[string]any{"error": "invalid_client"})
	}
	tr := g.transport(stepup.Config{})
	for range 2 {
		_, err := g.call(tr, "one")
		wantError(t, err, "invalid_client")
	}
	want(t, "registrations", g.count("/register"), 2)
}

// The resource asks for proofs where the issuer's metadata is silent, and a path means
// what it is, escapes and all.
func TestProofForTheResource(t *testing.T) {
	g := newRogue(t)
	g.parts["/token"] = func(w http.ResponseWriter, _ *http.Request) { g.issue(w, map[string]any{"token_type": "DPoP"}) }
	g.parts["/.well-known/oauth-protected-resource"] = func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 200, map[string]any{"resource": g.URL, "authorization_servers": []string{g.URL}})
	}
	var target any
	g.parts["/mcp/a b"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			g.challenge(w, 401, "DPoP")
			return
		}
		signed, err := jose.ParseSignedCompact(r.Header.Get("DPoP"), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Error(err)
			return
		}
		var claims map[string]any
		_ = json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &claims)
		target = claims["htu"]
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/mcp%2Fa%20b?c=d", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.transport(stepup.Config{}).RoundTrip(r)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	want(t, "htu", target, g.URL+"/mcp%2Fa%20b")
}

// A token that is about to end is good until then, whether it can be refreshed or not.
func TestTokenThatIsAboutToEnd(t *testing.T) {
	g := newRogue(t)
	g.parts["/token"] = func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("grant_type") == "refresh_token" {
			answerJSON(w, 503, map[string]any{"error": "temporarily_unavailable"})
			return
		}
		g.issue(w, map[string]any{"refresh_token": "r", "expires_in": 9.5})
	}
	tr := g.transport(stepup.Config{})
	for range 3 {
		if resp, err := g.call(tr, "one"); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
	}
	want(t, "windows", len(g.person.requests()), 1)
}
