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
	"html/template"
	"net/http"
	"slices"
	"strconv"
)

//go:embed *.html style.css
var files embed.FS

var templates = template.Must(template.New("").ParseFS(files, "*.html"))

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
}

// Provider is an OpenID provider to sign in with instead.
type Provider struct {
	Name   string
	Action string
	Fields []Field
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
	Action       string
	Fields       []Field
	RedirectTo   string // origin or scheme that form-action must allow beside our own
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

// Message says one thing, such as why a request cannot go on and what to do.
type Message struct {
	Title string
	Text  string
	Next  string // what the person can do now
	ID    string // of the request, for the log
}

func (SignIn) page() (name, title string)    { return "signin.html", "Sign in" }
func (Setup) page() (name, title string)     { return "setup.html", "Create your account" }
func (c Consent) page() (name, title string) { return "consent.html", c.Title() }
func (Grants) page() (name, title string)    { return "grants.html", "Your grants" }
func (m Message) page() (name, title string) { return "message.html", m.Title }

// Title says what the person is asked.
func (c Consent) Title() string {
	if c.StepUp() {
		return c.Client + " asks for more"
	}
	return c.Client + " asks for access"
}

// StepUp reports whether the client has something already and wants more.
func (c Consent) StepUp() bool { return len(c.Granted) > 0 && len(c.New) > 0 }

// Refusals reports whether the person may leave anything out.
func (c Consent) Refusals() bool {
	return slices.ContainsFunc(c.New, func(s Scope) bool { return s.Refusable })
}

// Write sends a page. Nothing of it may be stored, framed or run.
func Write(w http.ResponseWriter, status int, p Page) error {
	name, title := p.page()
	var b bytes.Buffer
	err := templates.ExecuteTemplate(&b, name, struct {
		Title string
		Style string
		Page
	}{title, StylePath, p})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policyOf(p))
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	w.WriteHeader(status)
	_, err = w.Write(b.Bytes())
	return err
}

// policyOf is the Content-Security-Policy of a page. Browsers hold form-action
// against the redirect that follows a form too, so the place the answer goes to has
// to be allowed beside our own origin.
func policyOf(p Page) string {
	form := "'self'"
	if c, ok := p.(Consent); ok && c.RedirectTo != "" {
		form += " " + c.RedirectTo
	}
	return "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action " + form
}
