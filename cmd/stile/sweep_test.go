package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/stiletest"
)

// sweptServers are all the ways there are to what a gateway protects. The command
// leaves a file when it is started.
const sweptServers = `  older:
    path: /older
    url: %NOTES%
    sse: true
    policy_file: policy.yaml
  command:
    path: /command
    command: [/bin/sh, -c, "touch %REACHED%; cat"]
    policy_file: policy.yaml
  dotted:
    path: /a/b/mcp
    url: %NOTES%
    policy_file: policy.yaml
`

// sweptPaths are behind the gate, or nowhere.
var sweptPaths = []string{"/mcp", "/mcp/", "/mcp/sse", "/older", "/older/sse", "/older/messages", "/older/messages?session=x",
	"/command", "/a/b/mcp", "/a/b/mcp/sse", "/A/B/mcp", "//mcp", "/./mcp", "/x/../mcp", "/%6dcp", "/mcp%2f", "/", "/a", "/admin",
	"/debug/pprof/", "/metrics", "/authorize", "/token", "/register"}

var sweptMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodTrace, "PROPFIND"}

// badCredentials are headers, or queries where they begin with a question mark, that
// open nothing.
func badCredentials(s *serving, other *stiletest.Issuer) map[string]http.Header {
	good := s.token("notes:read notes:write")
	mint := func(c stiletest.Claims) string {
		if c.Audience == nil {
			c.Audience = []string{s.urls[0]}
		}
		c.Scope = "notes:read notes:write"
		return "Bearer " + s.issuer.Token(c)
	}
	part := strings.SplitN(good, ".", 3)
	bad := map[string]string{
		"none": "", "empty": "Bearer ", "no scheme": good, "another scheme": "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+good)),
		"DPoP": "DPoP " + good, "two tokens": "Bearer " + good + " " + good, "two schemes": "Bearer " + good + ", Basic x",
		"opaque": "Bearer opaque", "long": "Bearer " + strings.Repeat("A", 9000),
		"no signature": "Bearer " + part[0] + "." + part[1] + ".", "half": "Bearer " + part[0] + "." + part[1],
		"other claims":   "Bearer " + part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+s.issuer.URL()+`","sub":"alice"}`)) + "." + part[2],
		"foreign issuer": "Bearer " + other.Token(stiletest.Claims{Audience: []string{s.urls[0]}}),
		"foreign key":    "Bearer " + other.Token(stiletest.Claims{Issuer: s.issuer.URL(), Audience: []string{s.urls[0]}}),
		"none alg":       mint(stiletest.Claims{Algorithm: "none"}), "HMAC": mint(stiletest.Claims{Algorithm: "HS256"}),
		"expired":        mint(stiletest.Claims{IssuedAt: time.Now().Add(-2 * time.Hour), Expiry: time.Now().Add(-time.Hour)}),
		"not yet":        mint(stiletest.Claims{NotBefore: time.Now().Add(time.Hour)}),
		"other audience": mint(stiletest.Claims{Audience: []string{"https://other.example.com/mcp"}}),
		"id token":       mint(stiletest.Claims{Typ: "id_token+jwt"}), "no expiry": mint(stiletest.Claims{Omit: []string{"exp"}}),
		"unknown key": mint(stiletest.Claims{Kid: "../../etc/passwd"}),
	}
	headers := map[string]http.Header{
		"twice":          {"Authorization": {"Bearer " + good, "Bearer " + good}},
		"in a query":     {"?": {"access_token=" + url.QueryEscape(good)}},
		"as a cookie":    {"Cookie": {"access_token=" + good}},
		"as an API key":  {"X-Api-Key": {good}},
		"in another one": {"X-Authorization": {"Bearer " + good}, "Proxy-Authorization": {"Bearer " + good}, "X-Forwarded-User": {"alice"}},
	}
	for name, value := range bad {
		headers[name] = http.Header{"Authorization": {value}}
	}
	return headers
}

// TestEveryDoorIsShut tries every path and method with everything that is no good
// token. Nothing reaches a server, nothing is answered with 2xx, and a 401 says where
// to get a token.
func TestEveryDoorIsShut(t *testing.T) {
	s := newServing(t, "", stiletest.NotesOptions{})
	var reached atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer upstream.Close()
	s.notes = upstream.URL + "/mcp"
	started := filepath.Join(s.dir, "started")
	s.write(t, "stile.yaml", strings.Replace(servedConfig, "%MORE%", "", 1)+strings.ReplaceAll(sweptServers, "%REACHED%", started))
	s.start(t)
	gate, err := url.Parse(s.urls[0])
	if err != nil {
		t.Fatal(err)
	}
	unauthorized := 0
	for name, header := range badCredentials(s, stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})) {
		for _, path := range sweptPaths {
			for _, method := range sweptMethods {
				res := s.knock(t, method, "http://"+gate.Host+path, header)
				if res.StatusCode < 400 || res.StatusCode >= 500 {
					t.Errorf("%s: %s %s is answered with %d", name, method, path, res.StatusCode)
				}
				if res.StatusCode == http.StatusUnauthorized {
					unauthorized++
					checkFirstChallenge(t, fmt.Sprintf("%s: %s %s", name, method, path), res.Header)
				}
			}
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
	if _, err := os.Stat(started); err == nil {
		t.Error("the command was started")
	}
	if unauthorized < 500 {
		t.Errorf("only %d refusals were for the token: the sweep does not reach the gate", unauthorized)
	}
	s.knock(t, http.MethodPost, s.urls[0], http.Header{"Authorization": {"Bearer " + s.token("notes:read notes:write")}})
	if reached.Load() == 0 {
		t.Error("a good token opens nothing either")
	}
}

// knock sends a call, and returns the answer without its body.
func (s *serving) knock(t *testing.T, method, target string, header http.Header) *http.Response {
	t.Helper()
	if query := header.Get("?"); query != "" {
		target += map[bool]string{true: "&", false: "?"}[strings.Contains(target, "?")] + query
	}
	var body io.Reader
	if method != http.MethodGet && method != http.MethodHead && method != http.MethodTrace {
		body = strings.NewReader(call("list_notes"))
	}
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for name, values := range header {
		if name != "?" {
			r.Header[name] = values
		}
	}
	res, err := s.client.Transport.RoundTrip(r) // no redirect is followed
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	text, err := io.ReadAll(res.Body)
	if _ = res.Body.Close(); err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	if strings.Contains(string(text)+fmt.Sprint(res.Header), "eyJ") {
		t.Errorf("%s %s: the answer repeats a token", method, target)
	}
	return res
}

// checkFirstChallenge wants one challenge that clients can read, with the address of
// the metadata.
func checkFirstChallenge(t *testing.T, what string, header http.Header) {
	t.Helper()
	got, err := challenge.Parse(header.Values("WWW-Authenticate"))
	where := ""
	if len(got) == 1 {
		where, _ = got[0].Get("resource_metadata")
	}
	if err != nil || len(got) != 1 || got[0].Scheme != "Bearer" || !strings.Contains(where, "/.well-known/oauth-protected-resource") {
		t.Errorf("%s: the challenge is %q (%v)", what, header.Values("WWW-Authenticate"), err)
	}
}
