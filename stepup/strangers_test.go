package stepup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/stepup"
)

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
	wantExplanation(t, resp, err, 401, "refuses the Authorization header that was given")
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
