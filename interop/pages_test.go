package interop_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver/pages"
)

// TestEveryPageIsAccessible looks at each page in each state, also those that a
// login seldom comes by.
func TestEveryPageIsAccessible(t *testing.T) {
	long := strings.Repeat("Donaudampfschifffahrtsgesellschaft", 3)
	read, write := pages.Scope{Name: "notes:read", Description: "Read your notes and search in them"}, pages.Scope{Name: "notes:write", Description: "Create, change and delete notes"}
	export := pages.Scope{Name: "notes:export", Description: "Take your notes out as a file", Refusable: true}
	views := map[string]pages.Page{
		"sign-in": pages.SignIn{Server: "Notes", Client: "Claude", Action: "/", Accounts: true},
		"sign-in-mistake": pages.SignIn{Server: "Notes", Action: "/", Accounts: true, Name: "ada", Mistake: "Name and password do not belong together.",
			Provider: &pages.Provider{Name: "login.example.com", URL: "/"}},
		"sign-in-provider": pages.SignIn{Server: "Notes", Action: "/", Provider: &pages.Provider{Name: "login.example.com", URL: "/"}},
		"sign-in-nobody":   pages.SignIn{Server: "Notes", Action: "/", Accounts: true, Nobody: true},
		"setup":            pages.Setup{Server: "Notes", Action: "/", Least: 12},
		"setup-mistake":    pages.Setup{Server: "Notes", Action: "/", Least: 12, Name: "ada", Mistake: "The two passwords are not the same."},
		"consent":          pages.Consent{Person: "ada", SwitchAction: "/", Client: "Claude", Verified: "claude.ai", RedirectHost: "claude.ai", Server: "Notes", Action: "/", New: []pages.Scope{read}},
		"consent-step-up":  pages.Consent{Person: "ada", SwitchAction: "/", Client: "Code", RedirectHost: "127.0.0.1:4711", Local: true, Server: "Notes", Operation: "delete_note", Action: "/", Granted: []pages.Scope{read}, New: []pages.Scope{write, export}},
		"consent-again":    pages.Consent{Person: "ada", SwitchAction: "/", Client: "Code", RedirectHost: "x.example", Server: "Notes", Action: "/", Granted: []pages.Scope{read}},
		"consent-barred":   pages.Consent{Person: "ada", SwitchAction: "/", Client: "Code", RedirectHost: "x.example", Server: "Notes", Action: "/", Barred: []pages.Scope{write}},
		"consent-long":     pages.Consent{Person: long, SwitchAction: "/", Client: long, Verified: long, RedirectHost: long, Server: long, Operation: long, Action: "/", New: []pages.Scope{{Name: long, Description: long, Refusable: true}}},
		"grants":           pages.Grants{Person: "ada", SignOutAction: "/", Said: "The access of Code was revoked.", Grants: []pages.Grant{{Client: "Claude", Verified: "claude.ai", Server: "Notes", Since: "3 November 2026", Action: "/", Scopes: []pages.Scope{read, write}}, {Client: "Code", Server: "Notes", Since: "1 November 2026", Action: "/", Scopes: []pages.Scope{read}}}},
		"grants-none":      pages.Grants{Person: "ada", SignOutAction: "/"},
		"message":          pages.Message{Title: "This login cannot go on", Text: "It took too long.", Next: "Start again.", ID: "A1B2"},
	}
	b := startBrowser(t)
	var view pages.Page
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pages.StylePath {
			pages.Style(w, r)
			return
		}
		if err := pages.Write(w, http.StatusOK, view); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	for name, v := range views {
		view = v
		b.open(server.URL + "/" + name)
		b.see("h1")
		if evaluate[string](b, "getComputedStyle(document.querySelector('main')).borderRadius") == "0px" {
			t.Errorf("%s came without its style", name)
		}
		b.look("")
	}
}
