package pages_test

import "github.com/stile-mcp/stile/authserver/pages"

// views are the pages that tests look at, by the name of their picture.
var views = map[string]pages.Page{
	"sign-in": pages.SignIn{Server: "Notes", Client: "Claude", Action: "/signin", Accounts: true},
	"sign-in-mistake": pages.SignIn{Server: "Notes", Client: "Claude", Action: "/signin", Accounts: true, Name: "ada",
		Mistake:  "Name and password do not belong together. Try again, or ask whoever runs this server.",
		Provider: &pages.Provider{Name: "login.example.com", Action: "/provider"}},
	"setup": pages.Setup{Server: "Notes", Action: "/setup", Least: 12},
	"consent-first": pages.Consent{Person: "ada", SwitchAction: "/switch", Client: "Claude", Verified: "claude.ai",
		RedirectHost: "claude.ai", RedirectTo: "https://claude.ai", Server: "Notes", Action: "/consent",
		New: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}}},
	"consent-step-up": pages.Consent{Person: "ada", SwitchAction: "/switch", Client: "Claude", RedirectHost: "127.0.0.1:41234",
		Local: true, RedirectTo: "http://127.0.0.1:41234", Server: "Notes", Operation: "delete_note", Action: "/consent",
		Granted: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}},
		New: []pages.Scope{{Name: "notes:write", Description: "Create, change and delete notes"},
			{Name: "notes:export", Description: "Take your notes out as a file", Refusable: true}}},
	"grants": pages.Grants{Person: "ada", SignOutAction: "/signout", Said: "The access of Inspector was revoked.",
		Grants: []pages.Grant{{Client: "Claude", Verified: "claude.ai", Server: "Notes", Since: "3 November 2026", Used: "25 November 2026",
			Action: "/revoke", Scopes: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}, {Name: "notes:write"}}},
			{Client: "Visual Studio Code", Server: "Notes", Since: "1 November 2026", Action: "/revoke",
				Scopes: []pages.Scope{{Name: "notes:read", Description: "Read your notes and search in them"}}}}},
	"grants-none": pages.Grants{Person: "ada", SignOutAction: "/signout"},
	"message": pages.Message{Title: "This login cannot go on", Text: "The program that sent you here named a place for the answer that it had not registered.",
		Next: "Close this page and start the login again in the program.", ID: "a1b2c3"},
}
