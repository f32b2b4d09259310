package stiletest

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// IssuerOptions says what an Issuer is like. The zero value is good: ES256 JWTs
// that live five minutes, every scope granted to "alice" at once, dynamic
// registration open, no refresh tokens.
type IssuerOptions struct {
	// URL is the issuer identifier. Empty: taken from the listener by
	// NewIssuerServer and Start, with Path behind it.
	URL string
	// Path is the path of the issuer identifier where URL is empty, such as
	// "/realms/acme". Default none.
	Path string
	// Algorithm signs the tokens: ES256 (default), RS256, PS256 or EdDSA.
	Algorithm string
	// Opaque makes the access tokens random strings that only introspection
	// understands, instead of JWTs (RFC 9068).
	Opaque bool
	// Lifetime is how long access tokens live. Default 5 minutes.
	Lifetime time.Duration
	// RefreshTokens lets clients that registered for it have refresh tokens,
	// which are rotated at each use; a second use ends the whole family.
	RefreshTokens bool
	// ClientCredentials offers that grant to clients with a secret.
	ClientCredentials bool
	// NoRegistration turns dynamic client registration (RFC 7591) off.
	NoRegistration bool
	// Clients are registered from the start. The client of ResourceServer always
	// is one of them.
	Clients []Client
	// Subject is the user who is signed in. Default "alice".
	Subject string
	// User chooses the user of one authorization, instead of Subject.
	User func(ConsentRequest) string
	// Consent decides which scopes are granted. Default: all that were asked
	// for. An *OAuthError is told to the client as it is, any other error
	// becomes access_denied.
	Consent func(ConsentRequest) ([]string, error)
	// Audience is the aud of tokens asked for without a resource (RFC 8707), and
	// of those that Token mints without one. Default: the issuer identifier.
	Audience []string
	// Resources, when set, are the only resource values that are known; others
	// are refused with invalid_target (RFC 8707 §2).
	Resources []string
	// Scopes is scopes_supported of the metadata. Default: left out.
	Scopes []string
	// Discovery lists the forms of the metadata URL that answer, any of the
	// Discovery constants. Empty: all of them.
	Discovery []string
	// Metadata overrides members of the metadata documents; nil removes one.
	Metadata map[string]any
	// Intercept sees every request first and returns true when it has answered
	// it. It may block, to hold an answer back. Called without locks held, from
	// many goroutines.
	Intercept func(Endpoint, http.ResponseWriter, *http.Request) bool
	// OnEvent is told of each request after it was decided. Called without
	// locks held, from many goroutines.
	OnEvent func(Event)
}

// Forms of the metadata URL of an issuer with a path (REQ-70). Without a path
// inserted and appended are the same.
const (
	DiscoveryOAuthInserted = "oauth-inserted" // RFC 8414 §3.1
	DiscoveryOAuthAppended = "oauth-appended" // what Okta serves
	DiscoveryOIDCInserted  = "oidc-inserted"
	DiscoveryOIDCAppended  = "oidc-appended" // OpenID Connect Discovery 1.0 §4
)

// Endpoint names one endpoint of an Issuer.
type Endpoint string

// The endpoints of an Issuer.
const (
	EndpointMetadata   Endpoint = "metadata"
	EndpointJWKS       Endpoint = "jwks"
	EndpointAuthorize  Endpoint = "authorize"
	EndpointToken      Endpoint = "token"
	EndpointRegister   Endpoint = "register"
	EndpointIntrospect Endpoint = "introspect"
	EndpointRevoke     Endpoint = "revoke"
)

// Issuer is an OAuth 2.1 authorization server in memory: metadata (RFC 8414 and
// OIDC), JWKS with rotation, authorization code with PKCE S256 (RFC 7636), iss
// in the response (RFC 9207), resource indicators (RFC 8707), registration
// (RFC 7591), introspection (RFC 7662) and revocation (RFC 7009). It shows no
// pages: the authorization endpoint decides by hook and redirects at once.
// It is safe for concurrent use.
type Issuer struct {
	options IssuerOptions

	mu       sync.Mutex // guards what follows
	url      string
	prefix   string // path of url
	keys     []*signingKey
	clients  map[string]Client
	codes    map[string]*authorizationCode
	refresh  map[string]*refreshGrant
	tokens   map[string]*issuedToken
	requests []*IssuerRequest
	down     bool
	drop     bool
	server   *http.Server
}

