package browser_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/authserver/browser"
)

// memory is Records in memory.
type memory struct {
	values map[string]entry
	swaps  int
	err    error
}

type entry struct {
	value    []byte
	revision int
	expires  time.Time
}

func (m *memory) Load(_ context.Context, key string) ([]byte, string, error) {
	e, ok := m.values[key]
	if !ok || !time.Now().Before(e.expires) {
		return nil, "", m.err
	}
	return slices.Clone(e.value), strconv.Itoa(e.revision), m.err
}

func (m *memory) Swap(_ context.Context, key, revision string, value []byte, expires time.Time) (bool, error) {
	if m.err != nil {
		return false, m.err
	}
	e, ok := m.values[key]
	if ok != (revision != "") || ok && strconv.Itoa(e.revision) != revision {
		return false, nil
	}
	m.swaps++
	m.values[key] = entry{slices.Clone(value), e.revision + 1, expires}
	return true, nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	delete(m.values, key)
	return m.err
}

// client is a browser: it keeps cookies as a browser would.
type client struct {
	t        *testing.T
	sessions *browser.Sessions
	cookies  map[string]*http.Cookie
	last     []*http.Cookie // set by the last answer
}

func newClient(t *testing.T, publicURL string, records browser.Records) *client {
	t.Helper()
	s, err := browser.NewSessions(publicURL, records)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, sessions: s, cookies: map[string]*http.Cookie{}}
}

// visit makes a request, lets do happen in it, and returns the visit.
func (c *client) visit(do func(*browser.Visit)) *browser.Visit {
	c.t.Helper()
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	for _, cookie := range c.cookies {
		r.AddCookie(cookie)
	}
	v, err := c.sessions.Visit(w, r)
	if err != nil {
		c.t.Fatal(err)
	}
	if do != nil {
		do(v)
	}
	c.last = w.Result().Cookies()
	for _, cookie := range c.last {
		if cookie.MaxAge < 0 {
			delete(c.cookies, cookie.Name)
			continue
		}
		c.cookies[cookie.Name] = cookie
	}
	return v
}

var ada = browser.Login{Subject: "ada-1", Name: "ada", Epoch: "first"}

func (c *client) signIn(login browser.Login) *browser.Visit {
	c.t.Helper()
	return c.visit(func(v *browser.Visit) {
		if err := v.SignIn(c.t.Context(), login); err != nil {
			c.t.Fatal(err)
		}
	})
}

