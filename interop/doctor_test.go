package interop_test

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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/doctor"
	"github.com/stile-mcp/stile/stiletest"
)

// doctorIssuer is how oidc-provider runs beside the servers that the doctor looks at:
// it lists the scopes, and takes clients as MCP wants it.
var doctorIssuer = []string{"SCOPES=notes:read notes:write", "CEILING=1", "CIMD=1"}

// deleteNote is the operation that the first login may not do.
var deleteNote = &doctor.Call{Method: "tools/call", Target: "delete_note", Args: json.RawMessage(`{"id":"1"}`)}

// TestDoctor keeps the reports on five real servers, and the one on Stile twice. The
// wording is looked at by people: regenerate with -update, and read what changed.
func TestDoctor(t *testing.T) {
	t.Run("stile-embedded", func(t *testing.T) { keepReport(t, "stile-embedded", doctorOnEmbedded(t)) })
	t.Run("stile-oidc-provider", func(t *testing.T) { keepReport(t, "stile-oidc-provider", doctorOnStile(t)) })
	t.Run("typescript", func(t *testing.T) {
		as := startIssuer(t, doctorIssuer...)
		r := examine(t, startDoctored(t, "doctor/typescript.mjs", as), visit, deleteNote)
		keepReport(t, "typescript", r)
	})
	t.Run("mcp-proxy", func(t *testing.T) {
		as := startIssuer(t, doctorIssuer...)
		r := examine(t, startDoctored(t, "doctor/mcp-proxy.mjs", as), visit, deleteNote)
		mustFind(t, r, "challenge-comma", "Bearer, error=")
		keepReport(t, "mcp-proxy", r)
		keepForms(t, "mcp-proxy", r)
	})
	t.Run("go-sdk", func(t *testing.T) {
		as := startIssuer(t, doctorIssuer...)
		r := examine(t, startGoGuarded(t, as), visit, deleteNote)
		mustFind(t, r, "step-up-no-error", `scope="notes:read notes:write"`)
		keepReport(t, "go-sdk", r)
	})
	t.Run("epicme", func(t *testing.T) {
		as := startIssuer(t, "OPAQUE=1", "CEILING=1", "CIMD=1", "SCOPES="+strings.Join(epicScopes, " "), "DENY="+strings.Join(epicScopes, " "))
		r := examine(t, startEpic(t, as), visit, &doctor.Call{Method: "tools/call", Target: "list_notes"})
		for _, id := range []string{"step-up-no-scope", "step-up-no-metadata"} {
			mustFind(t, r, id, `error="insufficient_scope"`)
		}
		keepReport(t, "epicme", r)
	})
}

// examine has the doctor log in and step up, with somebody at a browser.
func examine(t *testing.T, endpoint string, browser visiting, call *doctor.Call) doctor.Report {
	t.Helper()
	r, err := doctor.Examine(t.Context(), doctor.Options{URL: endpoint, Call: call, Login: &doctor.Login{Person: opener{browser}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustFind(t *testing.T, r doctor.Report, id, seen string) {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.ID == id })
	if i < 0 || !strings.Contains(r.Findings[i].Seen, seen) {
		t.Errorf("%s with %q was not found, but %+v", id, seen, r.Findings)
	}
}

// mustBeWell wants nothing to be found, and the step-up to have succeeded.
func mustBeWell(t *testing.T, r doctor.Report) {
	t.Helper()
	if len(r.Findings) > 0 || r.StepUp == nil || r.StepUp.Outcome != "succeeded" {
		t.Errorf("findings %+v, step-up %+v", r.Findings, r.StepUp)
	}
}

var anyPort = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// normal is a report with the ports that differ from run to run replaced, in the order
// in which they stand.
func normal(t *testing.T, r doctor.Report) doctor.Report {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	data = anyPort.ReplaceAllFunc(data, func(b []byte) []byte {
		if !slices.Contains(ports, string(b)) {
			ports = append(ports, string(b))
		}
		return fmt.Appendf(nil, "127.0.0.1:%d0000", 1+slices.Index(ports, string(b)))
	})
	var same doctor.Report
	if err := json.Unmarshal(data, &same); err != nil {
		t.Fatal(err)
	}
	return same
}

// keepReport holds the text of a report against its golden file.
func keepReport(t *testing.T, name string, r doctor.Report) {
	t.Helper()
	var text bytes.Buffer
	if err := normal(t, r).WriteText(&text, false); err != nil {
		t.Fatal(err)
	}
	keep(t, name+".txt", text.Bytes())
}

// keepForms keeps the other forms of a report.
func keepForms(t *testing.T, name string, r doctor.Report) {
	t.Helper()
	var md, encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := errors.Join(normal(t, r).WriteMarkdown(&md), encoder.Encode(normal(t, r))); err != nil {
		t.Fatal(err)
	}
	keep(t, name+".md", md.Bytes())
	keep(t, name+".json", encoded.Bytes())
}

func keep(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "doctor", name)
	if stiletest.Update() {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is another report than it was. It is now:\n%s", file, got)
	}
}

// doctorOnEmbedded looks at Stile with no other authorization server than its own.
func doctorOnEmbedded(t *testing.T) doctor.Report {
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, policy: doctorPolicy, options: doctorOrigins})
	a := &allower{reader: newReader(t)}
	a.reader.makeAccount(g.program.line("/authserver/setup?token="))
	r := examine(t, g.endpoint, a.visit, deleteNote)
	mustBeWell(t, r)
	return r
}

