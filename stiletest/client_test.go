package stiletest_test

import (
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

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stiletest"
)

// TestClientOptions: a token of one's own, a client registered before, refresh
// tokens, and what a browser would have been shown.
func TestClientOptions(t *testing.T) {
	known := stiletest.Client{ID: "known", Secret: "s3", RedirectURIs: []string{"http://127.0.0.1/callback"}}
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{RefreshTokens: true, Scopes: []string{"offline_access"}, Clients: []stiletest.Client{known}})
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := newGuard(t, issuer, notes)
	token := issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{g.url + "/mcp"}})
	var visited []string
	tests := []struct {
		name           string
		options        stiletest.ClientOptions
		registered     int
		authorizations int
		refresh        bool
	}{
		{"token", stiletest.ClientOptions{Token: token}, 0, 0, false},
		{"known client", stiletest.ClientOptions{Client: known}, 0, 1, false},
		{"registers", stiletest.ClientOptions{RequestRefreshToken: true, OnAuthorize: func(u string) { visited = append(visited, u) }}, 1, 1, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			issuer.Forget()
			session, err := stiletest.NewClient(t.Context(), g.url+"/mcp", test.options)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if got := call(t, session, "ping", nil); got != "pong" {
				t.Errorf("ping: %q", got)
			}
			if got := issuer.Count(stiletest.EndpointRegister); got != test.registered {
				t.Errorf("%d registrations, want %d", got, test.registered)
			}
			asked := issuer.Requests(stiletest.EndpointAuthorize)
			if len(asked) != test.authorizations {
				t.Fatalf("%d authorizations, want %d", len(asked), test.authorizations)
			}
			if len(asked) > 0 && slices.Contains(asked[0].Scopes(), "offline_access") != test.refresh {
				t.Errorf("scopes asked for: %q", asked[0].Scopes())
			}
		})
	}
	if len(visited) != 1 || !strings.HasPrefix(visited[0], issuer.EndpointURL(stiletest.EndpointAuthorize)+"?") {
		t.Errorf("a browser was sent to %q", visited)
	}
}

// TestClientRefusals: what the client gives up on.
func TestClientRefusals(t *testing.T) {
	consent := func(stiletest.ConsentRequest) ([]string, error) {
		return nil, &stiletest.OAuthError{Code: "access_denied", Description: "not today"}
	}
	tests := []struct {
		name    string
		options stiletest.IssuerOptions
		client  stiletest.ClientOptions
		want    string
	}{
		{"no consent", stiletest.IssuerOptions{Consent: consent}, stiletest.ClientOptions{}, "access_denied: not today"},
		{"no authorization", stiletest.IssuerOptions{}, stiletest.ClientOptions{NoAuth: true}, "Unauthorized"},
		{"bad token", stiletest.IssuerOptions{}, stiletest.ClientOptions{Token: "guess"}, "Unauthorized"},
		{"unknown client", stiletest.IssuerOptions{}, stiletest.ClientOptions{Client: stiletest.Client{ID: "nobody"}}, "a redirect to http://127.0.0.1/callback was expected"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			issuer := stiletest.NewIssuerServer(t, test.options)
			notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
			g := newGuard(t, issuer, notes)
			session, err := stiletest.NewClient(t.Context(), g.url+"/mcp", test.client)
			if err == nil {
				session.Close()
				t.Fatal("it connected")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			if got := notes.Recorded(); len(got) != 0 {
				t.Errorf("%d requests reached the upstream", len(got))
			}
		})
	}
}

// TestRecorder records a login and a step-up: everything is there but the
// secrets.
func TestRecorder(t *testing.T) {
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{RefreshTokens: true, Scopes: []string{"offline_access"}})
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := newGuard(t, issuer, notes)
	var mu sync.Mutex
	var live []string
	recorder := &stiletest.Recorder{OnResponse: func(e stiletest.Exchange) {
		mu.Lock()
		defer mu.Unlock()
		live = append(live, fmt.Sprint(e.Method, " ", e.Status))
	}}
	session, err := stiletest.NewClient(t.Context(), g.url+"/mcp", stiletest.ClientOptions{
		HTTPClient: &http.Client{Transport: recorder}, RequestRefreshToken: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	call(t, session, "create_note", map[string]any{"title": "New"})
	session.Close()
	exchanges := recorder.Exchanges()
	var all strings.Builder
	var refused []string
	for _, e := range exchanges {
		all.WriteString(e.String())
		if e.Status == 401 || e.Status == 403 {
			refused = append(refused, fmt.Sprint(e.Status, " ", e.Response.Get("WWW-Authenticate")))
		}
	}
	if len(refused) != 2 || !strings.HasPrefix(refused[0], `401 Bearer scope="notes:read"`) || !strings.HasPrefix(refused[1], `403 Bearer error="insufficient_scope"`) {
		t.Errorf("challenges %q", refused)
	}
	if len(live) != len(exchanges) || live[0] != "POST 401" {
		t.Errorf("told of %q, recorded %d", live, len(exchanges))
	}
	text := all.String()
	for _, want := range []string{
		"> POST " + g.url + "/mcp\n", "> MCP-Protocol-Version: 2026-07-28\n", "> Authorization: Bearer redacted\n", "< 403 Forbidden\n",
		"code=redacted", "code_verifier=redacted", `"access_token":"redacted"`, `"refresh_token":"redacted"`, "notes%3Aread", "created 4",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the transcript", want)
		}
	}
	for _, r := range issuer.Requests(stiletest.EndpointToken) {
		for _, name := range []string{"code", "code_verifier"} {
			if v := r.Form.Get(name); v == "" || strings.Contains(text, v) {
				t.Errorf("the %s %q is in the transcript", name, v)
			}
		}
	}
	if strings.Contains(text, "eyJ") {
		t.Error("a token is in the transcript")
	}
	recorder.Forget()
	if len(recorder.Exchanges()) != 0 {
		t.Error("Forget left something")
	}
}

