package portal_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/authserver/portal/portaltest"
)

const password = "correct horse battery"

// site is a portal with a core in memory behind it.
type site struct {
	*portaltest.Site
	t *testing.T
}

// newSite starts a portal; change may change its configuration.
func newSite(t *testing.T, change func(*portal.Config)) *site {
	t.Helper()
	return &site{portaltest.NewSite(t, change), t}
}

// person is somebody with a browser of their own.
type person struct {
	*site
	client *http.Client
}

func (s *site) person() *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &person{site: s, client: &http.Client{Jar: jar}}
}

// answer is what a browser shows.
type answer struct {
	status int
	path   string // after redirects
	header http.Header
	body   string
}

func (p *person) do(r *http.Request) answer {
	p.t.Helper()
	a, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer{a.StatusCode, a.Request.URL.RequestURI(), a.Header, string(body)}
}

func (p *person) get(path string) answer {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.URL+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.do(r)
}

func (p *person) post(path string, values url.Values) answer {
	p.t.Helper()
	return p.do(p.postRequest(path, values))
}

func (p *person) postRequest(path string, values url.Values) *http.Request {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.URL+path, strings.NewReader(values.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", p.URL)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

var (
	formPattern   = regexp.MustCompile(`(?s)<form method="post" action="([^"]+)".*?</form>`)
	hiddenPattern = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	markedPattern = regexp.MustCompile(`<input type="checkbox" id="[^"]*" name="([^"]*)" value="([^"]*)" checked>`)
	leavePattern  = regexp.MustCompile(`http-equiv="refresh" content="0;url=([^"]+)"`)
)

// fill returns what the form of a page with that action would send.
func (a answer) fill(t *testing.T, action string, more ...string) url.Values {
	t.Helper()
	for _, form := range formPattern.FindAllStringSubmatch(a.body, -1) {
		if form[1] != action {
			continue
		}
		values := url.Values{}
		for _, field := range append(hiddenPattern.FindAllStringSubmatch(form[0], -1), markedPattern.FindAllStringSubmatch(form[0], -1)...) {
			values.Add(field[1], field[2])
		}
		for i := 0; i+1 < len(more); i += 2 {
			values.Set(more[i], more[i+1])
		}
		return values
	}
	t.Fatalf("no form for %s in %d %s\n%s", action, a.status, a.path, a.body)
	return nil
}

// leavesTo is where a page sends the browser by itself, or "".
func (a answer) leavesTo() string {
	m := leavePattern.FindStringSubmatch(a.body)
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "&amp;", "&")
}

// signIn fills in the sign-in page.
func (p *person) signIn(page answer, name, password string) answer {
	p.t.Helper()
	return p.post("/authserver/signin", page.fill(p.t, "/authserver/signin", "username", name, "password", password))
}

// decide fills in the consent page.
func (p *person) decide(page answer, decision string) answer {
	p.t.Helper()
	return p.post("/authserver/consent", page.fill(p.t, "/authserver/consent", "decision", decision))
}

func (s *site) add(name string) people.Account {
	s.t.Helper()
	account, err := s.Accounts.Add(s.t.Context(), name, password)
	if err != nil {
		s.t.Fatal(err)
	}
	return account
}

// claude asks for two scopes, of which one is needed.
var claude = portal.Request{Client: portal.Client{Name: "Claude", Verified: "claude.ai"}, RedirectURI: "https://claude.ai/callback", Server: "Notes",
	Operation: "delete_note", Scopes: []portal.Scope{{Name: "notes:write", Description: "Change notes", Needed: true}, {Name: "notes:export"}}}

const far = "203.0.113.5:4711"
