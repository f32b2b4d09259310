package portal

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/stile-mcp/stile/authserver/browser"
	"github.com/stile-mcp/stile/authserver/pages"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/provider"
)

// mismatch is all that anybody is told about a name or a password that is wrong.
const mismatch = "Name and password do not belong together. Try again, or ask whoever runs this server."

// showSignIn asks who somebody is, for an authorization request or the grants page.
func (p *Portal) showSignIn(w http.ResponseWriter, r *http.Request, v *visit) error {
	id := r.FormValue("request")
	page, err := p.signInPage(r, v, id)
	if err != nil {
		return err
	}
	if v.person != nil {
		p.goOn(w, id)
		return nil
	}
	p.show(w, r, http.StatusOK, page)
	return nil
}

func (p *Portal) signInPage(r *http.Request, v *visit, id string) (pages.SignIn, error) {
	page := pages.SignIn{Server: p.Server, Action: pathSignIn, Fields: v.form("request", id), Accounts: p.Accounts != nil}
	if id != "" {
		request, err := p.pending(r.Context(), v, id)
		if err != nil {
			return page, err
		}
		page.Client, page.Server = request.Client.Name, request.Server
	}
	if p.Accounts != nil && p.Provider == nil {
		all, err := p.Accounts.List(r.Context())
		if err != nil {
			return page, err
		}
		page.Nobody = len(all) == 0
	}
	if p.Provider != nil {
		page.Provider = &pages.Provider{Name: p.Provider.Host(), URL: link(pathProvider, "request", id)}
	}
	return page, nil
}

// goOn sends somebody who is signed in to what they came for.
func (p *Portal) goOn(w http.ResponseWriter, id string) {
	if id == "" {
		seeOther(w, pathGrants)
		return
	}
	seeOther(w, pathConsent, "request", id)
}

// signIn checks a name and a password.
func (p *Portal) signIn(w http.ResponseWriter, r *http.Request, v *visit) error {
	if p.Accounts == nil {
		return errNotFound
	}
	id, name := r.PostFormValue("request"), r.PostFormValue("username")
	page, err := p.signInPage(r, v, id)
	if err != nil {
		return err
	}
	page.Name = pages.Sentence(name)
	from := address(r)
	if wait := p.Limits.Attempt(name, from); wait > 0 {
		p.Log.WarnContext(r.Context(), "sign-in locked", "name", page.Name, "address", from, "wait", wait)
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		page.Mistake = fmt.Sprintf("There were too many attempts. Wait %s before the next.", minutes(wait))
		p.show(w, r, http.StatusTooManyRequests, page)
		return nil
	}
	account, err := p.Accounts.Check(r.Context(), name, r.PostFormValue("password"))
	if errors.Is(err, people.ErrMismatch) {
		p.Log.WarnContext(r.Context(), "sign-in failed", "name", page.Name, "address", from)
		page.Mistake = mismatch
		p.show(w, r, http.StatusForbidden, page)
		return nil
	}
	if err != nil {
		return err
	}
	p.Limits.Succeeded(name, from)
	if err := p.start(r, v, account.Person(), account.Epoch); err != nil {
		return err
	}
	p.goOn(w, id)
	return nil
}

// start begins a session for somebody who proved who they are.
func (p *Portal) start(r *http.Request, v *visit, person people.Person, epoch string) error {
	err := v.SignIn(r.Context(), browser.Login{Subject: person.Subject, Name: pages.Name(person.Name), Scopes: person.Scopes, Epoch: epoch})
	if err == nil {
		p.Log.InfoContext(r.Context(), "signed in", "subject", person.Subject, "address", address(r))
	}
	return err
}

// signOut ends the session. With a request it is "not you?": somebody else may
// sign in for the same request.
func (p *Portal) signOut(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := v.SignOut(r.Context()); err != nil {
		return err
	}
	seeOther(w, pathSignIn, "request", r.PostFormValue("request"))
	return nil
}

// toProvider sends the browser to the OpenID provider.
func (p *Portal) toProvider(w http.ResponseWriter, r *http.Request, v *visit) error {
	if p.Provider == nil {
		return errNotFound
	}
	id := r.FormValue("request")
	if id != "" {
		if _, err := p.pending(r.Context(), v, id); err != nil {
			return err
		}
	}
	there, err := p.Provider.Begin(r.Context(), v.Secret, id)
	if err != nil {
		return p.explain(r, err)
	}
	seeOther(w, there)
	return nil
}

// fromProvider takes the answer that the browser brought back.
func (p *Portal) fromProvider(w http.ResponseWriter, r *http.Request, v *visit) error {
	if p.Provider == nil {
		return errNotFound
	}
	person, id, err := p.Provider.Finish(r.Context(), v.Secret, r.URL.Query())
	if err != nil {
		return p.explain(r, err)
	}
	if err := p.start(r, v, person, ""); err != nil {
		return err
	}
	p.goOn(w, id)
	return nil
}

// explain says to the person what a sign-in elsewhere came to, and to the log why.
func (p *Portal) explain(r *http.Request, err error) error {
	p.Log.WarnContext(r.Context(), "sign-in through the provider", "error", err, "address", address(r))
	switch {
	case errors.Is(err, provider.ErrState):
		return errGone
	case errors.Is(err, provider.ErrNotAllowed):
		return errNotAllowed
	case errors.Is(err, provider.ErrRefused):
		return errProvider
	case errors.Is(err, provider.ErrUnavailable):
		return errUnavailable
	}
	return err
}

// minutes says how long something takes.
func minutes(d time.Duration) string {
	if d <= time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", int(math.Ceil(d.Minutes())))
}
