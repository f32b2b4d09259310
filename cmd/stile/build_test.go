package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/stiletest"
)

// started is a gateway made from a file, in front of a server that records.
type started struct {
	file     string // the configuration
	url      string // of the endpoint
	issuer   *stiletest.Issuer
	upstream *stiletest.Notes
	audit    *strings.Builder
}

// startGateway writes a configuration in which %ISSUER% and %UPSTREAM% are
// replaced, builds it and serves it.
func startGateway(t *testing.T, text string, options stiletest.IssuerOptions) started {
	t.Helper()
	s := started{audit: &strings.Builder{}, issuer: stiletest.NewIssuerServer(t, options),
		upstream: stiletest.NewNotesServer(t, stiletest.NotesOptions{})}
	var gateway http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { gateway.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	text = strings.NewReplacer("%ISSUER%", s.issuer.URL(), "%UPSTREAM%", s.upstream.URL, "%PUBLIC%", server.URL,
		"%CLIENT%", stiletest.ResourceServer().ID, "%SECRET%", stiletest.ResourceServer().Secret).Replace(text)
	s.file, s.url = filepath.Join(t.TempDir(), "stile.yaml"), server.URL+"/mcp"
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := load(s.file, system())
	if err != nil {
		t.Fatal(err)
	}
	config, opened, err := build(f, slog.New(slog.DiscardHandler), io.Discard, s.audit)
	if err != nil {
		t.Fatal(err)
	}
	g, err := stile.New(config)
	if err != nil {
		t.Fatal(err)
	}
	gateway = g
	t.Cleanup(func() {
		g.Drain()
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// call sends one modern request to the gateway.
func (s started) call(t *testing.T, token, method, on, name, args string) *http.Response {
	t.Helper()
	extra := ""
	if args != "" {
		extra = `,"arguments":` + args
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%q:%q%s,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`,
		method, on, name, extra)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("MCP-Protocol-Version", "2026-07-28")
	r.Header.Set("Mcp-Method", method)
	r.Header.Set("Mcp-Name", name)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

const guarded = `public_url: %PUBLIC%
issuers:
  - issuer: %ISSUER%
    scope_prefix: "api://"
    introspection: {url: "%ISSUER%/introspect", client_id: %CLIENT%, client_secret: %SECRET%}
servers:
  notes:
    path: /mcp
    url: %UPSTREAM%
    headers: {X-Upstream-Key: the-key}
    policy:
      baseline: notes:read
      rules:
        - tools: [list_notes]
          scopes: notes:read
        - tools: [export_notes]
          scopes: ["notes:read tags:read", "notes:admin"]
        - tools: [delete_note]
          scopes: notes:write
        - tools: [delete_note]
          when: args.permanent == true
          scopes: notes:admin
        - resources: ["note://{id}"]
          scopes: "notes:item:{id}"
        - tools: [never]
          deny: "not here"
`

// What explain prints is what the gateway sends, byte for byte, whatever the
// decision.
func TestExplainSaysWhatTheGatewayDoes(t *testing.T) {
	s := startGateway(t, guarded, stiletest.IssuerOptions{})
	for i, tc := range []struct {
		scopes                 string // of the token; "-" is no token
		method, on, name, args string
		status                 int
	}{
		{"-", "tools/call", "name", "list_notes", "{}", 401},
		{"", "tools/call", "name", "list_notes", "{}", 403},
		{"notes:read", "tools/call", "name", "export_notes", "{}", 403},
		{"notes:read", "tools/call", "name", "delete_note", `{"permanent":false}`, 403},
		{"notes:read", "tools/call", "name", "delete_note", `{"permanent":true}`, 403},
		{"notes:read unknown:scope tags:read", "tools/call", "name", "delete_note", `{"permanent":true}`, 403},
		{"notes:read", "resources/read", "uri", "note://7", "", 403},
		{"notes:read", "tools/call", "name", "never", "{}", 200},
		{"notes:read", "tools/call", "name", "unheard_of", "{}", 200},
		{"notes:read notes:write", "tools/call", "name", "delete_note", `{"permanent":true}`, 403},
	} {
		token, args := "", []string{"explain", "-c", s.file, tc.method, tc.name}
		if tc.scopes != "-" {
			args = append(args, "--scopes", tc.scopes)
			// Somebody else each time: a newer token of the same person that still lacks
			// what was asked for is not challenged again (DES-28).
			token = s.issuer.Token(stiletest.Claims{Subject: fmt.Sprint("person-", i), Scope: "api://" + strings.ReplaceAll(tc.scopes, " ", " api://"), Audience: []string{s.url}})
		}
		if tc.args != "" {
			args = append(args, "--args", tc.args)
		}
		var stdout, stderr strings.Builder
		if code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code != exitOK {
			t.Errorf("%v: exit code %d: %s", args, code, &stderr)
			continue
		}
		answer := s.call(t, token, tc.method, tc.on, tc.name, tc.args)
		if answer.StatusCode != tc.status {
			t.Errorf("%s %s with %q: status %d, want %d", tc.method, tc.name, tc.scopes, answer.StatusCode, tc.status)
		}
		if want := fmt.Sprintf(" with %d: ", tc.status); !strings.Contains(stdout.String(), want) {
			t.Errorf("%v: expected%q in\n%s", args, want, &stdout)
		}
		_, said, _ := strings.Cut(stdout.String(), "\nWWW-Authenticate: ")
		if sent := answer.Header.Get("WWW-Authenticate"); sent != strings.TrimSuffix(said, "\n") {
			t.Errorf("%v: explain says\n%s\nthe gateway sends\n%s", args, said, sent)
		}
	}
	if s.upstream.Saw("Authorization") {
		t.Error("a token went upstream")
	}
}

// A token of the issuer, for this endpoint and with the scope, gets through; the
// upstream sees its own credential, and the audit has a line.
func TestBuiltGatewayForwards(t *testing.T) {
	s := startGateway(t, guarded, stiletest.IssuerOptions{})
	good := s.issuer.Token(stiletest.Claims{Scope: "api://notes:read", Audience: []string{s.url}})
	if answer := s.call(t, good, "tools/call", "name", "list_notes", "{}"); answer.StatusCode != http.StatusOK {
		t.Errorf("status %d", answer.StatusCode)
	}
	if !s.upstream.Saw("X-Upstream-Key") {
		t.Error("the upstream did not get its credential")
	}
	if !strings.Contains(s.audit.String(), `"list_notes"`) || strings.Contains(s.audit.String(), good) {
		t.Errorf("the audit is %s", s.audit)
	}
	other := s.issuer.Token(stiletest.Claims{Scope: "api://notes:read", Audience: []string{s.url + "/other"}})
	if answer := s.call(t, other, "tools/call", "name", "list_notes", "{}"); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a token for another endpoint: status %d", answer.StatusCode)
	}
}

// Opaque tokens are asked about with the configured client.
func TestBuiltGatewayIntrospects(t *testing.T) {
	s := startGateway(t, guarded, stiletest.IssuerOptions{Opaque: true})
	token := s.issuer.Token(stiletest.Claims{Scope: "api://notes:read", Audience: []string{s.url}})
	if answer := s.call(t, token, "tools/call", "name", "list_notes", "{}"); answer.StatusCode != http.StatusOK {
		t.Errorf("status %d %s", answer.StatusCode, answer.Header.Get("WWW-Authenticate"))
	}
	if s.issuer.Count(stiletest.EndpointIntrospect) != 1 {
		t.Errorf("asked %d times", s.issuer.Count(stiletest.EndpointIntrospect))
	}
}

// An API key speaks for its subject and cannot step up.
func TestBuiltGatewayTakesAPIKeys(t *testing.T) {
	const hash = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683" // of "key"
	text := strings.Replace(guarded, "servers:", "api_keys: [{name: ci, sha256: "+hash+", scopes: \"notes:read\"}]\nservers:", 1)
	s := startGateway(t, text, stiletest.IssuerOptions{})
	if answer := s.call(t, "key", "tools/call", "name", "list_notes", "{}"); answer.StatusCode != http.StatusOK {
		t.Errorf("status %d", answer.StatusCode)
	}
	if s.issuer.Count(stiletest.EndpointIntrospect) != 0 {
		t.Error("the issuer was shown a key that is none of its tokens")
	}
	answer := s.call(t, "key", "tools/call", "name", "delete_note", `{"permanent":true}`)
	if answer.StatusCode != http.StatusOK || answer.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("a key was challenged: %d %q", answer.StatusCode, answer.Header.Get("WWW-Authenticate"))
	}
	if answer := s.call(t, "another", "tools/call", "name", "list_notes", "{}"); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("an unknown key: status %d", answer.StatusCode)
	}
}

// The audit goes where the file says, with mode 0600, and what cannot be opened
// keeps the gateway from starting.
func TestAuditFile(t *testing.T) {
	dir := t.TempDir()
	f := &File{Audit: "audit.log", source: &source{name: filepath.Join(dir, "stile.yaml")}}
	for range 2 {
		w, c, err := f.openAudit(io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(w, "line")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "audit.log")
	data, err := os.ReadFile(name)
	if err != nil || string(data) != "line\nline\n" {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	f.Audit = "absent/audit.log"
	if _, _, err := f.openAudit(io.Discard, io.Discard); err == nil || !strings.HasPrefix(err.Error(), "audit: ") {
		t.Errorf("error %v", err)
	}
}
