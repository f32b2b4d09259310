// Package portal is the part of the authorization server that people meet: signing
// in, consenting, seeing and revoking what was allowed, and making the first
// account. The protocol is not its business: it asks a Core what a request wants
// and tells it what the person decided.
package portal

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/stile-mcp/stile/authserver/browser"
	"github.com/stile-mcp/stile/authserver/pages"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/provider"
)

// Paths of the pages, below the root of the origin.
const (
	Prefix       = "/authserver/"
	pathSignIn   = Prefix + "signin"
	pathSignOut  = Prefix + "signout"
	pathConsent  = Prefix + "consent"
	pathGrants   = Prefix + "grants"
	pathRevoke   = Prefix + "revoke"
	pathSetup    = Prefix + "setup"
	pathProvider = Prefix + "provider"
	// PathCallback is where the OpenID provider sends people back to.
	PathCallback = Prefix + "provider/callback"
)

// maxForm bounds the body of a form, in bytes.
const maxForm = 64 << 10

// Config is what a Portal is made of. Core, Sessions, Limits and PublicURL must be
// there, and Accounts or Provider.
type Config struct {
	PublicURL string // scheme, host and port, as browsers see them
	Server    string // what people call what they sign in to
	Core      Core
	Sessions  *browser.Sessions
	Accounts  *people.Accounts // nil: nobody has a local account
	Provider  Provider         // nil: there is none
	Limits    *people.Limits
	Log       *slog.Logger
}

// Provider is an OpenID provider; *provider.Provider is one.
type Provider interface {
	Host() string
	Begin(ctx context.Context, secrets provider.Secrets, next string) (string, error)
	Finish(ctx context.Context, secrets provider.Secrets, answer url.Values) (people.Person, string, error)
}

// Portal serves the pages. It is safe for concurrent use.
type Portal struct {
	Config
	handler http.Handler
}

// New returns a Portal.
func New(config Config) *Portal {
	p := &Portal{Config: config}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pages.StylePath, pages.Style)
	for pattern, page := range map[string]page{
		"GET " + pathSignIn:   p.showSignIn,
		"POST " + pathSignIn:  p.signIn,
		"POST " + pathSignOut: p.signOut,
		"GET " + pathConsent:  p.showConsent,
		"POST " + pathConsent: p.consent,
		"GET " + pathGrants:   p.showGrants,
		"POST " + pathRevoke:  p.revoke,
		"GET " + pathSetup:    p.showSetup,
		"POST " + pathSetup:   p.setup,
		"GET " + pathProvider: p.toProvider,
		"GET " + PathCallback: p.fromProvider,
	} {
		mux.HandleFunc(pattern, p.serve(page))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.tell(w, r, errNotFound) })
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.tell(w, r, errForm) }))
	p.handler = crossOrigin.Handler(mux)
	return p
}

// ServeHTTP answers everything below Prefix.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// page answers a request within a visit. What it returns is told.
type page func(w http.ResponseWriter, r *http.Request, v *visit) error

// visit is a browser, and who is signed in there still.
type visit struct {
	*browser.Visit
	person *people.Person // nil: nobody
}

// serve wraps a page with what all have in common: a bounded body, the visit, and
// for forms the proof that they were shown there.
func (p *Portal) serve(page page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		v, err := p.visit(w, r)
		if err == nil && r.Method == http.MethodPost && !v.CheckForm(r.PostFormValue("form")) {
			err = errForm
		}
		if err == nil {
			err = page(w, r, v)
		}
		if err != nil {
			p.tell(w, r, err)
		}
	}
}

