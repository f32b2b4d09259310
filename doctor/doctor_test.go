package doctor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/doctor"
	"github.com/stile-mcp/stile/stiletest"
)

// patient is a server that is well, and what a test spoils of it.
type patient struct {
	url    string // of the endpoint
	origin string
	issuer *stiletest.Issuer
	token  string  // of a first login: notes:read
	person *person // logs in instead, where it is set

	// before may answer in the server's place; after sees and changes its answer.
	before func(w http.ResponseWriter, r *http.Request) bool
	after  func(r *http.Request, a *httptest.ResponseRecorder)
	// options, where it is set, changes how it is looked at.
	options func(t *testing.T, o doctor.Options) doctor.Options
}

// newPatient puts a real gateway in front of the notes server, with an issuer.
func newPatient(t *testing.T, o stiletest.IssuerOptions) *patient {
	t.Helper()
	p := &patient{issuer: stiletest.NewIssuerServer(t, o)}
	notes := stiletest.NewNotes(stiletest.NotesOptions{})
	t.Cleanup(func() { notes.Close() })
	var gateway http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.before != nil && p.before(w, r) {
			return
		}
		if p.after == nil || r.Method == http.MethodGet && r.URL.Path == "/mcp" && r.Header.Get("Authorization") != "" {
			gateway.ServeHTTP(w, r)
			return
		}
		a := httptest.NewRecorder()
		gateway.ServeHTTP(a, r)
		p.after(r, a)
		maps.Copy(w.Header(), a.Header())
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes())
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // those that were sent too much linger
		server.Close()
	})
	p.origin, p.url = server.URL, server.URL+"/mcp"
	gateway = newGateway(t, server.URL, p.issuer, notes)
	p.token = p.issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{p.url}})
	return p
}

