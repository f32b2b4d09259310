package portal_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver/portal"
)

func TestSignInConsentAndLeave(t *testing.T) {
	s := newSite(t, nil)
	ada := s.add("ada")
	s.Core.Ask(claude)
	p := s.person()
	page := p.get("/authorize")
	if page.status != http.StatusOK || !strings.HasPrefix(page.path, "/authserver/signin?request=") || !strings.Contains(page.body, "Claude") {
		t.Fatalf("%d %s\n%s", page.status, page.path, page.body)
	}
	page = p.signIn(page, "ADA", password)
	if page.status != http.StatusOK || !strings.HasPrefix(page.path, "/authserver/consent?request=") {
		t.Fatalf("%d %s\n%s", page.status, page.path, page.body)
	}
	for _, want := range []string{"verified by claude.ai", "Change notes", "delete_note", "New in this request|It wants to", "claude.ai", ">ada<"} {
		found := false
		for _, one := range strings.Split(want, "|") {
			found = found || strings.Contains(page.body, one)
		}
		if !found {
			t.Errorf("the consent page lacks %q", want)
		}
	}
	done := p.decide(page, "allow")
	if done.status != http.StatusOK || done.leavesTo() != "https://claude.ai/callback?code=c0de&state=x" {
		t.Fatalf("%d %s", done.status, done.body)
	}
	if len(s.Core.Log().Allowed) != 1 || strings.Join(s.Core.Log().Allowed[0], " ") != "notes:write notes:export" || s.Core.Log().Who[0].Subject != ada.Subject {
		t.Errorf("granted %v to %v", s.Core.Log().Allowed, s.Core.Log().Who)
	}
	// The same form again answers nothing.
	if again := p.decide(page, "allow"); again.status != http.StatusNotFound || again.leavesTo() != "" || len(s.Core.Log().Allowed) != 1 {
		t.Errorf("sent twice: %d", again.status)
	}
	// Signed in once, the next request goes to the consent page at once, and is
	// never answered silently.
	if next := p.get("/authorize"); !strings.HasPrefix(next.path, "/authserver/consent?") || !strings.Contains(next.body, "You allowed before") || next.leavesTo() != "" {
		t.Errorf("the next request: %s\n%s", next.path, next.body)
	}
}

func TestWrongPasswordsTellNothing(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	s.Core.Ask(claude)
	p := s.person()
	page := p.get("/authorize")
	known := p.signIn(page, "ada", "wrong password")
	unknown := p.signIn(page, "bob", "wrong password")
	if known.status != http.StatusForbidden || known.status != unknown.status {
		t.Errorf("%d for a known name, %d for an unknown one", known.status, unknown.status)
	}
	if strings.ReplaceAll(known.body, `value="ada"`, `value="bob"`) != unknown.body {
		t.Errorf("the pages differ:\n%s\n%s", known.body, unknown.body)
	}
	for _, a := range []answer{known, unknown} {
		if len(a.header.Values("Set-Cookie")) != 0 || !strings.Contains(a.body, `role="alert"`) || strings.Contains(a.body, "wrong password") {
			t.Errorf("%v\n%s", a.header, a.body)
		}
	}
	if right := p.signIn(page, "ada", password); right.status != http.StatusOK || !strings.HasPrefix(right.path, "/authserver/consent") {
		t.Errorf("then the right one: %d %s", right.status, right.path)
	}
}

func TestLockOut(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	s.From(far)
	p := s.person()
	page := p.get("/authserver/signin")
	for _, name := range []string{"ada", "nobody"} {
		for i := range 5 {
			if a := p.signIn(page, name, "wrong password"); a.status != http.StatusForbidden {
				t.Fatalf("%s, attempt %d: %d", name, i, a.status)
			}
		}
		locked := p.signIn(page, name, password)
		if locked.status != http.StatusTooManyRequests || locked.header.Get("Retry-After") != "60" || !strings.Contains(locked.body, "too many attempts") {
			t.Errorf("%s: %d, Retry-After %q\n%s", name, locked.status, locked.header.Get("Retry-After"), locked.body)
		}
		if p.get("/authserver/grants").path != "/authserver/signin" {
			t.Error("signed in although locked")
		}
	}
	// Elsewhere the right password still works.
	s.From("198.51.100.7:1")
	if other := s.person(); other.signIn(other.get("/authserver/signin"), "ada", password).path != "/authserver/grants" {
		t.Error("locked at another address too")
	}
}

// Whoever gets in at last has not used up anything for the next time.
func TestSignInForgetsMistakes(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	s.From(far)
	for round := range 2 {
		p := s.person()
		page := p.get("/authserver/signin")
		for range 4 {
			p.signIn(page, "ada", "wrong password")
		}
		if a := p.signIn(page, "ada", password); a.path != "/authserver/grants" {
			t.Errorf("round %d: %d", round, a.status)
		}
	}
}

