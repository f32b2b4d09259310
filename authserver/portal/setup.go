package portal

import (
	"context"
	"errors"
	"net/http"

	"github.com/stile-mcp/stile/authserver/pages"
	"github.com/stile-mcp/stile/authserver/people"
)

// SetupLink returns the link with which the first account is made, to be printed
// where Stile was started, or "" when there are accounts, or none are used.
func (p *Portal) SetupLink(ctx context.Context) (string, error) {
	if p.Accounts == nil {
		return "", nil
	}
	token, err := p.Accounts.NewSetup(ctx)
	if err != nil || token == "" {
		return "", err
	}
	return p.PublicURL + link(pathSetup, "token", token), nil
}

// showSetup shows the form for the first account. It uses nothing up.
func (p *Portal) showSetup(w http.ResponseWriter, r *http.Request, v *visit) error {
	if p.Accounts == nil {
		return errNotFound
	}
	token := r.FormValue("token")
	if err := p.Accounts.CheckSetup(r.Context(), token); err != nil {
		return badLink(err)
	}
	p.show(w, r, http.StatusOK, p.setupPage(v, token))
	return nil
}

func (p *Portal) setupPage(v *visit, token string) pages.Setup {
	return pages.Setup{Server: p.Server, Action: pathSetup, Fields: v.form("token", token), Least: people.LeastPassword}
}

// setup makes the first account and signs its owner in.
func (p *Portal) setup(w http.ResponseWriter, r *http.Request, v *visit) error {
	if p.Accounts == nil {
		return errNotFound
	}
	token, name, password := r.PostFormValue("token"), r.PostFormValue("username"), r.PostFormValue("password")
	page := p.setupPage(v, token)
	page.Name = pages.Sentence(name)
	if password != r.PostFormValue("again") {
		if err := p.Accounts.CheckSetup(r.Context(), token); err != nil {
			return badLink(err)
		}
		page.Mistake = "The two passwords are not the same."
		p.show(w, r, http.StatusUnprocessableEntity, page)
		return nil
	}
	account, err := p.Accounts.AddFirst(r.Context(), token, name, password)
	if errors.Is(err, people.ErrName) || errors.Is(err, people.ErrPassword) {
		page.Mistake = pages.Sentence(capital(err.Error()) + ".")
		p.show(w, r, http.StatusUnprocessableEntity, page)
		return nil
	}
	if err != nil {
		return badLink(err)
	}
	if err := p.start(r, v, account.Person(), account.Epoch); err != nil {
		return err
	}
	seeOther(w, pathGrants, "said", "welcome")
	return nil
}

// badLink tells a link that is used up from a store that fails.
func badLink(err error) error {
	if errors.Is(err, people.ErrLink) {
		return errLink
	}
	return err
}

// capital writes the first letter, which is ASCII, as a capital.
func capital(s string) string {
	if s != "" && 'a' <= s[0] && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}