// doctorPolicy lets list_notes with the first login, and delete_note after a step-up.
const doctorPolicy = `
baseline: notes:read
rules:
  - tools: [list_notes]
    scopes: notes:read
  - tools: [delete_note]
    scopes: notes:write
`

// doctorOrigins lets the page in that the doctor asks as.
const doctorOrigins = `allowed_origins: ["https://inspector.example.com"]`

// doctorOnStile looks at Stile in front of oidc-provider with the program itself, as
// somebody does it without a browser on that machine: the printed address is opened
// elsewhere, and the answer comes to the port it names.
func doctorOnStile(t *testing.T) doctor.Report {
	as := startIssuer(t, doctorIssuer...)
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, issuer: as.url, policy: doctorPolicy, options: doctorOrigins})
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, stileBinary(t), "doctor", "--json", "--login", "--no-browser", "--call", "delete_note", "--args", `{"id":"1"}`, g.endpoint)
	cmd.WaitDelay = stopLimit
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &follower{t: t, issuer: as.url}
	if err := cmd.Run(); err != nil {
		t.Fatalf("stile doctor: %v\n%s\n%s", err, &out, cmd.Stderr.(*follower).said)
	}
	var r doctor.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	mustBeWell(t, r)
	return r
}

// follower opens each address of the issuer that a program prints, in a browser that
// follows to the end, which is the program's own port.
type follower struct {
	t      *testing.T
	issuer string
	said   string
	rest   string
	opened []string
}

func (f *follower) Write(p []byte) (int, error) {
	f.said += string(p)
	f.rest += string(p)
	for {
		line, rest, whole := strings.Cut(f.rest, "\n")
		if !whole {
			return len(p), nil
		}
		f.rest = rest
		at := strings.Index(line, f.issuer+"/auth?")
		if at < 0 {
			continue
		}
		if address := strings.Fields(line[at:])[0]; !slices.Contains(f.opened, address) {
			f.opened = append(f.opened, address)
			go f.follow(address)
		}
	}
}

func (f *follower) follow(address string) {
	r := newReader(f.t)
	response, err := r.client.Get(address)
	if err != nil {
		f.t.Error(err)
		return
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		f.t.Errorf("%s: %s", response.Status, body)
	}
}

// startDoctored runs one of the servers of doctor/ and answers its endpoint.
func startDoctored(t *testing.T, script string, as *issuer) string {
	t.Helper()
	p := start(t, []string{"ISSUER=" + as.url}, node(t), script)
	var ready struct{ URL string }
	if err := json.Unmarshal([]byte(p.line("url")), &ready); err != nil {
		t.Fatal(err)
	}
	return ready.URL
}

