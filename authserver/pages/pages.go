// Package pages draws what a person sees in a browser: signing in, consenting, the
// grants given before, and what went wrong. It decides nothing and keeps nothing:
// each page is a value that goes in and HTML that comes out.
//
// Pages need no script, load one stylesheet from the same origin and may not be
// framed. Text of strangers (names of clients, descriptions) is only ever text.
package pages

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

//go:embed *.html style.css
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"name": Name, "sentence": Sentence}).ParseFS(files, "*.html"))

// StylePath is where the stylesheet is expected, below the root of the origin.
const StylePath = "/authserver/style.css"

// Style answers with the stylesheet.
func Style(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=3600")
	http.ServeFileFS(w, r, files, "style.css")
}

// Page is anything that Write can draw.
type Page interface {
	// page is the name of its template and the title of its window.
	page() (name, title string)
}

// SignIn asks who somebody is.
type SignIn struct {
	Server   string // whom it is for: the name of the MCP server, or its address
	Client   string // who sent the person here; empty at the grants page
	Action   string // where the form goes
	Fields   []Field
	Name     string // what was typed before
	Mistake  string // why the last attempt failed; empty at the first
	Provider *Provider
	Accounts bool // whether local accounts may sign in
	Nobody   bool // there is no account yet
}

// Provider is an OpenID provider to sign in with instead.
type Provider struct {
	Name string
	URL  string // where the link goes, on our own origin
}

// Setup creates the first account, from the link that the terminal printed.
type Setup struct {
	Server  string
	Action  string
	Fields  []Field
	Name    string
	Mistake string
	Least   int // characters of a password
}

// Field is a hidden field of a form.
type Field struct{ Name, Value string }

// Scope is one right, in words.
type Scope struct {
	Name        string // the scope token
	Description string // the sentence of the policy; empty if it has none
	Refusable   bool   // the person may leave it out
}

// Consent shows who asks for what, and what of it is new.
type Consent struct {
	Person       string // who is signed in
	SwitchAction string // where the form "not you" goes
	Client       string // its name, as it calls itself
	Verified     string // host that vouches for the client; empty: nobody does
	RedirectHost string // where the answer goes
	Local        bool   // the answer goes to a program on this machine
	Server       string
	Operation    string // what needed the new scopes, as "delete_note"; empty at a first login
	Granted      []Scope
	New          []Scope
	Barred       []Scope // asked for, but not this person's to allow
	Action       string
	Fields       []Field
}

// Grants lists what a person has allowed, to see and to revoke.
type Grants struct {
	Person        string
	SignOutAction string
	Fields        []Field // of the form that signs out
	Grants        []Grant
	Said          string // what was just done, as "Access of Claude was revoked."
}

// Grant is what one client may do at one server.
type Grant struct {
	Client   string
	Verified string
	Server   string
	Since    string // a day, as "25 November 2026"
	Used     string // the last day it was used; empty: never
	Scopes   []Scope
	Action   string
	Fields   []Field
}

// Leave sends the browser back to the client, by itself and by a link. A redirect
// would do for most, but browsers hold the form-action of a page against all that
// follows its form, wherever the client sends the browser next; and after a
// redirect into a program the form would stay behind as if nothing had happened.
type Leave struct {
	Client  string
	URL     string // http, https, or the scheme of a program
	Refused bool
}

// Message says one thing, such as why a request cannot go on and what to do.
type Message struct {
	Title string
	Text  string
	Next  string // what the person can do now
	ID    string // of the request, for the log
	// Back is where the person may go by a link, http or https; empty: nowhere.
	// BackTo is its host.
	Back, BackTo string
}

func (SignIn) page() (name, title string)    { return "signin.html", "Sign in" }
func (Setup) page() (name, title string)     { return "setup.html", "Create your account" }
func (c Consent) page() (name, title string) { return "consent.html", c.Title() }
func (Grants) page() (name, title string)    { return "grants.html", "Your grants" }
func (l Leave) page() (name, title string)   { return "leave.html", l.Title() }
func (m Message) page() (name, title string) { return "message.html", m.Title }

// Title says what the person is asked.
func (c Consent) Title() string {
	switch {
	case c.StepUp():
		return Name(c.Client) + " asks for more"
	case len(c.Granted) > 0:
		return Name(c.Client) + " asks for access again"
	}
	return Name(c.Client) + " asks for access"
}

// Grantable reports whether there is anything to allow.
func (c Consent) Grantable() bool { return len(c.New)+len(c.Granted) > 0 }

// Doubtful reports whether somebody else could be behind the name: nobody vouches
// for it, or any program on the device can take the answer (RFC 8252 §8.6).
func (c Consent) Doubtful() bool { return c.Verified == "" || c.Local }

// Title says where it goes.
func (l Leave) Title() string {
	if l.Refused {
		return "You refused"
	}
	return "You are signed in"
}

// address is the URL as the template may write it, once mayLeaveTo let it through.
func (l Leave) address() template.URL { return template.URL(l.URL) }

// StepUp reports whether the client has something already and wants more.
func (c Consent) StepUp() bool { return len(c.Granted) > 0 && len(c.New) > 0 }

// Refusals reports whether the person may leave anything out.
func (c Consent) Refusals() bool {
	return slices.ContainsFunc(c.New, func(s Scope) bool { return s.Refusable })
}

// contentPolicy lets a page load its stylesheet and send its form, both on our own
// origin, and nothing else.
const contentPolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"

// Write sends a page. Nothing of it may be stored, framed or run.
func Write(w http.ResponseWriter, status int, p Page) error {
	name, title := p.page()
	var refresh template.URL
	if l, ok := p.(Leave); ok {
		if !mayLeaveTo(l.URL) {
			return fmt.Errorf("a browser must not be sent to %.80q", l.URL)
		}
		refresh = l.address()
	}
	var b bytes.Buffer
	err := templates.ExecuteTemplate(&b, name, struct {
		Title, Style string
		Refresh      template.URL // after 0 seconds; empty: the page stays
		Page
	}{title, StylePath, refresh, p})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer, which would have older browsers send "Origin: null" with forms.
	h.Set("Referrer-Policy", "same-origin")
	// No Cross-Origin-Opener-Policy: clients in a browser log in in a window that they
	// open, and the page that the answer goes to needs its opener.
	w.WriteHeader(status)
	_, err = w.Write(b.Bytes())
	return err
}

// mayLeaveTo reports whether a URL leads out of the page: those that run in it, or
// read files, do not. What a client may register is narrower still.
func mayLeaveTo(s string) bool {
	u, err := url.Parse(s)
	if err != nil || strings.ContainsAny(s, " \"'<>") {
		return false
	}
	switch strings.ToLower(u.Scheme) {
	case "", "javascript", "data", "vbscript", "file", "blob", "about", "view-source", "filesystem":
		return false
	case "http", "https":
		return u.Host != ""
	}
	return true
}
