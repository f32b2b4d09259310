package portal_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/authserver/provider"
)

// consentPage signs ada in and returns the consent page of a request.
func consentPage(t *testing.T, s *site, request portal.Request) (*person, answer) {
	t.Helper()
	s.add("ada")
	s.Core.Ask(request)
	p := s.person()
	page := p.signIn(p.get("/authorize"), "ada", password)
	if page.status != http.StatusOK {
		t.Fatalf("%d %s", page.status, page.body)
	}
	return p, page
}

func TestRefusal(t *testing.T) {
	s := newSite(t, nil)
	p, page := consentPage(t, s, claude)
	done := p.decide(page, "deny")
	if done.leavesTo() != "https://claude.ai/callback?error=access_denied" || !strings.Contains(done.body, "You refused") || s.Core.Log().Refused != 1 || len(s.Core.Log().Allowed) != 0 {
		t.Errorf("%d %s, refused %d, allowed %v", done.status, done.leavesTo(), s.Core.Log().Refused, s.Core.Log().Allowed)
	}
}

func TestWhatIsMarkedIsGranted(t *testing.T) {
	for name, c := range map[string]struct {
		scope []string
		want  string // "-": refused
	}{
		"all":                  {[]string{"notes:write", "notes:export"}, "notes:write notes:export"},
		"less":                 {[]string{"notes:write"}, "notes:write"},
		"nothing":              {nil, "-"},
		"what nobody asked":    {[]string{"notes:write", "notes:admin"}, "notes:write"},
		"only what nobody did": {[]string{"notes:admin", "notes:write notes:export"}, "-"},
		"twice":                {[]string{"notes:write", "notes:write"}, "notes:write"},
	} {
		s := newSite(t, nil)
		p, page := consentPage(t, s, claude)
		values := page.fill(t, "/authserver/consent", "decision", "allow")
		values["scope"] = c.scope
		p.post("/authserver/consent", values)
		got := "-"
		if len(s.Core.Log().Allowed) > 0 {
			got = strings.Join(s.Core.Log().Allowed[0], " ")
		}
		if got != c.want || (c.want == "-") != (s.Core.Log().Refused == 1) {
			t.Errorf("%s: granted %s, refused %d, want %s", name, got, s.Core.Log().Refused, c.want)
		}
	}
}

func TestAnyOtherDecisionIsNone(t *testing.T) {
	s := newSite(t, nil)
	p, page := consentPage(t, s, claude)
	for _, decision := range []string{"", "ALLOW", "yes"} {
		if a := p.decide(page, decision); a.status != http.StatusForbidden || len(s.Core.Log().Allowed)+s.Core.Log().Refused != 0 {
			t.Errorf("%q: %d", decision, a.status)
		}
	}
}

func TestStepUpShowsWhatIsNew(t *testing.T) {
	s := newSite(t, nil)
	first := claude
	first.Operation, first.Scopes = "", []portal.Scope{{Name: "notes:read", Description: "Read notes", Needed: true}}
	p, page := consentPage(t, s, first)
	if strings.Contains(page.body, "You allowed before") || strings.Contains(page.body, "Needed for") {
		t.Errorf("first login:\n%s", page.body)
	}
	p.decide(page, "allow")
	more := claude
	more.Scopes = append(slices.Clone(first.Scopes), claude.Scopes...)
	s.Core.Ask(more)
	page = p.get("/authorize")
	news, before, ok := strings.Cut(page.body, "You allowed before")
	if !ok || !strings.Contains(before, "notes:read") || strings.Contains(news, "notes:read") || !strings.Contains(news, "New in this request") ||
		!strings.Contains(news, "Needed for <code>delete_note</code>") {
		t.Fatalf("step-up:\n%s", page.body)
	}
	p.decide(page, "allow")
	if got := strings.Join(s.Core.Log().Allowed[1], " "); got != "notes:read notes:write notes:export" {
		t.Errorf("granted %s", got)
	}
}