// startGoGuarded runs a server of the go-sdk behind its own gate: one for everything,
// and one with more scopes for delete_note.
func startGoGuarded(t *testing.T, as *issuer) string {
	t.Helper()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	endpoint := server.URL + "/mcp"
	tokens, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: as.url, Audiences: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		who, err := tokens.Verify(ctx, token)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", auth.ErrInvalidToken, err)
		}
		return &auth.TokenInfo{Scopes: who.Scopes, Expiration: who.Expiry, UserID: who.Subject}, nil
	}
	notes := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1"}, nil)
	for _, name := range []string{"list_notes", "delete_note"} {
		mcp.AddTool(notes, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
		})
	}
	gate := func(next http.Handler, scopes ...string) http.Handler {
		return auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{
			ResourceMetadataURL: server.URL + "/.well-known/oauth-protected-resource/mcp", Scopes: scopes})(next)
	}
	streamable := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return notes }, nil)
	deleting := gate(streamable, "notes:read", "notes:write")
	mux := http.NewServeMux()
	mux.Handle("/.well-known/oauth-protected-resource/mcp", auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource: endpoint, AuthorizationServers: []string{as.url}, ScopesSupported: []string{"notes:read"}}))
	mux.Handle("/mcp", gate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte(`"delete_note"`)) {
			deleting.ServeHTTP(w, r)
			return
		}
		streamable.ServeHTTP(w, r)
	}), "notes:read"))
	handler = mux
	return endpoint
}

// epicScopes are those of the workshop, and epicCombinations one way to be let in
// each.
var (
	epicScopes       = []string{"user:read", "entries:read", "entries:write", "tags:read", "tags:write"}
	epicCombinations = [][]string{{"user:read"}, {"entries:read"}, {"entries:read", "entries:write"}, {"tags:read"}, {"tags:read", "tags:write"}}
)

// startEpic is a server that answers as the EpicMe workshop's does in its last step:
// one gate for the whole server, a 401 whose metadata is not quoted, and a 403 that
// names the combinations in its description and nowhere else. It was written from what
// is known of the answers; no code of the workshop's is in it. Tokens are asked about
// at oidc-provider, which wants to know who asks.
func startEpic(t *testing.T, as *issuer) string {
	t.Helper()
	notes := stiletest.NewNotes(stiletest.NotesOptions{})
	t.Cleanup(func() { _ = notes.Close() })
	e := &epic{as: as, mcp: notes}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.origin = server.URL
	return server.URL + "/mcp"
}

type epic struct {
	origin string
	as     *issuer
	mcp    http.Handler
}

func (e *epic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/.well-known") {
		e.serveMetadata(w, r)
		return
	}
	if r.URL.Path != "/mcp" {
		http.NotFound(w, r)
		return
	}
	metadata := "resource_metadata=" + e.origin + "/.well-known/oauth-protected-resource/mcp"
	header := r.Header.Get("Authorization")
	if header == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="EpicMe", `+metadata)
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	scopes, active := e.introspect(strings.TrimPrefix(header, "Bearer "))
	if !active {
		w.Header().Set("WWW-Authenticate", `Bearer realm="EpicMe", error="invalid_token", error_description="The access token is invalid or expired", `+metadata)
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	var names []string
	for _, combination := range epicCombinations {
		names = append(names, strings.Join(combination, " "))
		if !slices.ContainsFunc(combination, func(s string) bool { return !slices.Contains(scopes, s) }) {
			e.mcp.ServeHTTP(w, r)
			return
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="EpicMe", error="insufficient_scope", error_description="Any of the following combinations of scopes is valid: `+strings.Join(names, ", ")+`"`)
	http.Error(w, "Forbidden", http.StatusForbidden)
}

func (e *epic) serveMetadata(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
	w.Header().Set("Access-Control-Allow-Headers", "mcp-protocol-version")
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == "/.well-known/oauth-protected-resource/mcp":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"resource": e.origin + "/mcp", "authorization_servers": []string{e.as.url}, "scopes_supported": epicScopes})
	default:
		http.NotFound(w, r)
	}
}

// introspect asks for a token's scopes (RFC 7662).
func (e *epic) introspect(token string) (scopes []string, active bool) {
	r, err := http.NewRequest(http.MethodPost, e.as.url+"/token/introspection", strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		return nil, false
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("stile", "interop-secret")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, false
	}
	defer response.Body.Close()
	var told struct {
		Active bool
		Scope  string
	}
	if json.NewDecoder(response.Body).Decode(&told) != nil || !told.Active {
		return nil, false
	}
	return strings.Fields(told.Scope), true
}