func TestCookieAttributes(t *testing.T) {
	for publicURL, want := range map[string][]string{
		"https://mcp.example.com": {"__Host-stile-browser", "__Host-stile-session"},
		"http://127.0.0.1:8080":   {"stile-browser-8080", "stile-session-8080"},
	} {
		c := newClient(t, publicURL, &memory{values: map[string]entry{}})
		c.signIn(ada)
		var names []string
		for _, cookie := range c.last {
			names = append(names, cookie.Name)
			if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge != 0 ||
				cookie.Secure != strings.HasPrefix(publicURL, "https:") {
				t.Errorf("%s: %s", publicURL, cookie.Raw)
			}
			if len(cookie.Value) < 43 {
				t.Errorf("%s: %s is short", publicURL, cookie.Name)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v", publicURL, names)
		}
	}
}

func TestSignInAndOut(t *testing.T) {
	store := &memory{values: map[string]entry{}}
	c := newClient(t, "https://mcp.example.com", store)
	if v := c.visit(nil); v.Login() != nil {
		t.Errorf("nobody signed in: %+v", v.Login())
	}
	c.signIn(ada)
	if v := c.visit(nil); v.Login() == nil || v.Login().Subject != "ada-1" || v.Login().Epoch != "first" || v.Login().Scopes != nil {
		t.Errorf("signed in: %+v", v.Login())
	}
	for key, e := range store.values {
		for _, cookie := range c.cookies {
			if strings.Contains(key+string(e.value), cookie.Value) {
				t.Errorf("%s is stored in clear", cookie.Name)
			}
		}
	}
	kept := *c.cookies["__Host-stile-session"]
	c.visit(func(v *browser.Visit) {
		if err := v.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if c.cookies["__Host-stile-session"] != nil || len(store.values) != 0 {
		t.Error("something of the session is left")
	}
	c.cookies[kept.Name] = &kept
	if c.visit(nil).Login() != nil {
		t.Error("the id works after the sign-out")
	}
}

// Session fixation: an id from before the sign-in is good for nothing after it.
func TestSignInChangesTheID(t *testing.T) {
	store := &memory{values: map[string]entry{}}
	c := newClient(t, "https://mcp.example.com", store)
	c.signIn(ada)
	before := *c.cookies["__Host-stile-session"]
	c.signIn(browser.Login{Subject: "bob-1", Name: "bob"})
	if c.cookies[before.Name].Value == before.Value {
		t.Fatal("the id is the same")
	}
	if len(store.values) != 1 {
		t.Errorf("%d sessions", len(store.values))
	}
	c.cookies[before.Name] = &before
	if v := c.visit(nil); v.Login() != nil {
		t.Errorf("the id from before is %+v", v.Login())
	}
	// An id that somebody else chose is never taken.
	planted := &http.Cookie{Name: before.Name, Value: strings.Repeat("A", 43)}
	c.cookies[before.Name] = planted
	c.signIn(ada)
	if c.cookies[before.Name].Value == planted.Value {
		t.Error("a planted id became a session")
	}
}

func TestTwoCookiesOfOneNameCountAsNone(t *testing.T) {
	c := newClient(t, "http://127.0.0.1:8080", &memory{values: map[string]entry{}})
	first := c.signIn(ada).Binding()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, cookie := range c.cookies {
		r.AddCookie(cookie)
		r.AddCookie(&http.Cookie{Name: cookie.Name, Value: strings.Repeat("A", 43)})
	}
	v, err := c.sessions.Visit(httptest.NewRecorder(), r)
	if err != nil || v.Login() != nil || v.Binding() == first {
		t.Errorf("%+v, %v", v.Login(), err)
	}
}

func TestLifetimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{values: map[string]entry{}}
		c := newClient(t, "https://mcp.example.com", store)
		c.signIn(ada)
		time.Sleep(browser.IdleLifetime - time.Second)
		if c.visit(nil).Login() == nil {
			t.Error("over before it was idle long enough")
		}
		time.Sleep(browser.IdleLifetime)
		if c.visit(nil).Login() != nil || len(store.values) != 0 {
			t.Error("idle, and not over")
		}
		c.signIn(ada)
		began, swaps := time.Now(), store.swaps
		for time.Since(began) < browser.Lifetime {
			if c.visit(nil).Login() == nil {
				t.Fatalf("over after %v although it was used", time.Since(began))
			}
			time.Sleep(time.Minute)
		}
		if c.visit(nil).Login() != nil {
			t.Error("used, and not over after its lifetime")
		}
		if n := store.swaps - swaps; n > 12*12 {
			t.Errorf("%d writes in 12 hours of a request a minute", n)
		}
	})
}

func TestFormTokens(t *testing.T) {
	store := &memory{values: map[string]entry{}}
	c := newClient(t, "https://mcp.example.com", store)
	nobody := c.visit(nil).FormToken()
	if !c.visit(nil).CheckForm(nobody) {
		t.Error("the same browser")
	}
	c.signIn(ada)
	signedIn := c.visit(nil).FormToken()
	stranger := newClient(t, "https://mcp.example.com", store)
	stranger.signIn(ada)
	for name, v := range map[string]*browser.Visit{
		"a form from before the sign-in": c.visit(nil),
		"another browser":                stranger.visit(nil),
	} {
		if v.CheckForm(nobody) {
			t.Error(name)
		}
	}
	if stranger.visit(nil).CheckForm(signedIn) {
		t.Error("another browser of the same person")
	}
	// Somebody else signs in meanwhile, in another tab.
	c.signIn(browser.Login{Subject: "bob-1"})
	if v := c.visit(nil); v.CheckForm(signedIn) || v.CheckForm("") {
		t.Error("a form that was shown to somebody else")
	}
	if a, b := c.visit(nil).Binding(), stranger.visit(nil).Binding(); a == b || a != c.visit(nil).Binding() {
		t.Error("browsers are mixed up")
	}
}

func TestStoreThatFails(t *testing.T) {
	store := &memory{values: map[string]entry{}}
	c := newClient(t, "https://mcp.example.com", store)
	c.signIn(ada)
	store.err = errors.New("disk on fire")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, cookie := range c.cookies {
		r.AddCookie(cookie)
	}
	if v, err := c.sessions.Visit(httptest.NewRecorder(), r); !errors.Is(err, store.err) || v.Login() != nil {
		t.Errorf("%v, %v", v.Login(), err)
	}
}
