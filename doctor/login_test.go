package doctor_test

import (
	"context"
	"encoding/base64"
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

	"github.com/stile-mcp/stile/doctor"
	"github.com/stile-mcp/stile/stepup"
	"github.com/stile-mcp/stile/stiletest"
)

// person opens what is to be opened as a browser would that is signed in.
type person struct {
	mu    sync.Mutex
	asked []stepup.Request
	told  []error
}

func (p *person) Begin(_ context.Context, preferred string) (stepup.Visit, error) {
	if preferred == "" {
		preferred = "http://127.0.0.1:49152/callback"
	}
	return &visit{p, preferred}, nil
}

func (p *person) requests() []stepup.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

type visit struct {
	p        *person
	redirect string
}

func (v *visit) RedirectURI() string { return v.redirect }
func (v *visit) Close() error        { return nil }

func (v *visit) Told(err error) {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	v.p.told = append(v.p.told, err)
}

func (v *visit) Authorize(ctx context.Context, r stepup.Request) (url.Values, error) {
	v.p.mu.Lock()
	v.p.asked = append(v.p.asked, r)
	v.p.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		b, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("no redirect but %d %s", resp.StatusCode, b)
	}
	return to.Query(), nil
}

// What issuers consent to.
func refuseAll(code string) func(stiletest.ConsentRequest) ([]string, error) {
	return func(stiletest.ConsentRequest) ([]string, error) { return nil, &stiletest.OAuthError{Code: code} }
}

func consentTo(scopes ...string) func(stiletest.ConsentRequest) ([]string, error) {
	return func(stiletest.ConsentRequest) ([]string, error) { return scopes, nil }
}

func refuseWriting(r stiletest.ConsentRequest) ([]string, error) {
	if slices.Contains(r.Scopes, "notes:write") {
		return nil, errors.New("not that")
	}
	return r.Scopes, nil
}

func consentToLast(r stiletest.ConsentRequest) ([]string, error) {
	return r.Scopes[len(r.Scopes)-1:], nil
}

func login(p *patient) { p.person = new(person) }

// spoiledLogins are servers and issuers that let no login come to an end.
var spoiledLogins = map[string]func(p *patient){
	"login-failed":           login,
	"login-scope-refused":    login,
	"login-resource-refused": login,
	"login-less":             login,
	"login-iss-unadvertised": login,
	"login-insufficient": func(p *patient) {
		p.token = p.issuer.Token(stiletest.Claims{Scope: "other", Audience: []string{p.url}})
	},
	"step-up-login-failed": login,
	"step-up-failed":       login,
	"step-up-lost": func(p *patient) {
		login(p)
		p.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(scopeOf(r), "notes:write") { // good enough for this server
				r.Header.Set("Authorization", "Bearer "+p.issuer.Token(stiletest.Claims{Scope: "notes:read notes:write", Audience: []string{p.url}}))
			}
			return false
		}
	},
	"step-up-session-lost": func(p *patient) {
		login(p)
		p.before = refuse(func(r *http.Request) bool {
			return strings.Contains(scopeOf(r), "notes:write") && r.Header.Get("Mcp-Session-Id") != "" && strings.Contains(peekSmall(r), "tools/call")
		}, http.StatusNotFound)
	},
	"refresh-trap": login,
}

// scopeOf is the scope of the token that came with a request.
func scopeOf(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		return ""
	}
	body, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct{ Scope string }
	_ = json.Unmarshal(body, &c)
	return c.Scope
}

// With a login the doctor goes the whole way, and keeps what it got to itself.
func TestLoginAndStepUp(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{Scopes: []string{"notes:read", "notes:write"}})
	p.person = new(person)
	r := p.examine(t)
	for _, f := range r.Findings {
		if f.Severity > doctor.Note {
			t.Errorf("%s: %s", f.ID, f.Seen)
		}
	}
	want := &doctor.StepUpSeen{Operation: "tools/call delete_note", Asked: []string{"notes:read", "notes:write"},
		Granted: []string{"notes:read", "notes:write"}, Outcome: "succeeded"}
	got := *r.StepUp
	got.Challenge = ""
	if fmt.Sprint(got) != fmt.Sprint(*want) {
		t.Errorf("step-up %+v, want %+v", got, *want)
	}
	if r.Login == nil || fmt.Sprint(r.Login.Asked, r.Login.Granted, r.Login.Refresh) != "[notes:read] [notes:read] false" || !strings.HasPrefix(r.Token, "JWT for "+p.url) {
		t.Errorf("login %+v, token %q", r.Login, r.Token)
	}
	for _, v := range r.Clients {
		want := "yes"
		if v.Class == "N" && !strings.Contains(v.Who, "Codex") {
			want = "no"
		}
		if v.Finish != want {
			t.Errorf("%s (%s): %s, %s", v.Class, v.Who, v.Finish, v.Why)
		}
	}
	if asked := p.person.requests(); len(asked) != 2 || len(p.person.told) != 2 || p.person.told[1] != nil {
		t.Errorf("%d logins, told %v", len(asked), p.person.told)
	}
	data, err := json.Marshal(r)
	if err != nil || strings.Contains(string(data), "eyJ") {
		t.Errorf("a token is in the report: %v %s", err, data)
	}
	var again doctor.Report
	if err := json.Unmarshal(data, &again); err != nil || fmt.Sprint(again.Findings) != fmt.Sprint(r.Findings) {
		t.Errorf("the JSON cannot be read back: %v", err)
	}
}

