package stile_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

const (
	publicURL = "https://mcp.example.com"
	resource  = publicURL + "/mcp"
)

// notesPolicy is what the transcripts in testdata/flow are judged by.
const notesPolicy = `
baseline: notes:read
implies:
  notes:admin: [notes:write]
  notes:write: [notes:read]
rules:
  - tools: [list_notes, "get_*"]
    scopes: notes:read
  - tools: [create_note, delete_note]
    scopes: notes:write
  - tools: [delete_note]
    when: args.permanent == true
    scopes: notes:admin
  - tools: [export_notes]
    scopes: ["notes:read tags:read", "notes:admin", "notes:read tags:write"]
  - resources: ["note://index"]
    scopes: notes:index
  - resources: ["note://{id}"]
    scopes: "notes:item:{id}"
  - prompts: [summarise]
    scopes: notes:prompts
  - tools: [drop_everything]
    deny: "not offered through this gateway"
`

// anonymousPolicy adds a tool for everyone.
const anonymousPolicy = notesPolicy + `
  - tools: [ping]
    anonymous: true
`

// upstreamCall is what the scripted upstreams answer to.
const upstreamCall = `{"jsonrpc":"2.0","id":"x",`

// scripts are the upstreams of the transcripts about an upstream's own refusals.
var scripts = map[string]http.HandlerFunc{
	"translate-403": stiletest.AnswerChallenge(http.StatusForbidden, "forbidden",
		`Basic realm="x"`, `Bearer error="insufficient_scope", scope="notes:write", resource_metadata="https://upstream.example/meta"`),
	"translate-mcp-proxy": stiletest.AnswerChallenge(http.StatusForbidden, "{}",
		`Bearer, error="insufficient_scope", scope="notes:write", resource_metadata="https://upstream.example/meta"`),
	"translate-error": stiletest.AnswerJSON(http.StatusOK, upstreamCall+
		`"error":{"code":-32001,"message":"no","data":{"error":"insufficient_scope","required_scopes":["notes:write"]}}}`),
	"translate-error-camel": stiletest.AnswerSSE("id: 1\ndata:\n\n", "event: message\ndata: "+upstreamCall+
		`"error":{"code":-32001,"message":"no","data":{"error":"insufficient_scope","requiredScopes":["notes:write"]}}}`+"\n\n"),
	"translate-result": stiletest.AnswerJSON(http.StatusOK, upstreamCall+
		`"result":{"content":[],"isError":true,"_meta":{"mcp/www_authenticate":["Bearer error=\"insufficient_scope\", scope=\"notes:write\""]}}}`),
	"translate-late": stiletest.AnswerSSE(
		`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`+"\n\n",
		"data: "+upstreamCall+`"error":{"code":-32001,"message":"no","data":{"error":"insufficient_scope","required_scopes":["notes:write"]}}}`+"\n\n"),
	"upstream-401":       stiletest.AnswerChallenge(http.StatusUnauthorized, "who are you", `Bearer error="invalid_token"`),
	"upstream-403-plain": stiletest.AnswerChallenge(http.StatusForbidden, "forbidden"),
	"upstream-redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
	},
}

// TestFlows plays every transcript against a gateway in front of a real server,
// or of a scripted one where an upstream's own refusal is the subject.
func TestFlows(t *testing.T) {
	files, err := filepath.Glob("testdata/flow/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	used := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		used[name] = true
		t.Run(name, func(t *testing.T) {
			policy := notesPolicy
			if name == "anonymous" {
				policy = anonymousPolicy
			}
			f := newFixture(t, policy, scripts[name])
			stiletest.RunFlow(t, file, stiletest.FlowEnv{
				Handler: f.gateway, Issuer: f.issuer, Upstream: f.upstream, Audience: resource,
			})
			f.checkUpstream(t)
		})
	}
	for name := range scripts {
		if !used[name] {
			t.Errorf("script %s has no transcript", name)
		}
	}
}

// upstream is a Notes or a Scripted.
type upstream interface {
	http.Handler
	Recorded() []stiletest.RecordedRequest
	Saw(header string) bool
}

// fixture is a gateway with a real issuer and a real upstream on loopback.
type fixture struct {
	gateway  *stile.Gateway
	issuer   *stiletest.Issuer
	upstream upstream
	notes    *stiletest.Notes // nil with a script
	audit    *bytes.Buffer
	log      *bytes.Buffer
	config   stile.Config
}

func newFixture(t *testing.T, policyYAML string, script http.HandlerFunc, change ...func(*stile.Config)) *fixture {
	t.Helper()
	f := &fixture{issuer: stiletest.NewIssuerServer(t, stiletest.IssuerOptions{}), audit: &bytes.Buffer{}, log: &bytes.Buffer{}}
	if script != nil {
		f.upstream = stiletest.NewScripted(script)
	} else {
		f.notes = stiletest.NewNotes(stiletest.NotesOptions{JSON: true})
		f.upstream = f.notes
		t.Cleanup(func() { _ = f.notes.Close() })
	}
	server := httptest.NewServer(f.upstream)
	t.Cleanup(server.Close)
	proxy, err := forward.NewHTTP(forward.HTTPConfig{URL: server.URL + "/mcp"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	f.config = stile.Config{
		PublicURL:      publicURL,
		AllowedOrigins: []string{"https://app.example.com"},
		AllowedHosts:   []string{"127.0.0.1"},
		Servers: []stile.Server{{Name: "notes", Path: "/mcp", Upstream: proxy, Policy: compile(t, policyYAML),
			Verifiers: []authenticate.Verifier{verifier(t, f.issuer)}, Issuers: []*authenticate.Profile{{Issuer: f.issuer.URL()}}}},
		Audit: f.audit,
		Log:   slog.New(slog.NewTextHandler(f.log, nil)),
	}
	for _, c := range change {
		c(&f.config)
	}
	f.gateway, err = stile.New(f.config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// compile compiles a policy as it stands in a file.
func compile(t testing.TB, policyYAML string) *authorize.Policy {
	t.Helper()
	var config authorize.Config
	if err := yaml.UnmarshalWithOptions([]byte(policyYAML), &config, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
		t.Fatal(err)
	}
	policy, err := authorize.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// verifier checks the issuer's JWTs for our resource.
func verifier(t testing.TB, issuer *stiletest.Issuer) authenticate.Verifier {
	t.Helper()
	keys, err := authenticate.NewKeySet(authenticate.KeySetConfig{Issuer: issuer.URL()})
	if err != nil {
		t.Fatal(err)
	}
	jwt, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuer.URL(), Audiences: []string{resource}, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return jwt
}

// checkUpstream wants that nothing of the caller's ever went upstream, and that
// no token stands in the audit record or the log.
func (f *fixture) checkUpstream(t *testing.T) {
	t.Helper()
	for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "Proxy-Authorization", "Origin"} {
		if f.upstream.Saw(name) {
			t.Errorf("%s went upstream", name)
		}
	}
	for what, text := range map[string]string{"audit": f.audit.String(), "log": f.log.String()} {
		if strings.Contains(text, "eyJ") {
			t.Errorf("the %s has a token in it:\n%s", what, text)
		}
	}
}
