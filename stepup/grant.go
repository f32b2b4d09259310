package stepup

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

var errKey = errors.New("expected a private key of the curve P-256")

// Grant gets tokens without a person. ClientCredentials, JWTBearer and
// EnterpriseManaged are the ones there are.
type Grant interface {
	token(ctx context.Context, a *account, found *discovery, scopes []string) (*Login, error)
}

// ClientCredentials is the grant of a program that acts for itself (RFC 6749 §4.4,
// REQ-80): Config.Client with its secret, or with a key that signs (RFC 7523).
type ClientCredentials struct {
	// Key signs client assertions (private_key_jwt) where there is no secret.
	Key crypto.Signer
	// Algorithm is that of Key, such as ES256.
	Algorithm string
	// KeyID is kid in the header of assertions. Optional.
	KeyID string
}

func (g *ClientCredentials) token(ctx context.Context, a *account, found *discovery, scopes []string) (*Login, error) {
	client, err := a.knownClient(&found.issuer)
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	if g.Key != nil {
		client.Method = "private_key_jwt"
		assertion, err := g.assertion(client.ID, found.issuer.Issuer)
		if err != nil {
			return nil, err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	return a.redeem(ctx, found, client, scopes, form)
}

// assertion is a JWT by which the client proves who it is (RFC 7523 §2.2, §3).
func (g *ClientCredentials) assertion(id, issuer string) (string, error) {
	options := (&jose.SignerOptions{}).WithType("JWT")
	if g.KeyID != "" {
		options.WithHeader("kid", g.KeyID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(g.Algorithm), Key: g.Key}, options)
	if err != nil {
		return "", fmt.Errorf("client assertion with %s: %w", g.Algorithm, err)
	}
	now := time.Now()
	return sign(signer, map[string]any{"iss": id, "sub": id, "aud": issuer, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix()})
}

// knownClient is the registration that a grant without a person needs beforehand.
func (a *account) knownClient(m *issuer) (registration, error) {
	if a.t.config.Client.ID == "" {
		return registration{}, errors.New("this grant needs a client id that the authorization server knows")
	}
	return a.register(context.Background(), m, "")
}

// JWTBearer is the grant of a workload with an assertion of its own platform
// (RFC 7523 §2.1).
type JWTBearer struct {
	// Assertion returns the JWT; it is asked for each token.
	Assertion func(ctx context.Context) (string, error)
}

const grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

func (g *JWTBearer) token(ctx context.Context, a *account, found *discovery, scopes []string) (*Login, error) {
	assertion, err := g.Assertion(ctx)
	if err != nil {
		return nil, fmt.Errorf("assertion of the workload: %w", err)
	}
	client := registration{Method: "none"}
	if a.t.config.Client.ID != "" {
		if client, err = a.knownClient(&found.issuer); err != nil {
			return nil, err
		}
	}
	return a.bearerGrant(ctx, found, client, scopes, assertion)
}

func (a *account) bearerGrant(ctx context.Context, found *discovery, client registration, scopes []string, assertion string) (*Login, error) {
	form := url.Values{"grant_type": {grantJWTBearer}, "assertion": {assertion}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	return a.redeem(ctx, found, client, scopes, form)
}

// EnterpriseManaged is enterprise-managed authorization (REQ-81): the company's
// identity provider turns the person's id token into an assertion for the resource's
// own authorization server (ID-JAG), which gives the token.
type EnterpriseManaged struct {
	// Provider is the issuer of the identity provider.
	Provider string
	// TokenEndpoint is the provider's. Default: as its metadata says.
	TokenEndpoint string
	// Client is how this program is known to the provider.
	Client Client
	// IDToken returns the person's id token; it is asked for each token.
	IDToken func(ctx context.Context) (string, error)
}

func (g *EnterpriseManaged) token(ctx context.Context, a *account, found *discovery, scopes []string) (*Login, error) {
	client, err := a.knownClient(&found.issuer)
	if err != nil {
		return nil, err
	}
	if len(found.issuer.GrantTypesSupported) > 0 && !slices.Contains(found.issuer.GrantTypesSupported, grantJWTBearer) {
		return nil, fmt.Errorf("%s does not take assertions of identity providers", found.issuer.Issuer)
	}
	assertion, err := g.exchange(ctx, a, found, scopes)
	if err != nil {
		return nil, fmt.Errorf("identity provider %s: %w", g.Provider, err)
	}
	return a.bearerGrant(ctx, found, client, scopes, assertion)
}

// exchange gets the assertion from the identity provider (RFC 8693).
func (g *EnterpriseManaged) exchange(ctx context.Context, a *account, found *discovery, scopes []string) (string, error) {
	idToken, err := g.IDToken(ctx)
	if err != nil {
		return "", err
	}
	endpoint := g.TokenEndpoint
	if endpoint == "" {
		var m issuer
		ok, err := a.findIssuer(ctx, g.Provider, &m)
		if err != nil || !ok {
			return "", errors.Join(errors.New("no metadata"), err)
		}
		endpoint = m.TokenEndpoint
	}
	const idJAG = "urn:ietf:params:oauth:token-type:id-jag"
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "requested_token_type": {idJAG},
		"audience": {found.issuer.Issuer}, "resource": {found.resource.Resource}, "subject_token": {idToken},
		"subject_token_type": {oauthex.TokenTypeIDToken}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	l := &Login{TokenEndpoint: endpoint, Client: registration{ID: g.Client.ID, Secret: g.Client.Secret, Method: "none"}}
	if g.Client.Secret != "" {
		l.Client.Method = "client_secret_post"
	}
	resp, err := a.postToken(ctx, l, form)
	if err != nil {
		return "", err
	}
	var got struct {
		tokenResponse
		Type string `json:"issued_token_type"`
	}
	err = json.Unmarshal(resp.Body, &got)
	switch {
	case resp.Status != 200:
		return "", &TokenError{Status: resp.Status, Code: plain(got.Error), Description: plain(got.Description)}
	case err != nil || got.AccessToken == "" || got.Type != idJAG:
		return "", errors.New("the token exchange gave no assertion (ID-JAG)")
	}
	return got.AccessToken, nil
}
