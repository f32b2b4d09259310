package stepup_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stile-mcp/stile/stepup"
)

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
