package stepup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// registration is who the client is to one issuer.
type registration struct {
	ID          string    `json:"id"`
	Secret      string    `json:"secret,omitempty"`
	Method      string    `json:"method"` // token_endpoint_auth_method
	RedirectURI string    `json:"redirect_uri,omitempty"`
	Expires     time.Time `json:"expires,omitzero"` // of the secret
	Dynamic     bool      `json:"dynamic,omitempty"`
}

// register finds the registration to use at an issuer, in the order of REQ-59: one
// made beforehand, a metadata document of the client's own, one saved or made now.
func (a *account) register(ctx context.Context, m *issuer, redirect string) (registration, error) {
	c := a.t.config
	switch {
	case c.Client.ID != "": // of this issuer, which checkIssuer saw to
		return registration{ID: c.Client.ID, Secret: c.Client.Secret, Method: methodFor(m, c.Client.Secret), RedirectURI: redirect}, nil
	case c.ClientMetadataURL != "" && m.ClientIDMetadataDocumentSupported:
		return registration{ID: c.ClientMetadataURL, Method: "none", RedirectURI: redirect}, nil
	case m.RegistrationEndpoint == "":
		return registration{}, fmt.Errorf("%s lets no client register itself: give a client id that it knows", m.Issuer)
	}
	if saved, err := a.savedRegistration(ctx, m.Issuer); err != nil || saved != nil && saved.RedirectURI == redirect {
		if err != nil {
			return registration{}, err
		}
		return *saved, nil
	}
	made, err := a.registerAnew(ctx, m, redirect)
	if err != nil {
		return registration{}, fmt.Errorf("registration at %s: %w", m.Issuer, err)
	}
	data, err := json.Marshal(made)
	if err != nil {
		return registration{}, err
	}
	return made, a.t.config.Store.Put(ctx, registrationName(m.Issuer), data)
}

// savedRegistration is the one made earlier at an issuer; nil if there is none that
// is still good.
func (a *account) savedRegistration(ctx context.Context, issuer string) (*registration, error) {
	data, err := a.t.config.Store.Get(ctx, registrationName(issuer))
	if err != nil || data == nil {
		return nil, err
	}
	r := new(registration)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("the saved registration at %s cannot be read: %w", issuer, err)
	}
	if !r.Expires.IsZero() && time.Now().After(r.Expires) {
		return nil, nil
	}
	return r, nil
}

// registered is the answer to a registration (RFC 7591 §3.2). The type of oauthex for
// it is not used: it panics at null, and hides the members of an error.
type registered struct {
	ID          string  `json:"client_id"`
	Secret      string  `json:"client_secret"`
	Expires     float64 `json:"client_secret_expires_at"` // seconds since 1970; 0: never
	Method      string  `json:"token_endpoint_auth_method"`
	Error       string  `json:"error"`
	Description string  `json:"error_description"`
}

// maxExpiry is the year 10000, which JSON has no time of any more.
const maxExpiry = 253_402_300_800

// registerAnew registers dynamically (RFC 7591). No scope is named: it would be a
// ceiling for every later step-up.
func (a *account) registerAnew(ctx context.Context, m *issuer, redirect string) (registration, error) {
	method := "none"
	if len(m.TokenEndpointAuthMethodsSupported) > 0 && !slices.Contains(m.TokenEndpointAuthMethodsSupported, "none") {
		method = methodFor(m, "secret")
	}
	asked := oauthex.ClientRegistrationMetadata{
		RedirectURIs: []string{redirect}, TokenEndpointAuthMethod: method, ClientName: a.t.config.ClientName,
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"}, ApplicationType: "native",
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return registration{}, err
	}
	resp, err := a.fetch.Post(ctx, m.RegistrationEndpoint, "application/json", body, nil)
	if err != nil {
		return registration{}, err
	}
	var got registered
	err = json.Unmarshal(resp.Body, &got)
	switch {
	case resp.Status != http.StatusCreated && resp.Status != http.StatusOK:
		return registration{}, fmt.Errorf("status %d %s %s", resp.Status, plain(got.Error), plain(got.Description))
	case err != nil:
		return registration{}, err
	case got.ID == "":
		return registration{}, errors.New("the answer has no client_id")
	}
	r := registration{ID: got.ID, Secret: got.Secret, Method: got.Method, RedirectURI: redirect, Dynamic: true}
	if 0 < got.Expires && got.Expires < maxExpiry {
		r.Expires = time.Unix(int64(got.Expires), 0)
	}
	if r.Method == "" {
		r.Method = method
	}
	return r, nil
}

// methodFor chooses how a client proves who it is.
func methodFor(m *issuer, secret string) string {
	if secret == "" {
		return "none"
	}
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		if slices.Contains(m.TokenEndpointAuthMethodsSupported, method) {
			return method
		}
	}
	return "client_secret_basic" // RFC 8414 §2: what an absent list means
}