// What was granted a moment ago and revoked in another tab is not granted again by
// a form that showed it as granted.
func TestRevokedMeanwhile(t *testing.T) {
	s := newSite(t, nil)
	p, page := consentPage(t, s, claude)
	p.decide(page, "allow")
	page = p.get("/authorize")
	grants := p.get("/authserver/grants")
	p.post("/authserver/revoke", grants.fill(t, "/authserver/revoke"))
	p.decide(page, "allow")
	if len(s.Core.Log().Allowed) != 1 || s.Core.Log().Refused != 1 {
		t.Errorf("granted %v", s.Core.Log().Allowed)
	}
}

func TestScopesOfGroups(t *testing.T) {
	fake := &fakeProvider{person: people.Person{Subject: "oidc-1", Name: "ada@example.com", Scopes: []string{"notes:export"}}}
	s := newSite(t, func(c *portal.Config) { c.Accounts, c.Provider = nil, fake })
	s.Core.Ask(claude)
	p := s.person()
	page := p.throughProvider(p.get("/authorize"))
	if !strings.Contains(page.body, "Not yours to allow") || !strings.Contains(page.body, "ada@example.com") {
		t.Fatalf("%s", page.body)
	}
	values := page.fill(t, "/authserver/consent", "decision", "allow")
	values.Add("scope", "notes:write")
	p.post("/authserver/consent", values)
	if len(s.Core.Log().Allowed) != 1 || strings.Join(s.Core.Log().Allowed[0], " ") != "notes:export" {
		t.Errorf("granted %v", s.Core.Log().Allowed)
	}
	fake.person.Scopes = []string{}
	p = s.person()
	if page = p.throughProvider(p.get("/authorize")); strings.Contains(page.body, `value="allow"`) {
		t.Errorf("offers to allow what nobody may:\n%s", page.body)
	}
}

func TestWhoAsks(t *testing.T) {
	for name, c := range map[string]struct {
		client         portal.Client
		redirect       string
		shows, doesNot []string
	}{
		"vouched for": {portal.Client{Name: "Claude", Verified: "claude.ai"}, "https://claude.ai/cb", []string{"verified by claude.ai"}, []string{"not verified", "started this login yourself", "on this device"}},
		"nobody":      {portal.Client{Name: "Claude"}, "https://evil.example/cb", []string{"not verified", "evil.example", "started this login yourself"}, []string{"verified by"}},
		"loopback":    {portal.Client{Name: "Code", Verified: "vscode.dev"}, "http://127.0.0.1:33418/", []string{"a program on this device (127.0.0.1:33418)", "started this login yourself"}, nil},
		"localhost":   {portal.Client{Name: "Code"}, "http://localhost:33418/", []string{"a program on this device (localhost:33418)"}, nil},
		"a scheme":    {portal.Client{Name: "Cursor"}, "cursor://anysphere.cursor-mcp/oauth", []string{"a program on this device (cursor:)"}, nil},
		"look-alikes": {portal.Client{Name: "Claude", Verified: "сlaude.ai"}, "https://сlaude.ai/cb", []string{"verified by %D1%81laude.ai"}, []string{"сlaude"}},
		"tricks":      {portal.Client{Name: "Cl\u200baude\u202e<b>"}, "https://x.example/cb", []string{"Claude&lt;b&gt;"}, []string{"\u202e", "\u200b"}},
		"no name":     {portal.Client{}, "https://x.example/cb", []string{"A program without a name"}, nil},
		"long":        {portal.Client{Name: strings.Repeat("x", 5000)}, "https://x.example/cb", []string{strings.Repeat("x", 80) + "…"}, []string{strings.Repeat("x", 81)}},
	} {
		s := newSite(t, nil)
		request := claude
		request.Client, request.RedirectURI = c.client, c.redirect
		_, page := consentPage(t, s, request)
		for _, want := range c.shows {
			if !strings.Contains(page.body, want) {
				t.Errorf("%s: does not show %q\n%s", name, want, page.body)
			}
		}
		for _, not := range c.doesNot {
			if strings.Contains(page.body, not) {
				t.Errorf("%s: shows %q", name, not)
			}
		}
	}
}

