// Package authserver is an OAuth 2.1 authorization server for MCP clients: code with
// PKCE, registration by metadata document (CIMD) and by request (DCR), resource
// indicators, refresh with rotation, revocation, introspection, and a consent page
// that shows what is new.
//
// It is an http.Handler that knows nothing of the gateway. What scopes and resources
// there are it is told in its Config. People meet it in package portal; the protocol
// itself is a library's, in internal/protocol.
package authserver

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/stile-mcp/stile/authserver/browser"
	"github.com/stile-mcp/stile/authserver/internal/protocol"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/store"
)

// Lifetimes. Codes live as long as a browser takes to hand them over.
const (
	AccessLifetime  = 10 * time.Minute
	RefreshLifetime = 30 * 24 * time.Hour
	CodeLifetime    = time.Minute
	RequestLifetime = 15 * time.Minute
)

// Resource is an endpoint that tokens may be for.
type Resource struct {
	URL  string // as its metadata names it (RFC 9728)
	Name string // what people call it
	// Baseline is what a request that names no scopes asks for.
	Baseline []string
}

// Config is what a Server is made of. Issuer, Resources, Store and Known must be
// there, and Accounts or Provider.
type Config struct {
	// Issuer is the public URL: scheme, host and port, without a path.
	Issuer    string
	Resources []Resource
	// Scopes are those that metadata lists.
	Scopes []string
	// Known reports whether a scope may be asked for. Others are left out of what
	// is granted.
	Known func(scope string) bool
	// Describe is what people are told of a scope; empty: nothing. Optional.
	Describe func(scope string) string
	// Store keeps everything; the caller closes it.
	Store store.Store
	// Clients are registered beforehand.
	Clients []Client
	// NoRegistration turns dynamic registration off. CIMD stays.
	NoRegistration bool
	// Schemes are the schemes of private-use redirect URIs that clients may
	// register, beside those with a dot in them (RFC 8252 §7.1). Nil: those of
	// well-known clients.
	Schemes []string
	// NoRefusedRefresh turns DES-34 (ii) off: a refresh is then granted although a
	// challenge is pending, and clients that refresh first never step up.
	NoRefusedRefresh bool
	// LocalDocuments lets clients have their metadata documents on loopback.
	LocalDocuments bool
	// Server is what people sign in to. Default: the host of Issuer.
	Server string
	// Provider signs people in instead of, or beside, local accounts. Optional.
	Provider portal.Provider
	// NoAccounts leaves signing in to Provider alone.
	NoAccounts bool
	// Log receives what an operator should know. Default: discarded.
	Log *slog.Logger
}

// Server is the authorization server. It is safe for concurrent use.
type Server struct {
	config   Config
	protocol *protocol.Provider
	portal   *portal.Portal
	accounts *people.Accounts // nil: there are none
	keys     keyring
	fetch    *fetch.Client
	cimd     documents
	register limiter
	asking   limiter
	pending  challenges
	mux      *http.ServeMux
}

var _ portal.Core = (*Server)(nil)

// New returns a Server. Its error says what is missing in the configuration.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &Server{config: c, fetch: fetch.New(fetch.Options{MaxBytes: maxDocument, AllowLoopbackHTTP: c.LocalDocuments, AllowPrivate: c.LocalDocuments})}
	s.cimd.fetches = rate.NewLimiter(rate.Every(fetchesEach), fetchesBurst)
	s.keys.store, s.register.rates, s.asking.rates = c.Store, registrations, authorizations
	var resources []string
	for _, r := range c.Resources {
		resources = append(resources, r.URL)
	}
	var err error
	s.protocol, err = protocol.New(protocol.Config{Issuer: c.Issuer, Resources: resources, Keys: s.keys.private, Store: c.Store,
		Client: s.protocolClient, Begin: s.begin, Granting: s.granting,
		AccessLifetime: AccessLifetime, RefreshLifetime: RefreshLifetime, CodeLifetime: CodeLifetime, RequestLifetime: RequestLifetime})
	if err != nil {
		return nil, err
	}
	sessions, err := browser.NewSessions(c.Issuer, c.Store)
	if err != nil {
		return nil, err
	}
	if !c.NoAccounts {
		s.accounts = people.NewAccounts(c.Store)
	}
	s.portal = portal.New(portal.Config{PublicURL: c.Issuer, Server: c.Server, Core: s, Sessions: sessions, Accounts: s.accounts,
		Provider: c.Provider, Limits: people.NewLimits(), Log: c.Log})
	s.routes()
	return s, nil
}

