// Package stepup is an http.RoundTripper that gets a Go program over the fence of a
// protected MCP server: it logs in when it is asked to with a 401, and steps up when
// a 403 with insufficient_scope names scopes it lacks, then sends the request again.
//
// It does what the MCP specification of 2026-07-28 asks of clients: it finds the
// metadata in every form (REQ-50, REQ-70), registers in the order of REQ-59, uses
// PKCE with S256 (REQ-56) and the resource parameter (REQ-54), holds iss against the
// recorded issuer (REQ-57), keeps credentials apart by issuer (REQ-58), and asks for
// what it had together with what is missing (REQ-53). Parallel requests share one
// login. The same operation is stepped up for a few times only, and what the last login
// asked for in vain is not asked for again at once; then the refusal is returned as it
// came, and Explanation says what can be done.
//
// Servers are not trusted: no token goes to another origin, whoever redirects; what is
// fetched is bounded in size and time; and what a person opens or reads is plain.
//
//	transport, err := stepup.New(stepup.Config{Person: browser})
//	client := &http.Client{Transport: transport}
package stepup

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/internal/fetch"
)

// Config says who logs in and how. The zero value with a Person is good: it
// registers itself where it can and keeps its logins in memory.
type Config struct {
	// Base sends the requests. Default: a clone of http.DefaultTransport.
	Base http.RoundTripper
	// Person is asked to authorise in a browser. Required unless Grant is set.
	Person Person
	// Grant gets tokens without a person instead.
	Grant Grant
	// Client is a registration made beforehand. Optional.
	Client Client
	// ClientMetadataURL is the https URL of a client id metadata document (CIMD),
	// used where the authorization server can read one. Optional.
	ClientMetadataURL string
	// ClientName is what people read at dynamic registration. Default "Stile".
	ClientName string
	// Scopes are asked for at each login beside what the server names.
	Scopes []string
	// Store keeps logins and registrations. Default: memory.
	Store Store
	// MaxStepUps is how often a login is asked for on behalf of one operation that
	// does not succeed, within ten minutes. Default 3. What the last login asked for
	// is not asked for again in that time, and ten logins that came to nothing, whatever
	// they were for, are the last ones.
	MaxStepUps int
	// MaxBody is the longest request body, in bytes, that can be sent again.
	// Longer ones, and those of unknown length, are sent once, and their 401 or
	// 403 is returned. A request with GetBody has no such limit. Default 4 MiB.
	MaxBody int64
	// LoginTimeout bounds one login, the person's time included. Default 5 min.
	LoginTimeout time.Duration
	// RootCAs are who may vouch for authorization servers. Default: the system's.
	RootCAs *x509.CertPool
	// Proxy says which proxy reaches authorization servers, as
	// http.Transport.Proxy does. Default: none.
	Proxy func(*http.Request) (*url.URL, error)
	// AllowPrivate lets a resource name authorization servers on private networks.
	// One on loopback always may.
	AllowPrivate bool
	// Log hears of logins, never of tokens. Default: discarded.
	Log *slog.Logger
}

// Client is a registration at an authorization server.
type Client struct {
	ID     string
	Secret string
	// Issuer is whose registration it is; it is used with no other, and neither is what
	// a Grant has (REQ-58). Empty: whoever the resource names at first, until a logout.
	Issuer string
}

// Transport is an http.RoundTripper that logs in and steps up. It is safe for
// concurrent use. Requests must be to https, or http to loopback; others are sent as
// they are, without a token.
type Transport struct {
	config Config

	mu       sync.Mutex
	accounts map[string]*account // by resource URL
	nonces   nonces
}

// New returns a Transport. Its error names what is missing in the configuration.
func New(c Config) (*Transport, error) {
	if c.Person == nil && c.Grant == nil {
		return nil, errors.New("stepup: neither a Person nor a Grant: expected one that gets tokens")
	}
	if c.Person != nil && c.Grant != nil {
		return nil, errors.New("stepup: a Person and a Grant: expected one of them")
	}
	if c.ClientMetadataURL != "" {
		u, err := fetch.CheckURL(c.ClientMetadataURL, false)
		if err != nil || strings.Trim(u.Path, "/") == "" {
			return nil, fmt.Errorf("stepup: client metadata URL %q: expected https with a path", c.ClientMetadataURL)
		}
	}
	if c.Base == nil {
		c.Base = http.DefaultTransport.(*http.Transport).Clone()
	}
	if c.Store == nil {
		c.Store = NewMemory()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.ClientName = cmp.Or(c.ClientName, "Stile")
	c.MaxStepUps = cmp.Or(c.MaxStepUps, 3)
	c.MaxBody = cmp.Or(c.MaxBody, 4<<20)
	c.LoginTimeout = cmp.Or(c.LoginTimeout, 5*time.Minute)
	return &Transport{config: c, accounts: map[string]*account{}}, nil
}

// account is what this process knows of one resource.
type account struct {
	t        *Transport
	resource string // the endpoint's URL, without query
	fetch    *fetch.Client

	mu       sync.Mutex
	loaded   bool
	login    *Login             // nil: nobody has logged in
	pending  *attempt           // a login under way
	efforts  map[string]*effort // by operation
	asked    time.Time          // when this process last got a login by asking for one
	accepted bool               // the server has taken its token
	unsaved  bool               // the Store has not
}

// answerTime is how long an authorization server may take for one answer: some have to
// be woken first.
const answerTime = 20 * time.Second

// resourceOf is the URL of a request's endpoint, without query.
func resourceOf(r *http.Request) string {
	u := *endpointOf(r)
	u.RawQuery, u.Fragment, u.User = "", "", nil
	return u.String()
}

// account finds the account of a request.
func (t *Transport) account(r *http.Request) *account {
	resource := resourceOf(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.accounts[resource]
	if a == nil {
		local := fetch.IsLoopback(r.URL.Hostname())
		a = &account{t: t, resource: resource, efforts: map[string]*effort{},
			fetch: fetch.New(fetch.Options{Timeout: answerTime, AllowLoopbackHTTP: local,
				AllowPrivate: local || t.config.AllowPrivate, RootCAs: t.config.RootCAs, Proxy: t.config.Proxy})}
		t.accounts[resource] = a
	}
	return a
}

// Error is why a login did not lead to a token.
type Error struct {
	Resource  string
	Operation string   // such as "tools/call delete_note"; empty at a first login
	Scopes    []string // what was asked for
	Err       error
}

func (e *Error) Error() string {
	what := "log in to " + e.Resource
	if e.Operation != "" {
		what = "get the right to " + e.Operation + " at " + e.Resource
	}
	return "stepup: could not " + what + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