func TestGrantsAreSeenAndRevoked(t *testing.T) {
	s := newSite(t, nil)
	p, page := consentPage(t, s, claude)
	p.decide(page, "allow")
	page = p.get("/authserver/grants")
	for _, want := range []string{"Claude", "Notes", "25 November 2026", "notes:write", "Revoke the access of Claude"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("lacks %q", want)
		}
	}
	values := page.fill(t, "/authserver/revoke")
	// Somebody else cannot end it.
	s.add("bob")
	bob := s.person()
	own := bob.signIn(bob.get("/authserver/signin"), "bob", password)
	if a := bob.post("/authserver/revoke", url.Values{"form": {own.fill(t, "/authserver/signout").Get("form")}, "grant": values["grant"]}); a.status != http.StatusNotFound || len(s.Core.Log().Revoked) != 0 {
		t.Errorf("bob ended it: %d", a.status)
	}
	after := p.post("/authserver/revoke", values)
	if after.status != http.StatusOK || !strings.Contains(after.body, "The access of Claude was revoked.") || !strings.Contains(after.body, "You have allowed nothing yet") || len(s.Core.Log().Revoked) != 1 {
		t.Errorf("%d %v\n%s", after.status, s.Core.Log().Revoked, after.body)
	}
	if out := s.person().post("/authserver/revoke", values); out.status != http.StatusForbidden {
		t.Errorf("nobody: %d", out.status)
	}
}

// fakeProvider signs one person in; what it checks is tested where it is made.
type fakeProvider struct {
	person people.Person
	err    error
}

func (f *fakeProvider) Host() string { return "login.example.com" }

func (f *fakeProvider) Begin(_ context.Context, secrets provider.Secrets, next string) (string, error) {
	return "/authserver/provider/callback?" + url.Values{"state": {next + "." + secrets("state", next)}}.Encode(), f.err
}

func (f *fakeProvider) Finish(_ context.Context, secrets provider.Secrets, answer url.Values) (people.Person, string, error) {
	next, seal, _ := strings.Cut(answer.Get("state"), ".")
	if seal != secrets("state", next) {
		return people.Person{}, "", provider.ErrState
	}
	return f.person, next, f.err
}

func (p *person) throughProvider(page answer) answer {
	p.t.Helper()
	_, rest, ok := strings.Cut(page.body, `href="/authserver/provider`)
	if !ok {
		p.t.Fatalf("no link to the provider:\n%s", page.body)
	}
	query, _, _ := strings.Cut(rest, `"`)
	return p.get("/authserver/provider" + query)
}

func TestProvider(t *testing.T) {
	fake := &fakeProvider{person: people.Person{Subject: "oidc-1", Name: "ada@example.com"}}
	s := newSite(t, func(c *portal.Config) { c.Provider = fake })
	s.Core.Ask(claude)
	p := s.person()
	page := p.throughProvider(p.get("/authorize"))
	if !strings.HasPrefix(page.path, "/authserver/consent?request=") || !strings.Contains(page.body, "ada@example.com") {
		t.Fatalf("%d %s", page.status, page.path)
	}
	if p.decide(page, "allow"); len(s.Core.Log().Who) != 1 || s.Core.Log().Who[0].Subject != "oidc-1" {
		t.Errorf("%v", s.Core.Log().Who)
	}
	// An answer that another browser was sent.
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	there := p.get("/authserver/provider").header.Get("Location")
	if a := s.person().get(there); a.status != http.StatusNotFound {
		t.Errorf("another browser: %d", a.status)
	}
}

func TestProviderTroubles(t *testing.T) {
	for err, status := range map[error]int{
		provider.ErrNotAllowed:    http.StatusForbidden,
		provider.ErrRefused:       http.StatusForbidden,
		provider.ErrUnavailable:   http.StatusBadGateway,
		errors.New("disk s3cret"): http.StatusInternalServerError,
	} {
		fake := &fakeProvider{}
		s := newSite(t, func(c *portal.Config) { c.Provider = fake })
		p := s.person()
		p.get("/authserver/signin")
		fake.err = fmt.Errorf("%w: s3cret", err)
		if a := p.get("/authserver/provider"); a.status != status || strings.Contains(a.body, "s3cret") {
			t.Errorf("%v: %d\n%s", err, a.status, a.body)
		}
	}
}