func newGateway(t *testing.T, public string, issuer *stiletest.Issuer, upstream http.Handler) http.Handler {
	t.Helper()
	policy, err := authorize.New(authorize.Config{
		Baseline: "notes:read",
		Rules: []authorize.Rule{
			{Tools: []string{"list_notes"}, Scopes: []string{"notes:read"}},
			{Tools: []string{"delete_note"}, Scopes: []string{"notes:write"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuer.URL(), Audiences: []string{public + "/mcp"}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := stile.New(stile.Config{
		PublicURL: public, AllowedOrigins: []string{"https://inspector.example.com"}, Audit: &bytes.Buffer{},
		Servers: []stile.Server{{Name: "notes", Path: "/mcp", Upstream: upstream, Policy: policy,
			Verifiers: []authenticate.Verifier{tokens}, Issuers: []*authenticate.Profile{tokens.Profile()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (p *patient) examine(t *testing.T) doctor.Report {
	t.Helper()
	o := doctor.Options{URL: p.url, Token: p.token,
		Call: &doctor.Call{Method: "tools/call", Target: "delete_note", Args: json.RawMessage(`{"id":"1"}`)}}
	if p.person != nil {
		o.Token, o.Login = "", &doctor.Login{Person: p.person}
	}
	if p.options != nil {
		o = p.options(t, o)
	}
	r, err := doctor.Examine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ids(r doctor.Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.ID)
	}
	return out
}

func TestStileIsWell(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	r := p.examine(t)
	// What is left is of the issuer of these tests.
	if got := ids(r); !slices.Equal(got, []string{"issuer-no-cimd", "issuer-no-cors"}) {
		t.Errorf("found %v", got)
	}
	for _, v := range r.Clients {
		want := map[string]string{"U": "yes", "O": "yes", "R": "perhaps", "N": "no"}[v.Class]
		if strings.Contains(v.Who, "Codex") {
			want = "perhaps" // the issuer lists no scopes
		}
		if v.Finish != want {
			t.Errorf("class %s: %s (%s), want %s", v.Class, v.Finish, v.Why, want)
		}
	}
}

// The report is read in a terminal, in scripts and in issues.
func TestReportIsWritten(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	hostile := metadata(`"resource":"`, `"resource":"\u001b[2J|\u202e`+"`")
	hostile(p)
	spoilMetadata := p.after
	comma := rewrite(401, "WWW-Authenticate", replace("Bearer ", "Bearer, "))
	p.after = func(r *http.Request, a *httptest.ResponseRecorder) {
		spoilMetadata(r, a)
		comma(r, a)
	}
	r := p.examine(t)
	var text, md bytes.Buffer
	if err := errors.Join(r.WriteText(&text, false), r.WriteMarkdown(&md)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"error   a comma after Bearer", "challenge-comma", "go-sdk", "RFC 9110 section 11.6.1", "Could they finish?", "errors"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	if strings.ContainsRune(text.String(), '\x1b') {
		t.Error("the server's text reaches the terminal's controls")
	}
	for line := range strings.Lines(md.String()) {
		if strings.HasPrefix(line, "| error") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 7 {
			t.Errorf("a row of the table has not six cells: %s", line)
		}
	}
	encoded, err := json.Marshal(r)
	if err != nil || !bytes.Contains(encoded, []byte(`"severity":"error"`)) {
		t.Errorf("%s %v", encoded, err)
	}
	if strings.Contains(text.String()+md.String()+string(encoded), p.token) {
		t.Error("the token is in the report")
	}
}

// fits wants the report to fill no more than the columns of a terminal; lines to be
// copied are as long as they are.
func fits(t *testing.T, r doctor.Report) {
	t.Helper()
	var text bytes.Buffer
	if err := r.WriteText(&text, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > doctor.Width && !strings.HasPrefix(line, "    ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestNothingToExamine(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, url := range []string{"", "ftp://example.com", "http://example.com/mcp", gone.URL + "/mcp"} {
		if _, err := doctor.Examine(t.Context(), doctor.Options{URL: url}); err == nil {
			t.Errorf("%q: no error", url)
		}
	}
}

// Without Call nothing is sent that could change anything.
func TestOnlyHarmlessMessagesAreSent(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	harmless := []string{"initialize", "notifications/initialized", "server/discover", "ping", "tools/list", "stile-doctor/nothing"}
	var mu sync.Mutex
	sent := map[string]int{}
	p.before = func(_ http.ResponseWriter, r *http.Request) bool {
		var m struct {
			Method string
			Params struct{ Name string }
		}
		if r.Method != http.MethodPost || r.ContentLength > 1<<20 || json.Unmarshal([]byte(peek(r)), &m) != nil {
			return false
		}
		mu.Lock()
		sent[m.Method]++
		mu.Unlock()
		if !slices.Contains(harmless, m.Method) && m.Params.Name != "stile-doctor-nothing" {
			t.Errorf("sent %s", m.Method)
		}
		return false
	}
	r, err := doctor.Examine(t.Context(), doctor.Options{URL: p.url, Token: p.token})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.NotTried, func(s string) bool { return strings.Contains(s, "--call") }) {
		t.Errorf("does not say how to try a step-up: %v", r.NotTried)
	}
	for _, m := range append(harmless, "prompts/get") {
		if sent[m] == 0 {
			t.Errorf("%s was not sent: the test sees nothing", m)
		}
	}
}

// rewrite changes a header of the answers with a status.
func rewrite(status int, name string, f func(old string) []string) func(*http.Request, *httptest.ResponseRecorder) {
	return func(_ *http.Request, a *httptest.ResponseRecorder) {
		if a.Code != status || a.Header().Get(name) == "" {
			return
		}
		values := f(a.Header().Get(name))
		a.Header().Del(name)
		for _, v := range values {
			a.Header().Add(name, v)
		}
	}
}

func replace(old, with string) func(string) []string {
	return func(s string) []string { return []string{strings.Replace(s, old, with, 1)} }
}

func contains(t *testing.T, r doctor.Report, id string) doctor.Finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.ID == id })
	if i < 0 {
		t.Fatalf("%s was not found, but %v", id, ids(r))
	}
	return r.Findings[i]
}

// spoiled are servers with one thing wrong, by the finding that names it.
var spoiled = map[string]func(p *patient){
	"open": func(p *patient) {
		p.before = func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Set("Authorization", "Bearer "+p.token)
			return false
		}
	},
	"first-403": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Header.Get("Authorization") == "" }, http.StatusForbidden)
	},
	"not-mcp": func(p *patient) {
		p.before = refuse(func(*http.Request) bool { return true }, http.StatusNotFound)
	},
	"probe-GET": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.Path == "/mcp" }, http.StatusMethodNotAllowed)
	},
	"probe-HEAD": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Method == http.MethodHead && r.URL.Path == "/mcp" }, http.StatusMethodNotAllowed)
	},
	"discover": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Header.Get("Mcp-Method") == "server/discover" }, http.StatusBadRequest)
	},
	"refusal-no-json-rpc": func(p *patient) {
		p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusUnauthorized {
				a.Body.Reset()
				a.Body.WriteString("Unauthorized")
			}
		}
	},

	"challenge-none":           challenge(401, func(string) []string { return nil }),
	"challenge-comma":          challenge(401, replace("Bearer ", "Bearer, ")),
	"challenge-malformed":      challenge(401, func(s string) []string { return []string{s + `, scope="twice"`} }),
	"challenge-no-bearer":      challenge(401, replace("Bearer", "Custom")),
	"challenge-several":        challenge(401, func(s string) []string { return []string{`Basic realm="x"`, s} }),
	"challenge-scheme-case":    challenge(401, replace("Bearer", "bearer")),
	"challenge-empty-value":    challenge(401, func(s string) []string { return []string{s + `, realm=""`} }),
	"challenge-comma-in-value": challenge(403, replace("Sign in", "Sorry, sign in")),
	"challenge-equals":         challenge(403, replace("Sign in", "scope=x")),
	"challenge-name-suffix":    challenge(401, func(s string) []string { return []string{s + `, required_scope="x"`} }),
	"challenge-scope-characters": challenge(401, func(s string) []string {
		return []string{strings.Replace(s, `scope="notes:read"`, `scope="notes:read ü"`, 1)}
	}),
	"challenge-offline":             challenge(401, replace(`scope="notes:read"`, `scope="notes:read offline_access"`)),
	"challenge-no-metadata":         challenge(401, replace("resource_metadata", "realm")),
	"challenge-metadata-relative":   challenge(401, replace(`resource_metadata="http://`, `resource_metadata="/`)),
	"challenge-no-scope":            challenge(401, replace(`scope="notes:read"`, `realm="x"`)),
	"challenge-error-without-token": challenge(401, replace("Bearer ", `Bearer error="invalid_token", `)),
	"challenge-unstable": func(p *patient) {
		n := 0
		challenge(403, func(s string) []string {
			n++
			return []string{s + `, id="` + strings.Repeat("x", n) + `"`}
		})(p)
	},

	"metadata-missing": func(p *patient) { p.before = refuse(isMetadata, http.StatusNotFound) },
	"metadata-told-missing": func(p *patient) {
		challenge(401, replace("/oauth-protected-resource/mcp", "/oauth-protected-resource/mpc"))(p)
	},
	"metadata-inserted-missing": func(p *patient) {
		challenge(401, replace("/.well-known/oauth-protected-resource/mcp", "/elsewhere"))(p)
		p.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/elsewhere" {
				r.URL.Path = "/.well-known/oauth-protected-resource/mcp"
				return false
			}
			return refuse(isMetadata, http.StatusNotFound)(w, r)
		}
	},
	"metadata-disagrees": func(p *patient) {
		challenge(401, replace("/.well-known/oauth-protected-resource/mcp", "/elsewhere"))(p)
		p.before = answerJSON(func(r *http.Request) bool { return r.URL.Path == "/elsewhere" },
			func() string {
				return `{"resource":"` + p.url + `/other","authorization_servers":["` + p.issuer.URL() + `"]}`
			})
	},
	"metadata-other-origin":  challenge(401, replace("http://127.0.0.1", "http://localhost")),
	"metadata-resource":      metadata(`"resource":"`, `"resource":"x`),
	"metadata-no-issuer":     metadata("authorization_servers", "authorization_servants"),
	"metadata-no-scopes":     metadata("scopes_supported", "scopes_known"),
	"metadata-scopes-differ": metadata("notes:read", "notes:write"),
	"metadata-no-cors": func(p *patient) {
		p.after = func(r *http.Request, a *httptest.ResponseRecorder) {
			if isMetadata(r) {
				a.Header().Del("Access-Control-Allow-Origin")
			}
		}
	},

	"issuer-no-url":            issuer(func(*patient) string { return "idp" }, nil),
	"issuer-unreachable":       issuer(func(p *patient) string { return p.origin + "/no-issuer" }, nil),
	"issuer-differs":           issuer(ownIssuer, map[string]any{"issuer": "https://else.example"}),
	"issuer-no-s256":           issuer(ownIssuer, map[string]any{"code_challenge_methods_supported": []string{"plain"}}),
	"issuer-no-iss":            issuer(ownIssuer, map[string]any{"authorization_response_iss_parameter_supported": false}),
	"issuer-no-registration":   issuer(ownIssuer, map[string]any{"registration_endpoint": "", "client_id_metadata_document_supported": false}),
	"issuer-no-cimd":           issuer(ownIssuer, map[string]any{"client_id_metadata_document_supported": false}),
	"issuer-no-public-clients": issuer(ownIssuer, map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_basic"}}),
	"issuer-endpoint":          issuer(ownIssuer, map[string]any{"token_endpoint": "http://idp.example.com/token"}),
	"issuer-lacks-scope":       issuer(ownIssuer, map[string]any{"scopes_supported": []string{"openid"}}),
	"issuer-appended": func(p *patient) {
		issuer(ownIssuer, nil)(p)
		serve := p.before
		p.before = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/.well-known/") && strings.HasSuffix(r.URL.Path, "/idp") {
				http.NotFound(w, r)
				return true
			}
			return serve(w, r)
		}
	},

	"preflight-401": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Method == http.MethodOptions }, http.StatusUnauthorized)
	},
	"preflight-refused": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool { return r.Method == http.MethodOptions }, http.StatusMethodNotAllowed)
	},
	"preflight-headers": func(p *patient) {
		p.after = rewrite(204, "Access-Control-Allow-Headers", func(string) []string { return []string{"content-type"} })
	},
	"cors-credentials": func(p *patient) {
		p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
			if a.Header().Get("Access-Control-Allow-Origin") != "" {
				a.Header().Set("Access-Control-Allow-Credentials", "true")
			}
		}
	},
	"cors-expose": func(p *patient) {
		p.after = rewrite(401, "Access-Control-Expose-Headers", func(string) []string { return nil })
	},
	"origin-unchecked": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Origin"); return false }
	},
	"origin-challenged": func(p *patient) {
		p.after = func(r *http.Request, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusForbidden && r.Header.Get("Origin") != "" {
				a.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
			}
		}
	},
	"host-unchecked": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			r.Host = strings.TrimPrefix(p.origin, "http://")
			return false
		}
	},

	"wrong-token-accepted": asToken(func(h string) bool { return strings.HasPrefix(h, "Bearer stile-doctor") }),
	"wrong-token-status": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool {
			return strings.HasPrefix(r.Header.Get("Authorization"), "Bearer stile-doctor")
		}, http.StatusInternalServerError)
	},
	"wrong-token-error": challenge(401, replace(`error="invalid_token"`, `error="invalid_request"`)),
	"scheme-accepted":   asToken(func(h string) bool { return strings.HasPrefix(h, "Basic") }),
	"query-token": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if t := r.URL.Query().Get("access_token"); t != "" {
				r.URL.RawQuery = ""
				r.Header.Set("Authorization", "Bearer "+t)
			}
			return false
		}
	},
	"session-before-token": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool {
			return r.Header.Get("Mcp-Session-Id") != "" && r.Header.Get("Authorization") == ""
		}, http.StatusNotFound)
	},

	"token-refused": func(p *patient) {
		p.token = p.issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{"https://else.example"}})
	},
	"token-audience": func(p *patient) {
		p.token = p.issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{"https://else.example"}})
	},
	"token-issuer": func(p *patient) {
		p.token = p.issuer.Token(stiletest.Claims{Issuer: "https://else.example", Scope: "notes:read", Audience: []string{p.url}})
	},
	"session-unknown": func(p *patient) {
		p.before = refuse(func(r *http.Request) bool {
			return strings.HasPrefix(r.Header.Get("Mcp-Session-Id"), "stile-doctor") && r.Header.Get("Authorization") != ""
		}, http.StatusBadRequest)
	},
	"header-mismatch": func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Mcp-Method") == "tools/list" && r.ContentLength > 0 && strings.Contains(peek(r), "server/discover") {
				r.Header.Set("Mcp-Method", "server/discover")
			}
			return false
		}
	},
	"header-mismatch-code": func(p *patient) {
		p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(a.Body.String(), "-32020") {
				body := strings.Replace(a.Body.String(), "-32020", "-32600", 1)
				a.Body.Reset()
				a.Body.WriteString(body)
			}
		}
	},
	"tools-no-schemes": func(p *patient) {
		p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
			body := strings.ReplaceAll(a.Body.String(), `"securitySchemes"`, `"otherSchemes"`)
			a.Body.Reset()
			a.Body.WriteString(body)
			a.Header().Del("Content-Length")
		}
	},

	"step-up-none": func(p *patient) {
		p.token = p.issuer.Token(stiletest.Claims{Scope: "notes:read notes:write", Audience: []string{p.url}})
	},
	"step-up-in-band": func(p *patient) {
		p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusForbidden {
				a.Code = http.StatusOK
			}
		}
	},
	"step-up-status": func(p *patient) {
		p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusForbidden {
				a.Code = http.StatusUnauthorized
			}
		}
	},
	"step-up-no-challenge":     challenge(403, func(string) []string { return nil }),
	"step-up-no-error":         challenge(403, replace(`error="insufficient_scope", `, "")),
	"step-up-other-error":      challenge(403, replace("insufficient_scope", "access_denied")),
	"step-up-no-scope":         challenge(403, replace(`scope="notes:read notes:write", `, "")),
	"step-up-no-metadata":      challenge(403, replace("resource_metadata", "realm")),
	"step-up-metadata-differs": challenge(403, replace("oauth-protected-resource/mcp", "oauth-protected-resource")),
	"step-up-drops-held":       challenge(403, replace("notes:read notes:write", "notes:write")),
	"step-up-401-in-body": func(p *patient) {
		p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusForbidden && a.Header().Get("WWW-Authenticate") != "" {
				a.Body.WriteString(" 401")
				a.Header().Del("Content-Length")
			}
		}
	},
}

