package portal

import (
	"net/http"
	"slices"

	"github.com/stile-mcp/stile/authserver/pages"
	"github.com/stile-mcp/stile/authserver/people"
)

// showConsent shows who asks for what. It is shown each time, also when all was
// granted before: any program on the device may come with a client's id
// (RFC 8252 §8.6), and consent is never silent.
func (p *Portal) showConsent(w http.ResponseWriter, r *http.Request, v *visit) error {
	id := r.FormValue("request")
	request, err := p.pending(r.Context(), v, id)
	if err != nil {
		return err
	}
	if v.person == nil {
		seeOther(w, pathSignIn, "request", id)
		return nil
	}
	host, local := destination(request.RedirectURI)
	asked := sort(request.Scopes, v.person)
	p.show(w, r, http.StatusOK, pages.Consent{
		Person: v.person.Name, SwitchAction: pathSignOut, Client: request.Client.Name, Verified: ascii(request.Client.Verified),
		RedirectHost: host, Local: local, Server: request.Server, Operation: pages.Sentence(request.Operation),
		Granted: asked.granted, New: asked.new, Barred: asked.barred, Action: pathConsent, Fields: v.form("request", id),
	})
	return nil
}

// sorted are the scopes of a request, in the groups in which they are shown.
type sorted struct{ granted, new, barred []pages.Scope }

func sort(scopes []Scope, person *people.Person) (s sorted) {
	for _, one := range scopes {
		shown := pages.Scope{Name: one.Name, Description: one.Description, Refusable: !one.Needed}
		switch {
		case person.Scopes != nil && !slices.Contains(person.Scopes, one.Name):
			s.barred = append(s.barred, shown)
		case one.Granted:
			s.granted = append(s.granted, shown)
		default:
			s.new = append(s.new, shown)
		}
	}
	return s
}

// allowed are the scopes that a person grants who marked some: those that were
// granted before and are asked for again, and of the new ones those that are
// marked. A form can mark nothing that was not asked for or is not theirs to give.
func (s sorted) allowed(marked []string) (scopes []string) {
	for _, one := range s.granted {
		scopes = append(scopes, one.Name)
	}
	for _, one := range s.new {
		if slices.Contains(marked, one.Name) {
			scopes = append(scopes, one.Name)
		}
	}
	return scopes
}

// consent takes the decision.
func (p *Portal) consent(w http.ResponseWriter, r *http.Request, v *visit) error {
	id := r.PostFormValue("request")
	request, err := p.pending(r.Context(), v, id)
	if err != nil {
		return err
	}
	if v.person == nil {
		return errSignedOut
	}
	scopes := sort(request.Scopes, v.person).allowed(r.PostForm["scope"])
	leave := pages.Leave{Client: request.Client.Name}
	switch r.PostFormValue("decision") {
	case "allow":
		if len(scopes) == 0 { // everything was refused, one by one
			leave.Refused = true
			leave.URL, err = p.Core.Refuse(r.Context(), id)
			break
		}
		leave.URL, err = p.Core.Allow(r.Context(), id, *v.person, scopes)
	case "deny":
		leave.Refused = true
		leave.URL, err = p.Core.Refuse(r.Context(), id)
	default:
		return errForm
	}
	if err != nil {
		return err
	}
	p.Log.InfoContext(r.Context(), "consent", "subject", v.person.Subject, "client", pages.Name(request.Client.Name), "refused", leave.Refused, "scopes", scopes)
	p.show(w, r, http.StatusOK, leave)
	return nil
}
