package pages_test

import "github.com/stile-mcp/stile/authserver/pages"

// views are the pages that tests look at, by the name of their picture.
var views = map[string]pages.Page{
	"sign-in": pages.SignIn{Server: "Notes", Client: "Claude", Action: "/signin", Accounts: true},
	"sign-in-mistake": pages.SignIn{Server: "Notes", Client: "Claude", Action: "/signin", Accounts: true, Name: "ada",
		Mistake:  "Name and password do not belong together. Try again, or ask whoever runs this server.",
		Provider: &pages.Provider{Name: "login.example.com", URL: "/provider"}},
	"sign-in-nobody": pages.SignIn{Server: "Notes", Action: "/signin", Accounts: true, Nobody: true},
	"setup":          pages.Setup{Server: "Notes", Action: "/setup", Least: 12},
	"consent-first": pages.Consent{Person: "ada", SwitchAction: "/switch", Client: "Claude", Verified: "claude.ai",
		RedirectHost: "claude.ai", Server: "Notes", Action: "/consent",
		New: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}}},
	"consent-step-up": pages.Consent{Person: "ada", SwitchAction: "/switch", Client: "Claude", RedirectHost: "127.0.0.1:41234",
		Local: true, Server: "Notes", Operation: "delete_note", Action: "/consent",
		Granted: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}},
		New: []pages.Scope{{Name: "notes:write", Description: "Create, change and delete notes"},
			{Name: "notes:export", Description: "Take your notes out as a file", Refusable: true}}},
	"consent-again": pages.Consent{Person: "ada", Client: "Claude", Verified: "claude.ai", RedirectHost: "claude.ai", Server: "Notes", Action: "/consent",
		Granted: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}}},
	"consent-barred": pages.Consent{Person: "ada", Client: "Claude", Verified: "claude.ai", RedirectHost: "claude.ai", Server: "Notes", Action: "/consent",
		Barred: []pages.Scope{{Name: "notes:admin"}}},
	"leave": pages.Leave{Client: "Claude", URL: "https://claude.ai/callback?code=1&state=2"},
	"grants": pages.Grants{Person: "ada", SignOutAction: "/signout", Said: "The access of Inspector was revoked.",
		Grants: []pages.Grant{{Client: "Claude", Verified: "claude.ai", Server: "Notes", Since: "3 November 2026", Used: "25 November 2026",
			Action: "/revoke", Scopes: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}, {Name: "notes:write"}}},
			{Client: "Visual Studio Code", Server: "Notes", Since: "1 November 2026", Action: "/revoke",
				Scopes: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}}}}},
	"grants-none": pages.Grants{Person: "ada", SignOutAction: "/signout"},
	"message": pages.Message{Title: "This login cannot go on", Text: "The program that sent you here named a place for the answer that it had not registered.",
		Next: "Close this page and start the login again in the program.", ID: "a1b2c3"},
}