// visit finds out who is there. Somebody whose account was removed, or got another
// password, is nobody.
func (p *Portal) visit(w http.ResponseWriter, r *http.Request) (*visit, error) {
	seen, err := p.Sessions.Visit(w, r)
	if err != nil {
		return nil, err
	}
	v := &visit{Visit: seen}
	login := seen.Login()
	if login == nil {
		return v, nil
	}
	person := &people.Person{Subject: login.Subject, Name: login.Name, Scopes: login.Scopes}
	switch {
	case login.Epoch == "" && p.Provider != nil:
		v.person = person
	case login.Epoch != "" && p.Accounts != nil:
		account, err := p.Accounts.Subject(r.Context(), login.Subject)
		if err != nil && !errors.Is(err, people.ErrUnknown) {
			return nil, err
		}
		if err == nil && account.Epoch == login.Epoch {
			v.person = person
		}
	}
	if v.person == nil {
		return v, seen.SignOut(r.Context())
	}
	return v, nil
}

// form is the hidden field that every form needs, and further ones.
func (v *visit) form(more ...string) []pages.Field {
	fields := []pages.Field{{Name: "form", Value: v.FormToken()}}
	for i := 0; i+1 < len(more); i += 2 {
		fields = append(fields, pages.Field{Name: more[i], Value: more[i+1]})
	}
	return fields
}

// trouble is why a request cannot go on, as the person is told.
type trouble struct {
	status            int
	title, text, next string
}

func (t *trouble) Error() string { return t.title }

var (
	errNotFound = &trouble{http.StatusNotFound, "There is no such page", "Nothing is served at this address.", ""}
	errForm     = &trouble{http.StatusForbidden, "This form cannot be used",
		"It was not shown in this browser, or somebody else signed in since then.", "Go back, load the page again, and try once more."}
	errSignedOut = &trouble{http.StatusForbidden, "You are not signed in", "You were signed out in the meantime.",
		"Start the login again in the program that sent you here."}
	errGone = &trouble{http.StatusNotFound, "This login cannot go on",
		"It was finished already, took too long, or was begun in another browser.", "Close this page and start the login again in the program."}
	errLink = &trouble{http.StatusForbidden, "This link cannot be used", "It works once, for an hour, and only until there is an account.",
		"Restart Stile for a new one, or run “stile user add” where it runs."}
	errNotAllowed = &trouble{http.StatusForbidden, "You may not sign in here",
		"Your account is a good one, but it is not among those that may use this server.", "Ask whoever runs it."}
	errProvider = &trouble{http.StatusForbidden, "The sign-in did not work", "It was refused or broken off.",
		"Go back and try again."}
	errUnavailable = &trouble{http.StatusBadGateway, "The sign-in does not work now", "The provider that signs people in does not answer.",
		"Try again in some minutes."}
	errBusy = &trouble{http.StatusServiceUnavailable, "There are too many sign-ins at once", "Nothing was checked.", "Try again in some seconds."}
)

// tell shows why a request cannot go on. An error nobody planned for is shown as
// an id only; its text goes to the log.
func (p *Portal) tell(w http.ResponseWriter, r *http.Request, err error) {
	var t *trouble
	id := ""
	switch {
	case errors.As(err, &t):
	case errors.Is(err, ErrGone):
		t = errGone
	case errors.Is(err, people.ErrBusy), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		t = errBusy
	default:
		id = rand.Text()[:12]
		p.Log.ErrorContext(r.Context(), "sign-in and consent", "error", err, "request", id, "path", r.URL.Path)
		t = &trouble{http.StatusInternalServerError, "Something went wrong", "The server could not do this.", "Try again, and tell whoever runs it this number if it stays so."}
	}
	p.show(w, r, t.status, pages.Message{Title: t.title, Text: t.text, Next: t.next, ID: id})
}

// show writes a page.
func (p *Portal) show(w http.ResponseWriter, r *http.Request, status int, page pages.Page) {
	if err := pages.Write(w, status, page); err != nil {
		p.Log.WarnContext(r.Context(), "writing a page", "error", err, "path", r.URL.Path)
	}
}

// seeOther sends the browser to another page by GET (RFC 9700 §4.12).
func seeOther(w http.ResponseWriter, path string, query ...string) {
	w.Header().Set("Location", link(path, query...))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "same-origin")
	w.WriteHeader(http.StatusSeeOther)
}

// address is where a request came from. Headers that a proxy may add are not read:
// anybody can send them.
func address(r *http.Request) netip.Addr {
	port, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return port.Addr()
}