// TestRecorderRedacts looks at each place where a secret can stand.
func TestRecorderRedacts(t *testing.T) {
	const jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://app.example/cb?code=SECRET&state=s&%zz=1")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Other", "SECRET")
		w.WriteHeader(302)
		io.Copy(w, r.Body)
	}))
	defer server.Close()
	recorder := &stiletest.Recorder{}
	client := &http.Client{Transport: recorder, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for media, body := range map[string]string{
		"application/x-www-form-urlencoded": "client_secret=SECRET&c%6fde=SECRET&keep=yes&x=" + jwt,
		"application/json":                  `{"client_secret" : "SECRET","keep":"yes","error":{"code":403},"deep":{"access_token":"SECRET"},"x":"` + jwt + `"}`,
	} {
		recorder.Forget()
		req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/"+jwt+"?token=SECRET&keep=yes", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", media)
		req.Header.Set("Authorization", "Basic SECRET")
		req.Header.Set("Cookie", "SECRET")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(got) != body {
			t.Errorf("the body on the wire was changed: %s", got)
		}
		e := recorder.Exchanges()[0]
		switch media {
		case "application/json":
			if !strings.Contains(e.RequestBody, `"error":{"code":403}`) {
				t.Errorf("the code of a JSON-RPC error was taken for a secret: %s", e.RequestBody)
			}
		default:
			e.ResponseBody = "" // the echo calls itself JSON
		}
		text := e.String()
		if strings.Contains(text, "SECRET") || strings.Contains(text, "eyJ") {
			t.Errorf("a secret is in the transcript:\n%s", text)
		}
		for _, want := range []string{"keep", "state=s", "> Authorization: Basic redacted"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in the transcript:\n%s", want, text)
			}
		}
	}
}

// TestRecorderHalfBody: a body that is read half, as of a stream that goes on,
// shows no half secret.
func TestRecorderHalfBody(t *testing.T) {
	const body = `{"a":1,"access_token":"ab\"SECRET`
	recorder := &stiletest.Recorder{Base: roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body + `-rest"}`))}, nil
	})}
	res, err := recorder.RoundTrip(httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, len(body))); err != nil {
		t.Fatal(err)
	}
	if got, want := recorder.Exchanges()[0].ResponseBody, `{"a":1,"access_token":"redacted"`; got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
}

// TestRecorderNoAnswer records what was sent though nothing came back.
func TestRecorderNoAnswer(t *testing.T) {
	gone := errors.New("gone")
	recorder := &stiletest.Recorder{Base: roundTripper(func(*http.Request) (*http.Response, error) { return nil, gone })}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1/mcp", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recorder.RoundTrip(req); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
	if got, want := recorder.Exchanges()[0].String(), "> POST http://127.0.0.1/mcp\n>\n> {}\n< no answer: gone\n"; got != want {
		t.Errorf("recorded\n%s\nwant\n%s", got, want)
	}
}

// FuzzRecorderRedacts: whatever else stands in a query, a form or a JSON body,
// the value of a code is not written down.
func FuzzRecorderRedacts(f *testing.F) {
	f.Add("a=1", "&b=2", "secret-1")
	f.Add("%zz", "", "secret%20")
	f.Add("", "code=", `x"y`)
	f.Add("a;b", "&code", "\u0000")
	f.Fuzz(func(t *testing.T, before, after, value string) {
		value = "SECRET" + value + "SECRET"
		if strings.ContainsAny(before+after, "#") || strings.Contains(before+after, "SECRET") {
			return
		}
		recorder := &stiletest.Recorder{Base: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("gone") })}
		quoted, err := json.Marshal(map[string]string{"access_token": value, "before": before, "after": after})
		if err != nil {
			t.Fatal(err)
		}
		form := strings.TrimSuffix(before, "&") + "&code=" + url.QueryEscape(value) + "&" + after
		for media, body := range map[string]string{"application/x-www-form-urlencoded": form, "application/json; charset=utf-8": string(quoted)} {
			req := httptest.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1/", strings.NewReader(body))
			req.URL.RawQuery = form
			req.Header.Set("Content-Type", media)
			recorder.RoundTrip(req)
		}
		for _, e := range recorder.Exchanges() {
			if strings.Contains(e.String(), "SECRET") {
				t.Errorf("the secret %q is in the transcript:\n%s", value, e)
			}
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestClientVersions: what the server cannot speak is negotiated as the go-sdk
// does it.
func TestClientVersions(t *testing.T) {
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	for _, test := range []struct{ ask, first string }{
		{stiletest.Version2025, "initialize"}, {"2025-06-18", "initialize"}, {stiletest.Version2026, "server/discover"}, {"", "server/discover"},
	} {
		notes.Forget()
		session := connect(t, notes.URL, test.ask, &mcp.ClientOptions{})
		if got := string(notes.Recorded()[0].Body); !strings.Contains(got, `"method":"`+test.first+`"`) {
			t.Errorf("%q began with %s, want %s", test.ask, got, test.first)
		}
		if got := session.InitializeResult().ProtocolVersion; test.ask != "" && got != test.ask {
			t.Errorf("%q: the revision is %s", test.ask, got)
		}
	}
}