func TestEachThingThatIsWrongIsFound(t *testing.T) {
	for _, more := range []map[string]func(*patient){spoiledMessages, spoiledLogins} {
		maps.Copy(spoiled, more)
	}
	var all []string
	for _, known := range doctor.All() {
		id := known.ID
		all = append(all, id)
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			spoil := spoiled[id]
			if spoil == nil {
				t.Fatal("no test spoils a server so that this is found")
			}
			p := newPatient(t, issuerOptions[id])
			spoil(p)
			r := p.examine(t)
			f := contains(t, r, id)
			if f.Title == "" || f.Mend == "" || f.Seen == "" || len(f.Rule) == 0 {
				t.Errorf("says too little: %+v", f)
			}
			fits(t, r)
		})
	}
	for id := range spoiled {
		if !slices.Contains(all, id) {
			t.Errorf("there is no finding %s", id)
		}
	}
}

func isMetadata(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource")
}

func refuse(when func(*http.Request) bool, status int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !when(r) {
			return false
		}
		http.Error(w, http.StatusText(status), status)
		return true
	}
}

func answerJSON(when func(*http.Request) bool, body func() string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !when(r) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body()))
		return true
	}
}

// challenge spoils WWW-Authenticate of the answers with a status.
func challenge(status int, f func(string) []string) func(*patient) {
	return func(p *patient) { p.after = rewrite(status, "WWW-Authenticate", f) }
}

