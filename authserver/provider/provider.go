// Package provider signs people in through an OpenID provider, such as a company's
// (OpenID Connect Core 1.0, code flow with PKCE).
//
// Nothing is stored between the way there and the way back: state, nonce and code
// verifier come out of the secret in the browser's own cookie, so an answer that
// was meant for another browser fits in none of the three.
package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/stile-mcp/stile/authserver/people"
)

// How a sign-in can end badly. All but ErrUnavailable are final for this attempt.
var (
	// ErrState is an answer that this browser did not ask for, or too long ago.
	ErrState = errors.New("this sign-in was not begun in this browser, or too long ago")
	// ErrRefused is the provider's own refusal.
	ErrRefused = errors.New("the provider refused the sign-in")
	// ErrNotAllowed is somebody who is on no list.
	ErrNotAllowed = errors.New("this account is not allowed to sign in here")
	// ErrUnavailable is a provider that does not answer, or not as it should.
	ErrUnavailable = errors.New("the provider cannot be asked now")
)

const (
	// requestTimeout bounds each request to the provider.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds each of its answers, in bytes.
	maxAnswer = 1 << 20
)

// Provider is an OpenID provider. It is safe for concurrent use.
type Provider struct {
	config Config
	client *http.Client

	mu    sync.Mutex // guards found, and one discovery at a time
	found *discovered
}

// discovered is what the provider says of itself.
type discovered struct {
	*oidc.Provider
	// sendsIss says that iss is in every answer (RFC 9207 §3).
	sendsIss bool
}

// New returns a provider, or every mistake in config as a problem.List. The
// provider itself is asked at the first sign-in: it may be down when Stile starts.
func New(config Config) (*Provider, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	config.applyDefaults()
	return &Provider{config: config, client: &http.Client{
		Timeout:   requestTimeout,
		Transport: bounded{config.Transport},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}, nil
}

// Host is how people know the provider: the host of its issuer.
func (p *Provider) Host() string {
	u, err := url.Parse(p.config.Issuer)
	if err != nil {
		return p.config.Issuer
	}
	return u.Host
}

// Secrets derives a secret, of 43 characters, from the browser's own. It gives the
// same for the same arguments in the same browser, and tells nothing to others.
type Secrets func(purpose string, values ...string) string

// Begin returns where to send the browser. next comes back from Finish. Errors:
// ErrUnavailable.
func (p *Provider) Begin(ctx context.Context, secrets Secrets, next string) (string, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	state := newState(secrets, next)
	return p.oauth(found).AuthCodeURL(state, oidc.Nonce(secrets("provider-nonce", state)),
		oauth2.S256ChallengeOption(secrets("provider-verifier", state))), nil
}

// Finish takes the answer that the provider sent through the browser, and returns
// who signed in. Errors: ErrState, ErrRefused, ErrNotAllowed, ErrUnavailable, all
// wrapped with the reason for the log. next is there with every error but ErrState.
func (p *Provider) Finish(ctx context.Context, secrets Secrets, answer url.Values) (person people.Person, next string, err error) {
	state := answer.Get("state")
	next, ok := openState(secrets, state)
	if !ok || len(answer["state"]) != 1 || len(answer["code"]) > 1 {
		return person, "", ErrState
	}
	found, err := p.discover(ctx)
	if err != nil {
		return person, next, err
	}
	// Before anything is believed, an error included (RFC 9207 §2.4).
	if iss := answer["iss"]; len(iss) > 1 || len(iss) == 1 && iss[0] != p.config.Issuer || len(iss) == 0 && found.sendsIss {
		return person, next, fmt.Errorf("%w: the answer is from another issuer", ErrRefused)
	}
	if code := answer.Get("error"); code != "" || answer.Get("code") == "" {
		return person, next, fmt.Errorf("%w: %.40q", ErrRefused, code)
	}
	claims, err := p.redeem(ctx, found, answer.Get("code"), state, secrets)
	if err != nil {
		return person, next, err
	}
	person, err = p.config.admit(claims)
	return person, next, err
}

// redeem exchanges a code for what the provider says of the person.
func (p *Provider) redeem(ctx context.Context, found *discovered, code, state string, secrets Secrets) (claims, error) {
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := p.oauth(found).Exchange(ctx, code, oauth2.VerifierOption(secrets("provider-verifier", state)))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.ErrorCode != "" {
			return nil, fmt.Errorf("%w: %.40q", ErrRefused, refused.ErrorCode)
		}
		return nil, fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := found.Verifier(&oidc.Config{ClientID: p.config.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: ID token: %w", ErrRefused, err)
	}
	if id.Nonce != secrets("provider-nonce", state) {
		return nil, fmt.Errorf("%w: the ID token is from another sign-in", ErrState)
	}
	var c claims
	if err := id.Claims(&c); err != nil || id.Subject == "" {
		return nil, fmt.Errorf("%w: ID token without a subject: %w", ErrRefused, err)
	}
	return c, p.ask(ctx, found, token, id.Subject, c)
}

// ask fills in what the ID token left out and a list needs, from the userinfo
// endpoint (OpenID Connect Core 1.0 §5.3).
func (p *Provider) ask(ctx context.Context, found *discovered, token *oauth2.Token, subject string, c claims) error {
	wanted := p.config.missing(c)
	if len(wanted) == 0 || found.UserInfoEndpoint() == "" {
		return nil
	}
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return fmt.Errorf("%w: userinfo: %w", ErrUnavailable, err)
	}
	var more claims
	if err := info.Claims(&more); err != nil || info.Subject != subject {
		return fmt.Errorf("%w: userinfo is about somebody else", ErrRefused)
	}
	for _, name := range wanted {
		delete(c, name) // an address of one document is not proved by the other
		if value, ok := more[name]; ok {
			c[name] = value
		}
	}
	return nil
}

// oauth is the client that Stile is at the provider.
func (p *Provider) oauth(found *discovered) *oauth2.Config {
	return &oauth2.Config{ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Endpoint: found.Endpoint(),
		RedirectURL: p.config.RedirectURL, Scopes: p.config.Scopes}
}

// discover asks the provider about itself, until it answered once.
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var more struct {
		SendsIss bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, endpoint := range []string{found.Endpoint().AuthURL, found.Endpoint().TokenURL} {
		if !safeURL(endpoint) {
			return nil, fmt.Errorf("%w: its metadata names the endpoint %.80q", ErrUnavailable, endpoint)
		}
	}
	p.found = &discovered{found, more.SendsIss}
	return p.found, nil
}

// bounded cuts answers off that are too long.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	}
	return answer, err
}