// check looks at a configuration and fills in defaults.
func (c *Config) check() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Path != "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("authserver: issuer " + c.Issuer + ": expected scheme and host without a path")
	case len(c.Resources) == 0:
		return errors.New("authserver: no resources: expected at least one")
	case c.Store == nil || c.Known == nil:
		return errors.New("authserver: Store and Known are needed")
	case c.NoAccounts && c.Provider == nil:
		return errors.New("authserver: nobody can sign in: expected local accounts or a provider")
	}
	if c.Describe == nil {
		c.Describe = func(string) string { return "" }
	}
	if c.Schemes == nil {
		c.Schemes = wellKnownSchemes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Server == "" {
		c.Server = u.Host
	}
	return nil
}

// Paths that are not the protocol's.
const (
	pathRegister = "/register"
	pathKeys     = "/authserver/jwks.json"
)

// routes says who answers what.
func (s *Server) routes() {
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("GET "+protocol.PathAuthorize, s.authorize)
	s.mux.HandleFunc("POST "+protocol.PathAuthorize, s.authorize)
	for _, path := range []string{protocol.PathToken, protocol.PathRevoke, protocol.PathIntrospect} {
		s.mux.Handle("POST "+path, readable(http.HandlerFunc(s.post)))
		s.mux.Handle("OPTIONS "+path, readable(nil))
	}
	if !s.config.NoRegistration {
		s.mux.Handle("POST "+pathRegister, readable(http.HandlerFunc(s.registerClient)))
		s.mux.Handle("OPTIONS "+pathRegister, readable(nil))
	}
	s.mux.Handle("GET "+pathKeys, readable(http.HandlerFunc(s.serveKeys)))
	for _, path := range s.metadataPaths() {
		s.mux.Handle("GET "+path, readable(http.HandlerFunc(s.serveMetadata)))
		s.mux.Handle("OPTIONS "+path, readable(nil))
	}
	s.mux.Handle(portal.Prefix, s.portal)
}

// ServeHTTP answers whatever Serves.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serves reports whether a request is one for the authorization server.
func (s *Server) Serves(r *http.Request) bool {
	_, pattern := s.mux.Handler(r)
	return pattern != "" || slices.Contains(endpoints, r.URL.Path) // with a method that is answered with 405
}

// endpoints are the paths of the protocol.
var endpoints = []string{protocol.PathAuthorize, protocol.PathToken, protocol.PathRevoke, protocol.PathIntrospect, pathRegister}

// Reserved reports whether a path belongs to the authorization server, so that no
// endpoint of another can have it.
func Reserved(path string) bool {
	return slices.Contains(endpoints, path) || strings.HasPrefix(path+"/", portal.Prefix) || strings.HasPrefix(path, "/.well-known/")
}

// SetupLink is the link with which the first account is made; empty when there is
// one.
func (s *Server) SetupLink(ctx context.Context) (string, error) { return s.portal.SetupLink(ctx) }

// Accounts are the local accounts; nil when there are none.
func (s *Server) Accounts() *people.Accounts { return s.accounts }

// PublicKeys are the keys that verify tokens, by their ids.
func (s *Server) PublicKeys(ctx context.Context) (map[string]*ecdsa.PublicKey, error) {
	keys, err := s.keys.private(ctx)
	if err != nil {
		return nil, err
	}
	public := map[string]*ecdsa.PublicKey{}
	for _, k := range keys {
		public[k.KeyID] = &k.Key.(*ecdsa.PrivateKey).PublicKey
	}
	return public, nil
}

// Active reports whether the grant of an access token, its grant_id, is there and
// not revoked.
func (s *Server) Active(ctx context.Context, grant string) (bool, error) {
	return s.protocol.Active(ctx, grant)
}

// readable lets pages of every origin read the answers: there are no cookies behind
// them. A nil handler answers a preflight.
func readable(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if h != nil {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, MCP-Protocol-Version")
		w.Header().Set("Access-Control-Max-Age", "3600")
		w.WriteHeader(http.StatusNoContent)
	})
}
