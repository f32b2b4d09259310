// Package protocol is the OAuth 2.1 core of the authorization server: it wraps
// github.com/luikyv/go-oidc and makes up for what that leaves to its user. It is the
// only package that knows the library.
//
// The library has no compare-and-swap, so that a code could be redeemed many times
// at once; does not notice that a refresh token was used twice; takes scopes and
// resources as fixed; and matches redirect URIs of loopback addresses the wrong way
// round. Storage and the checks before it close these (decision 14).
package protocol

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/luikyv/go-oidc/pkg/goidc"
	"github.com/luikyv/go-oidc/pkg/provider"

	"github.com/stile-mcp/stile/store"
)

// Paths of the endpoints.
const (
	PathAuthorize  = "/authorize"
	PathToken      = "/token"
	PathRevoke     = "/revoke"
	PathIntrospect = "/introspect"
)

// Client is a client as the protocol needs it.
type Client struct {
	ID         string
	SecretHash string // of a confidential client, as HashSecret writes it
	Method     string // token_endpoint_auth_method
	// Alone lets it have tokens of its own (client_credentials), for Scopes.
	Alone  bool
	Scopes []string
	// Introspects lets it ask about tokens.
	Introspects bool
}

// Config is what a Provider is made of; all of it is required.
type Config struct {
	Issuer    string
	Resources []string // that tokens may be for, as requests name them
	// Keys are the private keys that sign, the one in use first.
	Keys  func(ctx context.Context) ([]jose.JSONWebKey, error)
	Store store.Store
	// Client finds a client. Errors: ErrUnknown.
	Client func(ctx context.Context, id string) (Client, error)
	// Begin sends a browser to the people who decide; what it returns is kept in
	// Request.Browser.
	Begin func(w http.ResponseWriter, r *http.Request, id string) (browser string, err error)
	// Granting is asked before tokens are given on a grant; refresh tells whether it
	// is for a refresh. A *Refusal is told to the client.
	Granting func(ctx context.Context, g Grant, refresh bool) error

	AccessLifetime  time.Duration // of access tokens
	RefreshLifetime time.Duration // of refresh tokens, each
	CodeLifetime    time.Duration
	RequestLifetime time.Duration // of a request that waits for a person
}

// ErrUnknown is a client, request or grant that is not there.
var ErrUnknown = errors.New("not known")

// Refusal is an error that the client is told (RFC 6749 §5.2).
type Refusal struct{ Code, Description string }

func (r *Refusal) Error() string { return r.Code + ": " + r.Description }

// Grant is what a client was given.
type Grant struct {
	ID        string
	Subject   string
	ClientID  string
	Scopes    []string
	Resources []string
}

// Request is an authorization request that waits for a person.
type Request struct {
	ID          string
	Browser     string
	ClientID    string
	RedirectURI string
	Scopes      []string
	Resources   []string
}

// Provider answers the endpoints. It is safe for concurrent use.
type Provider struct {
	config  Config
	storage *storage
	handler http.Handler
}

// anyScope stands for every scope: which of them are known is looked at before the
// library sees a request.
const anyScope = "any"

// New returns a Provider.
func New(c Config) (*Provider, error) {
	p := &Provider{config: c, storage: &storage{store: c.Store, config: &c}}
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	keys := func(ctx context.Context) (goidc.JSONWebKeySet, error) {
		keys, err := c.Keys(ctx)
		return goidc.JSONWebKeySet{Keys: keys}, err
	}
	op, err := provider.New(
		provider.Config{Issuer: c.Issuer, Manager: p.storage, JWKS: keys, IDTokenAlgs: []goidc.SignatureAlgorithm{goidc.SigAlgES256}},
		provider.WithAuthCodeGrant(provider.AuthCodeGrantConfig{Manager: p.storage, ResponseTypes: []goidc.ResponseType{goidc.ResponseTypeCode}},
			provider.WithAuthPolicies(goidc.NewPolicy("person", func(*http.Request, *goidc.AuthnSession, *goidc.Client) bool { return true }, p.authenticate)),
			provider.WithIssuerResponseParameter(),
			provider.WithPKCE([]goidc.CodeChallengeMethod{goidc.CodeChallengeMethodSHA256}, provider.WithPKCERequired()),
			provider.WithAuthCodeLifetime(seconds(c.CodeLifetime))),
		provider.WithAuthSessionLifetime(seconds(c.RequestLifetime)),
		provider.WithRefreshTokenGrant(p.storage,
			provider.WithRefreshTokenShouldIssue(func(context.Context, *goidc.Client, *goidc.Grant) bool { return true }),
			provider.WithRefreshTokenLifetime(seconds(c.RefreshLifetime)),
			provider.WithRefreshTokenRotation()),
		provider.WithClientCredentialsGrant(),
		provider.WithDCR(p.storage, provider.WithDCREndpoint("/unused")),
		provider.WithScopes(goidc.NewDynamicScope(anyScope, func(string) bool { return true })),
		provider.WithResourceIndicators(c.Resources),
		provider.WithNoneAuthn(), provider.WithSecretBasicAuthn(), provider.WithSecretPostAuthn(),
		provider.WithClientSecretVerifier(verifySecret),
		provider.WithTokenOptions(func(context.Context, *goidc.Grant, *goidc.Client) goidc.TokenOptions {
			return goidc.NewJWTTokenOptions(goidc.SigAlgES256, seconds(c.AccessLifetime))
		}),
		provider.WithTokenRevocation(func(context.Context, *goidc.Client) bool { return true },
			provider.WithTokenRevocationRevokeGrantOnAccessToken(), provider.WithTokenRevocationEndpoint(PathRevoke)),
		provider.WithTokenIntrospection(mayIntrospect),
		provider.WithTokenIntrospectionEndpoint(PathIntrospect),
		provider.WithTokenEndpoint(PathToken), provider.WithAuthorizeEndpoint(PathAuthorize),
		provider.WithJTIConsumer(func(context.Context, string) error { return nil }), // no assertions are taken
		provider.WithGrantHandler(p.granting),
	)
	if err != nil {
		return nil, fmt.Errorf("authorization server: %w", err)
	}
	p.handler = op.Handler()
	return p, nil
}

