// Package portaltest runs a portal.Portal in memory: real accounts, sessions and
// pages, and a Core that keeps requests and grants in maps and issues codes that
// nobody can redeem. GET /authorize stands for any authorization request that was
// found good.
//
//	site := portaltest.NewSite(t, nil)
//	site.Core.Ask(portal.Request{Client: portal.Client{Name: "Agent"}, …})
//	http.Get(site.URL + "/authorize")
package portaltest

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stile-mcp/stile/authserver/browser"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/store"
)

// Site is a portal that listens on loopback until its test ends.
type Site struct {
	URL      string
	Portal   *portal.Portal
	Core     *Core
	Accounts *people.Accounts

	mu   sync.Mutex // guards from
	from string
}

// NewSite starts a Site; change, if not nil, may change its configuration.
func NewSite(t testing.TB, change func(*portal.Config)) *Site {
	t.Helper()
	s := &Site{Core: &Core{pending: map[string]portal.Request{}, grants: map[string][]portal.Grant{}}}
	server := httptest.NewUnstartedServer(s)
	s.URL = "http://" + server.Listener.Addr().String()
	records := store.NewMemory()
	sessions, err := browser.NewSessions(s.URL, records)
	if err != nil {
		t.Fatal(err)
	}
	s.Accounts = people.NewAccounts(records)
	config := portal.Config{PublicURL: s.URL, Server: "Notes", Core: s.Core, Sessions: sessions, Accounts: s.Accounts, Limits: people.NewLimits()}
	if change != nil {
		change(&config)
	}
	s.Portal = portal.New(config)
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// From makes requests seem to come from an address and port.
func (s *Site) From(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from = address
}

// ServeHTTP answers what the portal does, and /authorize.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.from != "" {
		r.RemoteAddr = s.from
	}
	s.mu.Unlock()
	if r.URL.Path != "/authorize" {
		s.Portal.ServeHTTP(w, r)
		return
	}
	binding, err := s.Portal.Binding(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	id := rand.Text()
	s.Core.begin(id, binding)
	http.Redirect(w, r, portal.Entry(id), http.StatusSeeOther)
}
