package portal_test

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stile-mcp/stile/authserver/browser"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
)

const password = "correct horse battery"

// site is a portal with a core in memory behind it.
type site struct {
	t        *testing.T
	portal   *portal.Portal
	server   *httptest.Server
	core     *core
	accounts *people.Accounts
	from     string // address that requests seem to come from
}

// newSite starts a portal; change may change its configuration.
func newSite(t *testing.T, change func(*portal.Config)) *site {
	t.Helper()
	s := &site{t: t, core: &core{pending: map[string]portal.Request{}, grants: map[string][]portal.Grant{}}}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.from != "" {
			r.RemoteAddr = s.from
		}
		if r.URL.Path == "/authorize" {
			s.authorize(w, r)
			return
		}
		s.portal.ServeHTTP(w, r)
	}))
	public := "http://" + s.server.Listener.Addr().String()
	store := &memory{values: map[string]entry{}}
	sessions, err := browser.NewSessions(public, store)
	if err != nil {
		t.Fatal(err)
	}
	s.accounts = people.NewAccounts(store)
	config := portal.Config{PublicURL: public, Server: "Notes", Core: s.core, Sessions: sessions, Accounts: s.accounts, Limits: people.NewLimits()}
	if change != nil {
		change(&config)
	}
	s.portal = portal.New(config)
	s.server.Start()
	t.Cleanup(s.server.Close)
	return s
}

// authorize does what a core does with a good authorization request.
func (s *site) authorize(w http.ResponseWriter, r *http.Request) {
	binding, err := s.portal.Binding(w, r)
	if err != nil {
		s.t.Error(err)
		return
	}
	id := rand.Text()
	request := s.core.next
	request.Browser = binding
	s.core.mu.Lock()
	s.core.pending[id] = request
	s.core.mu.Unlock()
	http.Redirect(w, r, portal.Entry(id), http.StatusSeeOther)
}

// core is a Core in memory.
type core struct {
	mu      sync.Mutex // guards all
	next    portal.Request
	pending map[string]portal.Request
	grants  map[string][]portal.Grant // by subject
	allowed [][]string
	who     []people.Person
	refused int
	ended   []string // revoked grants
}

func (c *core) Pending(_ context.Context, id string, person people.Person) (portal.Request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, ok := c.pending[id]
	if !ok {
		return request, portal.ErrGone
	}
	request.Scopes = slices.Clone(request.Scopes)
	for _, g := range c.grants[person.Subject] {
		for i := range request.Scopes {
			if slices.ContainsFunc(g.Scopes, func(s portal.Scope) bool { return s.Name == request.Scopes[i].Name }) {
				request.Scopes[i].Granted = true
			}
		}
	}
	return request, nil
}

func (c *core) Allow(_ context.Context, id string, person people.Person, scopes []string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, ok := c.pending[id]
	if !ok {
		return "", portal.ErrGone
	}
	delete(c.pending, id)
	c.allowed, c.who = append(c.allowed, scopes), append(c.who, person)
	grant := portal.Grant{ID: rand.Text(), Client: request.Client, Server: request.Server, Since: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)}
	for _, s := range scopes {
		grant.Scopes = append(grant.Scopes, portal.Scope{Name: s})
	}
	c.grants[person.Subject] = []portal.Grant{grant}
	return request.RedirectURI + "?code=c0de&state=x", nil
}

func (c *core) Refuse(_ context.Context, id string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, ok := c.pending[id]
	if !ok {
		return "", portal.ErrGone
	}
	delete(c.pending, id)
	c.refused++
	return request.RedirectURI + "?error=access_denied", nil
}

func (c *core) Grants(_ context.Context, subject string) ([]portal.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.grants[subject]), nil
}

func (c *core) Revoke(_ context.Context, subject, id string) (portal.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.grants[subject], func(g portal.Grant) bool { return g.ID == id })
	if at < 0 {
		return portal.Grant{}, portal.ErrGone
	}
	grant := c.grants[subject][at]
	c.grants[subject] = slices.Delete(c.grants[subject], at, at+1)
	c.ended = append(c.ended, id)
	return grant, nil
}

// memory is all records in memory.
type memory struct {
	mu     sync.Mutex // guards values
	values map[string]entry
}

type entry struct {
	value    []byte
	revision string
}

func (m *memory) Load(_ context.Context, key string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.values[key]
	return slices.Clone(e.value), e.revision, nil
}

func (m *memory) Swap(_ context.Context, key, revision string, value []byte, _ time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values[key].revision != revision {
		return false, nil
	}
	m.values[key] = entry{slices.Clone(value), rand.Text()}
	return true, nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
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
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.server.URL+path, nil)
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
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.server.URL+path, strings.NewReader(values.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", p.server.URL)
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
	account, err := s.accounts.Add(s.t.Context(), name, password)
	if err != nil {
		s.t.Fatal(err)
	}
	return account
}

// claude asks for two scopes, of which one is needed.
var claude = portal.Request{Client: portal.Client{Name: "Claude", Verified: "claude.ai"}, RedirectURI: "https://claude.ai/callback", Server: "Notes",
	Operation: "delete_note", Scopes: []portal.Scope{{Name: "notes:write", Description: "Change notes", Needed: true}, {Name: "notes:export"}}}

var far = netip.MustParseAddrPort("203.0.113.5:4711").String()
