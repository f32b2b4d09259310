package portal

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stile-mcp/stile/authserver/people"
)

// ErrGone is an authorization request that was answered, has expired, or never was.
var ErrGone = errors.New("no such authorization request")

// Core is the protocol's side. Its methods may be called by many at once.
type Core interface {
	// Pending returns an authorization request that waits for somebody, with the
	// scopes that this person has granted to its client already. Errors: ErrGone.
	Pending(ctx context.Context, id string, person people.Person) (Request, error)
	// Allow answers a request: person grants these scopes, some of those it asks
	// for, and nothing more. It returns where the browser goes. Errors: ErrGone,
	// also for whoever comes second.
	Allow(ctx context.Context, id string, person people.Person, scopes []string) (redirect string, err error)
	// Refuse answers a request with access_denied. Errors: ErrGone.
	Refuse(ctx context.Context, id string) (redirect string, err error)
	// Grants are what a person allowed, newest first.
	Grants(ctx context.Context, subject string) ([]Grant, error)
	// Revoke ends a grant of this person's, with its tokens and streams, and
	// returns what it was. Errors: ErrGone.
	Revoke(ctx context.Context, subject, grant string) (Grant, error)
}

// Request is an authorization request that was found good and waits for a person.
type Request struct {
	// Browser is what Portal.Binding returned when it came in.
	Browser string
	Client  Client
	// RedirectURI is where the answer goes.
	RedirectURI string
	// Server is what people call the server it is for.
	Server string
	// Operation is what the last challenge was about, such as delete_note; empty:
	// nothing is known of one.
	Operation string
	// Scopes are those asked for, in the order in which they are shown.
	Scopes []Scope
}

// Client is a program that asks. What it says of itself is a stranger's text.
type Client struct {
	Name string
	// Verified is the host that vouches for it (its metadata document's), or says
	// that the operator does; empty: nobody does.
	Verified string
}

// Scope is one scope of a request.
type Scope struct {
	Name        string
	Description string // the policy's sentence; may be empty
	Granted     bool   // the person granted it to this client before
	Needed      bool   // without it the request makes no sense
}

// Grant is what a person allowed a client at a server.
type Grant struct {
	ID     string
	Client Client
	Server string
	Scopes []Scope
	Since  time.Time
	Used   time.Time // zero: never
}

// Binding gives the browser of an authorization request its cookie, and returns
// what Request.Browser has to be. Call it before anything is written.
func (p *Portal) Binding(w http.ResponseWriter, r *http.Request) (string, error) {
	v, err := p.Sessions.Visit(w, r)
	if err != nil {
		return "", err
	}
	return v.Binding(), nil
}

// Entry is where the browser of an authorization request is sent to, relative to
// the public URL.
func Entry(id string) string { return pathConsent + "?" + url.Values{"request": {id}}.Encode() }

// pending returns the request that a page is about, if it was begun in this
// browser. Otherwise it does not exist, for whoever asks.
func (p *Portal) pending(ctx context.Context, v *visit, id string) (Request, error) {
	if id == "" {
		return Request{}, ErrGone
	}
	var person people.Person
	if v.person != nil {
		person = *v.person
	}
	request, err := p.Core.Pending(ctx, id, person)
	if err == nil && request.Browser != v.Binding() {
		err = ErrGone
	}
	return request, err
}

// destination is what a page says of a redirect URI: its host, or the scheme of a
// program, and whether it leads to a program on the person's own device.
func destination(redirectURI string) (host string, local bool) {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return "?", false
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return u.Scheme + ":", true
	}
	ip := net.ParseIP(u.Hostname())
	return Host(u), u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Host is the host of a stranger's URL, as a person may be shown it.
func Host(u *url.URL) string { return ascii(u.Host) }

// ascii writes letters that may only look like ours as numbers.
func ascii(host string) string {
	var b strings.Builder
	for _, r := range host {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		b.WriteString(url.PathEscape(string(r)))
	}
	return b.String()
}