// Without an operation no step-up is tried, and the report says how to.
func TestLoginWithoutCall(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{Opaque: true})
	p.person = new(person)
	p.options = func(_ *testing.T, o doctor.Options) doctor.Options { o.Call = nil; return o }
	p.before = answerJSON(func(r *http.Request) bool {
		h := r.Header.Get("Authorization")
		return strings.HasPrefix(h, "Bearer ") && !strings.Contains(h, "stile-doctor")
	}, result)
	r := p.examine(t)
	if len(p.person.requests()) != 1 || len(r.NotTried) != 1 || !strings.Contains(r.NotTried[0], "--call") {
		t.Errorf("%d logins, not tried: %q", len(p.person.requests()), r.NotTried)
	}
	if !strings.HasPrefix(r.Token, "opaque") {
		t.Errorf("token: %s", r.Token)
	}
}

// A server of 2026-07-28 only has no sessions; the step-up is tried without one.
func TestModernServer(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	login(p)
	p.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" || r.Header.Get("Mcp-Method") != "" {
			return false
		}
		http.Error(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"only 2026-07-28"}}`, http.StatusBadRequest)
		return true
	}
	r := p.examine(t)
	if r.StepUp == nil || r.StepUp.Outcome != "succeeded" {
		t.Errorf("step-up %+v, findings %v", r.StepUp, ids(r))
	}
}

// What initialize needs and the 401 does not say is found by the first login alone.
func TestFirstLoginIsNotEnough(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	login(p)
	p.options = func(_ *testing.T, o doctor.Options) doctor.Options { o.Call = nil; return o }
	p.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" || strings.Contains(scopeOf(r), "notes:write") || strings.Contains(r.Header.Get("Authorization"), "stile-doctor") {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="notes:read notes:write"`)
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	r := p.examine(t)
	contains(t, r, "login-insufficient")
	if n := len(p.person.requests()); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	for _, v := range r.Clients {
		if v.Class == "U" && v.Finish != "yes" {
			t.Errorf("%+v: the challenge can be followed", v)
		}
	}
}

// Who breaks off is not told what was found since.
func TestBrokenOff(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Mcp-Method") == "server/discover" {
			cancel()
		}
		return false
	}
	r, err := doctor.Examine(ctx, doctor.Options{URL: p.url, Token: p.token})
	if !errors.Is(err, context.Canceled) || len(r.Findings) > 0 {
		t.Errorf("%v, %v", err, ids(r))
	}
}

// A login needs somebody, and no token beside it.
func TestLoginOptions(t *testing.T) {
	for _, o := range []doctor.Options{{Login: &doctor.Login{}}, {Login: &doctor.Login{Person: new(person)}, Token: "x"}} {
		o.URL = "http://127.0.0.1:1/mcp"
		if _, err := doctor.Examine(t.Context(), o); err == nil || !strings.Contains(err.Error(), "login") {
			t.Errorf("%v", err)
		}
	}
}

// A refreshed token may be refused with a status or, as Stile does for one of a later
// second, inside the answer. The refresh was in vain either way.
func TestRefreshThatIsRefusedInside(t *testing.T) {
	p := newPatient(t, stiletest.IssuerOptions{RefreshTokens: true, Scopes: []string{"notes:read", "notes:write"}})
	login(p)
	refused := 0
	p.after = func(_ *http.Request, a *httptest.ResponseRecorder) {
		if !strings.Contains(a.Header().Get("WWW-Authenticate"), "insufficient_scope") {
			return
		}
		if refused++; refused > 2 { // after the two that the doctor compares
			a.Code = http.StatusOK
			a.Header().Del("WWW-Authenticate")
			a.Header().Del("Content-Length")
			a.Body.Reset()
			a.Body.WriteString(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"delete_note needs notes:write"}],"isError":true}}`)
		}
	}
	if r := p.examine(t); !r.Has("refresh-trap") || refused < 3 {
		t.Errorf("after %d refusals found %v", refused, r.Findings)
	}
}
