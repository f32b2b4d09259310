package portal

import (
	"net/http"
	"net/url"
	"time"

	"github.com/stile-mcp/stile/authserver/pages"
)

// showGrants lists what somebody allowed.
func (p *Portal) showGrants(w http.ResponseWriter, r *http.Request, v *visit) error {
	return p.listGrants(w, r, v, said[r.FormValue("said")])
}

// said is what the grants page may be told to say: never words out of a link.
var said = map[string]string{"welcome": "Your account is made, and you are signed in."}

func (p *Portal) listGrants(w http.ResponseWriter, r *http.Request, v *visit, text string) error {
	if v.person == nil {
		seeOther(w, pathSignIn)
		return nil
	}
	grants, err := p.Core.Grants(r.Context(), v.person.Subject)
	if err != nil {
		return err
	}
	page := pages.Grants{Person: v.person.Name, SignOutAction: pathSignOut, Fields: v.form(), Said: text}
	for _, g := range grants {
		shown := pages.Grant{Client: g.Client.Name, Verified: ascii(g.Client.Verified), Server: g.Server, Since: day(g.Since), Used: day(g.Used),
			Action: pathRevoke, Fields: v.form("grant", g.ID)}
		for _, s := range g.Scopes {
			shown.Scopes = append(shown.Scopes, pages.Scope{Name: s.Name, Description: s.Description})
		}
		page.Grants = append(page.Grants, shown)
	}
	p.show(w, r, http.StatusOK, page)
	return nil
}

// revoke ends a grant of the person's own.
func (p *Portal) revoke(w http.ResponseWriter, r *http.Request, v *visit) error {
	if v.person == nil {
		return errSignedOut
	}
	grant, err := p.Core.Revoke(r.Context(), v.person.Subject, r.PostFormValue("grant"))
	if err != nil {
		return err
	}
	p.Log.InfoContext(r.Context(), "grant revoked", "subject", v.person.Subject, "client", pages.Name(grant.Client.Name))
	return p.listGrants(w, r, v, "The access of "+pages.Name(grant.Client.Name)+" was revoked.")
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2 January 2006")
}

// link is a path of ours with a query.
func link(path string, query ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		if query[i+1] != "" {
			values.Set(query[i], query[i+1])
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}