// What is begun in one browser cannot be seen or finished in another (confused
// deputy, login CSRF).
func TestRequestsAreBoundToTheirBrowser(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	s.Core.Ask(claude)
	attacker, victim := s.person(), s.person()
	page := attacker.get("/authorize")
	victim.signIn(victim.get("/authserver/signin"), "ada", password)
	id := page.fill(t, "/authserver/signin").Get("request")
	for _, path := range []string{"/authserver/consent?request=", "/authserver/signin?request="} {
		if a := victim.get(path + id); a.status != http.StatusNotFound || strings.Contains(a.body, "Claude") {
			t.Errorf("%s in another browser: %d\n%s", path, a.status, a.body)
		}
	}
	// Not even with a good form of the victim's own.
	own := victim.get("/authorize")
	values := own.fill(t, "/authserver/consent", "decision", "allow", "request", id)
	if a := victim.post("/authserver/consent", values); a.status != http.StatusNotFound || len(s.Core.Log().Allowed) != 0 {
		t.Errorf("consented to another browser's request: %d, %v", a.status, s.Core.Log().Allowed)
	}
}

func TestFormsNeedTheirBrowser(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	s.add("bob")
	s.Core.Ask(claude)
	p := s.person()
	signIn := p.get("/authorize")
	page := p.signIn(signIn, "ada", password)
	values := page.fill(t, "/authserver/consent", "decision", "allow")
	stranger := s.person()
	stranger.signIn(stranger.get("/authserver/signin"), "ada", password)
	without := url.Values{}
	for name, v := range values {
		if name != "form" {
			without[name] = v
		}
	}
	for name, a := range map[string]answer{
		"in another browser of the same person": stranger.post("/authserver/consent", values),
		"without the token":                     p.post("/authserver/consent", without),
		"from before the sign-in":               p.post("/authserver/signin", signIn.fill(t, "/authserver/signin", "username", "bob", "password", password)),
	} {
		if a.status != http.StatusForbidden || !strings.Contains(a.body, "This form cannot be used") {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	for name, change := range map[string]func(http.Header){
		"cross-site":     func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site") },
		"same-site":      func(h http.Header) { h.Set("Sec-Fetch-Site", "same-site") },
		"another origin": func(h http.Header) { h.Del("Sec-Fetch-Site"); h.Set("Origin", "https://evil.example") },
		"null origin":    func(h http.Header) { h.Del("Sec-Fetch-Site"); h.Set("Origin", "null") },
	} {
		r := p.postRequest("/authserver/consent", values)
		change(r.Header)
		if a := p.do(r); a.status != http.StatusForbidden {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	if len(s.Core.Log().Allowed) != 0 {
		t.Fatalf("granted: %v", s.Core.Log().Allowed)
	}
	// Somebody else signs in in another tab: the form of the first is void.
	p.post("/authserver/signout", page.fill(t, "/authserver/signout"))
	p.signIn(p.get("/authserver/signin"), "bob", password)
	if a := p.post("/authserver/consent", values); a.status != http.StatusForbidden || len(s.Core.Log().Allowed) != 0 {
		t.Errorf("ada's form sent as bob: %d, %v", a.status, s.Core.Log().Allowed)
	}
}

// Nothing in a link says where a page leads to, or what it says.
func TestNoOpenRedirect(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	for _, query := range []string{"?next=https://evil.example", "?return_to=//evil.example", "?redirect_uri=https://evil.example", "?said=Your+account+is+blocked"} {
		p := s.person()
		page := p.get("/authserver/signin" + query)
		if strings.Contains(page.body, "evil.example") {
			t.Errorf("%s: %s", query, page.body)
		}
		if a := p.signIn(page, "ada", password); a.path != "/authserver/grants" || strings.Contains(a.body, "blocked") {
			t.Errorf("%s leads to %s", query, a.path)
		}
		if a := p.get("/authserver/grants" + query); strings.Contains(a.body, "evil.example") || strings.Contains(a.body, "blocked") {
			t.Errorf("%s is shown: %s", query, a.body)
		}
	}
	p := s.person()
	for _, id := range []string{"https://evil.example", "//evil.example", "../x", "\r\nSet-Cookie: x"} {
		a := p.get("/authserver/signin?request=" + url.QueryEscape(id))
		if a.status != http.StatusNotFound {
			t.Errorf("%q: %d", id, a.status)
		}
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	s.Core.Ask(claude)
	p := s.person()
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{"/authserver/signin", "/authserver/consent?request=x", "/authserver/setup?token=x", "/authserver/nothing", "/authserver/provider", "/authserver/grants"} {
		h := p.get(path).header
		if h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, h)
		}
		if h.Get("Location") != "" {
			continue
		}
		if h.Get("X-Frame-Options") != "DENY" || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// An account that was removed, or got another password, is signed out everywhere.
func TestChangedAccountsAreSignedOut(t *testing.T) {
	for name, change := range map[string]func(*site) error{
		"removed": func(s *site) error { _, err := s.Accounts.Remove(s.t.Context(), "ada"); return err },
		"new password": func(s *site) error {
			_, err := s.Accounts.SetPassword(s.t.Context(), "ada", "another long password")
			return err
		},
		"made anew": func(s *site) error {
			if _, err := s.Accounts.Remove(s.t.Context(), "ada"); err != nil {
				return err
			}
			_, err := s.Accounts.Add(s.t.Context(), "ada", password)
			return err
		},
	} {
		s := newSite(t, nil)
		s.add("ada")
		p := s.person()
		if p.signIn(p.get("/authserver/signin"), "ada", password).path != "/authserver/grants" {
			t.Fatal("not signed in")
		}
		if err := change(s); err != nil {
			t.Fatal(err)
		}
		if a := p.get("/authserver/grants"); a.path != "/authserver/signin" {
			t.Errorf("%s: still signed in: %s", name, a.path)
		}
	}
}

func TestSignOut(t *testing.T) {
	s := newSite(t, nil)
	s.add("ada")
	p := s.person()
	page := p.signIn(p.get("/authserver/signin"), "ada", password)
	if out := p.post("/authserver/signout", page.fill(t, "/authserver/signout")); out.path != "/authserver/signin" {
		t.Errorf("%d %s", out.status, out.path)
	}
	if p.get("/authserver/grants").path != "/authserver/signin" {
		t.Error("still signed in")
	}
}

func TestNobodyYet(t *testing.T) {
	s := newSite(t, nil)
	if a := s.person().get("/authserver/signin"); !strings.Contains(a.body, "There is no account yet") {
		t.Errorf("%s", a.body)
	}
	s.add("ada")
	if a := s.person().get("/authserver/signin"); strings.Contains(a.body, "There is no account yet") {
		t.Errorf("%s", a.body)
	}
}

func TestLargeForms(t *testing.T) {
	s := newSite(t, nil)
	p := s.person()
	values := p.get("/authserver/signin").fill(t, "/authserver/signin", "username", strings.Repeat("x", 100<<10))
	if a := p.post("/authserver/signin", values); a.status != http.StatusForbidden || !strings.Contains(a.body, "This form cannot be used") {
		t.Errorf("%d", a.status)
	}
}

func TestSetupLink(t *testing.T) {
	s := newSite(t, nil)
	link, err := s.Portal.SetupLink(t.Context())
	if err != nil || !strings.HasPrefix(link, s.URL+"/authserver/setup?token=") {
		t.Fatalf("%q, %v", link, err)
	}
	path := strings.TrimPrefix(link, s.URL)
	p, late := s.person(), s.person()
	page, other := p.get(path), late.get(path)
	if page.status != http.StatusOK {
		t.Fatalf("%d\n%s", page.status, page.body)
	}
	fill := func(page answer, name, password, again string) url.Values {
		return page.fill(t, "/authserver/setup", "username", name, "password", password, "again", again)
	}
	for want, values := range map[string]url.Values{
		"not the same":            fill(page, "ada", password, password+"x"),
		"shorter than 12":         fill(page, "ada", "short", "short"),
		"This name cannot be use": fill(page, "a b", password, password),
	} {
		if a := p.post("/authserver/setup", values); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d\n%s", want, a.status, a.body)
		}
	}
	if a := p.post("/authserver/setup", fill(page, "Ada", password, password)); a.path != "/authserver/grants?said=welcome" || !strings.Contains(a.body, "Your account is made") {
		t.Errorf("%d %s\n%s", a.status, a.path, a.body)
	}
	if a := late.post("/authserver/setup", fill(other, "eve", password, password)); a.status != http.StatusForbidden {
		t.Errorf("used twice: %d", a.status)
	}
	if a := late.get(path); a.status != http.StatusForbidden || !strings.Contains(a.body, "This link cannot be used") {
		t.Errorf("opened again: %d", a.status)
	}
	if again, err := s.Portal.SetupLink(t.Context()); again != "" || err != nil {
		t.Errorf("%q, %v", again, err)
	}
	// A link proves nothing in a form that another site sends.
	s = newSite(t, nil)
	link, _ = s.Portal.SetupLink(t.Context())
	token := link[strings.LastIndex(link, "=")+1:]
	if a := s.person().post("/authserver/setup", url.Values{"token": {token}, "username": {"eve"}, "password": {password}, "again": {password}}); a.status != http.StatusForbidden {
		t.Errorf("without a page: %d", a.status)
	}
}

func TestWithoutAccounts(t *testing.T) {
	s := newSite(t, func(c *portal.Config) { c.Accounts, c.Provider = nil, &fakeProvider{} })
	if link, err := s.Portal.SetupLink(t.Context()); link != "" || err != nil {
		t.Errorf("%q, %v", link, err)
	}
	p := s.person()
	page := p.get("/authserver/signin")
	if strings.Contains(page.body, `type="password"`) || !strings.Contains(page.body, "Sign in with login.example.com") {
		t.Errorf("%s", page.body)
	}
	if a := p.get("/authserver/setup?token=x"); a.status != http.StatusNotFound {
		t.Errorf("setup: %d", a.status)
	}
}