// NewIssuer makes an issuer that is not listening yet. It panics when the
// algorithm is unknown or the URL does not parse.
func NewIssuer(options IssuerOptions) *Issuer {
	if options.Algorithm == "" {
		options.Algorithm = "ES256"
	}
	if options.Lifetime == 0 {
		options.Lifetime = 5 * time.Minute
	}
	if options.Subject == "" {
		options.Subject = "alice"
	}
	i := &Issuer{
		options: options,
		clients: map[string]Client{},
		codes:   map[string]*authorizationCode{},
		refresh: map[string]*refreshGrant{},
		tokens:  map[string]*issuedToken{},
	}
	for _, c := range append([]Client{ResourceServer()}, options.Clients...) {
		i.clients[c.ID] = c
	}
	i.keys = []*signingKey{newSigningKey(options.Algorithm)}
	if options.URL != "" {
		i.setURL(options.URL)
	}
	return i
}

// NewIssuerServer makes an issuer that listens on 127.0.0.1 until t ends.
func NewIssuerServer(t testing.TB, options IssuerOptions) *Issuer {
	t.Helper()
	i := NewIssuer(options)
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	if options.URL == "" {
		i.setURL(server.URL + options.Path)
	}
	return i
}

// Start listens on addr, such as "127.0.0.1:0", and serves until Close.
func (i *Issuer) Start(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("stiletest: issuer: %w", err)
	}
	if i.options.URL == "" {
		i.setURL("http://" + listener.Addr().String() + i.options.Path)
	}
	server := &http.Server{Handler: i, ReadHeaderTimeout: 10 * time.Second}
	i.mu.Lock()
	i.server = server
	i.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
	return nil
}

// Close ends what Start began; without Start it does nothing.
func (i *Issuer) Close() error {
	i.mu.Lock()
	server := i.server
	i.server = nil
	i.mu.Unlock()
	if server == nil {
		return nil
	}
	return server.Close()
}

// URL is the issuer identifier, byte for byte as in the metadata and in iss.
func (i *Issuer) URL() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.url
}

// EndpointURL is the URL of an endpoint as the metadata names it; that of
// EndpointMetadata is the first form a client tries (RFC 8414 §3.1).
func (i *Issuer) EndpointURL(e Endpoint) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if e == EndpointMetadata {
		return strings.TrimSuffix(i.url, i.prefix) + wellKnownOAuth + i.prefix
	}
	return i.url + "/" + string(e)
}

func (i *Issuer) setURL(raw string) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		panic(fmt.Sprintf("stiletest: issuer URL %q: an absolute URL was expected", raw))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.url, i.prefix = raw, strings.TrimSuffix(u.Path, "/")
}

// ServeHTTP answers one request.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	endpoint, ok := i.endpoint(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	record := i.record(endpoint, r)
	if i.options.Intercept != nil && i.options.Intercept(endpoint, w, r) {
		return
	}
	down, drop := i.state()
	if drop {
		panic(http.ErrAbortHandler)
	}
	event := &Event{Endpoint: endpoint}
	a := answer{status: http.StatusServiceUnavailable, err: &OAuthError{Code: "temporarily_unavailable"}}
	if !down {
		a = i.handle(endpoint, event, r)
	}
	i.finish(record, event, a)
	a.write(w)
}

// handle decides one request of an endpoint.
func (i *Issuer) handle(endpoint Endpoint, event *Event, r *http.Request) answer {
	want := methodOf(endpoint)
	if head := want == http.MethodGet && r.Method == http.MethodHead; r.Method != want && !head {
		return answer{status: http.StatusMethodNotAllowed, err: &OAuthError{Code: "invalid_request", Description: "use " + want}}
	}
	switch endpoint {
	case EndpointMetadata:
		return answer{body: i.metadata()}
	case EndpointJWKS:
		return answer{body: i.keySet()}
	case EndpointAuthorize:
		return i.authorize(event, r)
	case EndpointToken:
		return i.token(event, r)
	case EndpointRegister:
		return i.register(event, r)
	case EndpointIntrospect:
		return i.introspect(event, r)
	default:
		return i.revoke(event, r)
	}
}

// methodOf is the one method an endpoint takes; HEAD goes with GET.
func methodOf(endpoint Endpoint) string {
	switch endpoint {
	case EndpointMetadata, EndpointJWKS, EndpointAuthorize:
		return http.MethodGet
	default:
		return http.MethodPost
	}
}