// metadata spoils the protected-resource document.
func metadata(old, with string) func(*patient) {
	return func(p *patient) {
		p.after = func(r *http.Request, a *httptest.ResponseRecorder) {
			if isMetadata(r) {
				body := strings.Replace(a.Body.String(), old, with, 1)
				a.Body.Reset()
				a.Body.WriteString(body)
				a.Header().Del("Content-Length")
			}
		}
	}
}

func ownIssuer(p *patient) string { return p.origin + "/idp" }

// issuer puts another issuer into the metadata, whose document is a good one but
// for the members in spoil.
func issuer(of func(*patient) string, spoil map[string]any) func(*patient) {
	return func(p *patient) {
		id := of(p)
		p.before = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case isMetadata(r):
				return answerJSON(isMetadata, func() string {
					return `{"resource":"` + p.url + `","authorization_servers":["` + id + `"],"scopes_supported":["notes:read"]}`
				})(w, r)
			case strings.HasPrefix(r.URL.Path, "/.well-known/oauth-authorization-server/") || strings.HasSuffix(r.URL.Path, "/.well-known/oauth-authorization-server"):
				if !strings.Contains(r.URL.Path, strings.TrimPrefix(id, p.origin)) || strings.HasSuffix(id, "no-issuer") {
					return false
				}
				doc := map[string]any{"issuer": id, "authorization_endpoint": id + "/authorize", "token_endpoint": id + "/token",
					"registration_endpoint": id + "/register", "code_challenge_methods_supported": []string{"S256"},
					"authorization_response_iss_parameter_supported": true, "client_id_metadata_document_supported": true}
				maps.Copy(doc, spoil)
				b, _ := json.Marshal(doc)
				return answerJSON(func(*http.Request) bool { return true }, func() string { return string(b) })(w, r)
			}
			return false
		}
	}
}

// asToken lets credentials pass for the good token.
func asToken(when func(header string) bool) func(*patient) {
	return func(p *patient) {
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if when(r.Header.Get("Authorization")) {
				r.Header.Set("Authorization", "Bearer "+p.token)
			}
			return false
		}
	}
}

// peek reads a body and puts it back.
func peek(r *http.Request) string {
	b, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(b))
	return string(b)
}