// ServeHTTP answers the endpoints of the protocol. What comes in has been looked at:
// each parameter stands once, scopes and resources are known ones, and the redirect
// URI is one of the client's (see WithRedirect).
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// redirectKey is the key of the redirect URI that was found good.
type redirectKey struct{}

// WithRedirect says which redirect URI of the request was found to be the client's.
func WithRedirect(ctx context.Context, uri string) context.Context {
	return context.WithValue(ctx, redirectKey{}, uri)
}

// noRedirectKey is the key of a redemption that names no redirect URI.
type noRedirectKey struct{}

// WithoutRedirect says that a code is redeemed without naming its redirect URI, as
// clients do that know OAuth 2.1 only (section 10.2); PKCE holds code and client
// together.
func WithoutRedirect(ctx context.Context) context.Context {
	return context.WithValue(ctx, noRedirectKey{}, true)
}

// decisionKey is the key of a decision in a context.
type decisionKey struct{}

type decision struct {
	subject string
	scopes  []string // nil: refused
}

// browserKey is where a session keeps its browser.
const browserKey = "browser"

// authenticate is the library's question who the person is and what they grant. The
// first time it sends them to where they decide.
func (p *Provider) authenticate(w http.ResponseWriter, r *http.Request, s *goidc.AuthnSession, _ *goidc.Client) (goidc.Status, error) {
	d, decided := r.Context().Value(decisionKey{}).(decision)
	if !decided {
		browser, err := p.config.Begin(w, r, s.ID)
		if err != nil {
			return goidc.StatusFailure, goidc.NewError(goidc.ErrorCodeInternalError, "internal error")
		}
		s.Store = map[string]any{browserKey: browser}
		return goidc.StatusPending, nil
	}
	s.Store = nil
	if d.scopes == nil {
		return goidc.StatusFailure, goidc.NewError(goidc.ErrorCodeAccessDenied, "the person refused")
	}
	s.Subject, s.GrantedScopes, s.GrantedResources = d.subject, strings.Join(d.scopes, " "), s.Resources
	return goidc.StatusSuccess, nil
}

// Request returns a request that waits. Errors: ErrUnknown.
func (p *Provider) Request(ctx context.Context, id string) (Request, error) {
	s, _, err := p.storage.waiting(ctx, id)
	if err != nil {
		return Request{}, err
	}
	browser, _ := s.Store[browserKey].(string)
	return Request{ID: id, Browser: browser, ClientID: s.ClientID, RedirectURI: s.RedirectURI,
		Scopes: strings.Fields(s.Scopes), Resources: s.Resources}, nil
}

// Decide answers a request, once: with the scopes that the person grants, or nil for
// a refusal. It returns where the browser goes. Errors: ErrUnknown, also for whoever
// comes second.
func (p *Provider) Decide(ctx context.Context, id, subject string, scopes []string) (redirect string, err error) {
	if err := p.storage.claim(ctx, id); err != nil {
		return "", err
	}
	// The library answers a browser; this one shows a page of its own first.
	ctx = context.WithValue(ctx, decisionKey{}, decision{subject, scopes})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.config.Issuer+PathAuthorize+"/"+url.PathEscape(id), nil)
	if err != nil {
		return "", err
	}
	w := &landing{header: http.Header{}}
	p.handler.ServeHTTP(w, r)
	to := w.header.Get("Location")
	if w.status != http.StatusSeeOther || to == "" {
		return "", fmt.Errorf("the authorization could not be finished: status %d", w.status)
	}
	return to, nil
}

// landing is a ResponseWriter that keeps where a redirect leads.
type landing struct {
	header http.Header
	status int
}

// Header returns the header of the answer.
func (l *landing) Header() http.Header { return l.header }

// WriteHeader keeps the status.
func (l *landing) WriteHeader(status int) { l.status = status }

// Write drops the body.
func (l *landing) Write(b []byte) (int, error) { return len(b), nil }

// granting passes the library's question on.
func (p *Provider) granting(ctx context.Context, t goidc.GrantType, g *goidc.Grant) error {
	err := p.config.Granting(ctx, grantOf(g), t == goidc.GrantRefreshToken)
	var no *Refusal
	if errors.As(err, &no) {
		return goidc.NewError(goidc.ErrorCode(no.Code), no.Description)
	}
	return err
}

func grantOf(g *goidc.Grant) Grant {
	return Grant{ID: g.ID, Subject: g.Subject, ClientID: g.ClientID, Scopes: strings.Fields(g.Scopes), Resources: slices.Clone(g.Resources)}
}

// Revoke ends a grant: its refresh tokens are good no more, and Active says so of its
// access tokens. Ending one that is not there is no error.
func (p *Provider) Revoke(ctx context.Context, grant string) error {
	return p.storage.revoke(ctx, grant)
}

// Active reports whether a grant is there and not revoked.
func (p *Provider) Active(ctx context.Context, grant string) (bool, error) {
	g, _, err := p.storage.loadGrant(ctx, grant)
	if errors.Is(err, goidc.ErrNotFound) {
		return false, nil
	}
	return err == nil && g.RevokedAt == 0, err
}
