package stiletest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// The revisions NewClient speaks, one of each era.
const (
	Version2025 = "2025-11-25"
	Version2026 = "2026-07-28"
)

// ClientOptions says what a client of NewClient is like. The zero value speaks
// 2026-07-28, registers itself and follows every challenge.
type ClientOptions struct {
	// Version is the revision it asks for. Default Version2026. The go-sdk probes
	// for it with server/discover and falls back to initialize where the server
	// does not know it; Version2025 begins with initialize at once.
	Version string
	// HTTPClient sends everything: MCP, metadata, registration, tokens and the
	// visit to the authorization endpoint. Its transport may be a Recorder.
	// Default: http.DefaultClient.
	HTTPClient *http.Client
	// Client, when its ID is set, is used instead of registering one.
	Client Client
	// Token, when set, is sent with every MCP request, and no challenge is
	// followed.
	Token string
	// NoAuth sends no token and follows no challenge.
	NoAuth bool
	// RequestRefreshToken asks for refresh tokens.
	RequestRefreshToken bool
	// NoStream leaves out the GET stream of the 2025 revisions.
	NoStream bool
	// OnAuthorize is told the URL that a browser would be sent to.
	OnAuthorize func(authorizationURL string)
	// MCP are the handlers and capabilities of the MCP client; may be nil.
	MCP *mcp.ClientOptions
}

// redirectURI is where the authorization response goes: nobody listens there,
// the client reads it off the Location header.
const redirectURI = "http://127.0.0.1/callback"

// NewClient connects a go-sdk client to an MCP endpoint. It logs in when it is
// challenged by a 401 and steps up when it is challenged by a 403, with an
// authorization server that redirects at once, as Issuer does: there is no
// browser and no user. The caller closes the session.
func NewClient(ctx context.Context, endpoint string, options ClientOptions) (*mcp.ClientSession, error) {
	client := options.HTTPClient
	if client == nil {
		client = http.DefaultClient
	}
	transport := &mcp.StreamableClientTransport{
		Endpoint: endpoint, HTTPClient: client, MaxRetries: -1, DisableStandaloneSSE: options.NoStream,
	}
	switch {
	case options.Token != "":
		withToken := *client
		withToken.Transport = bearer{options.Token, client.Transport}
		transport.HTTPClient = &withToken
	case !options.NoAuth:
		handler, err := authorizer(client, options)
		if err != nil {
			return nil, fmt.Errorf("stiletest: client: %w", err)
		}
		transport.OAuthHandler = handler
	}
	version := options.Version
	if version == "" {
		version = Version2026
	}
	c := mcp.NewClient(&mcp.Implementation{Name: "stiletest", Version: "1.0.0"}, options.MCP)
	return c.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
}

// authorizer is the go-sdk's own OAuth client.
func authorizer(client *http.Client, options ClientOptions) (*auth.AuthorizationCodeHandler, error) {
	config := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL:         redirectURI,
		RequestRefreshToken: options.RequestRefreshToken,
		Client:              client,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			if options.OnAuthorize != nil {
				options.OnAuthorize(args.URL)
			}
			return visit(ctx, client, args.URL)
		},
	}
	if options.Client.ID != "" {
		config.PreregisteredClient = &oauthex.ClientCredentials{ClientID: options.Client.ID}
		if options.Client.Secret != "" {
			config.PreregisteredClient.ClientSecretAuth = &oauthex.ClientSecretAuth{ClientSecret: options.Client.Secret}
		}
		return auth.NewAuthorizationCodeHandler(config)
	}
	grants := []string{"authorization_code"}
	if options.RequestRefreshToken {
		grants = append(grants, "refresh_token")
	}
	config.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{
		Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "stiletest", RedirectURIs: []string{redirectURI},
			GrantTypes: grants, TokenEndpointAuthMethod: "none",
		},
	}
	return auth.NewAuthorizationCodeHandler(config)
}

// visit goes to the authorization endpoint as a browser would and reads the
// response off the redirect (RFC 6749 §4.1.2, RFC 9207).
func visit(ctx context.Context, client *http.Client, authorizationURL string) (*auth.AuthorizationResult, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, authorizationURL, nil)
	if err != nil {
		return nil, err
	}
	staying := *client
	staying.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := staying.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	location := res.Header.Get("Location")
	if !strings.HasPrefix(location, redirectURI) {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return nil, fmt.Errorf("authorization endpoint: a redirect to %s was expected, not %s: %s", redirectURI, res.Status, body)
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil, errors.New("authorization response: Location does not parse")
	}
	q := u.Query()
	if code := q.Get("error"); code != "" {
		return nil, &OAuthError{Code: code, Description: q.Get("error_description")}
	}
	return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
}

// bearer adds one token to every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	if b.next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return b.next.RoundTrip(r)
}
