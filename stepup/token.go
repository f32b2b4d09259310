package stepup

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/fetch"
)

// TokenError is a refusal of the token endpoint (RFC 6749 §5.2).
type TokenError struct {
	Status            int
	Code, Description string
}

func (e *TokenError) Error() string {
	s := fmt.Sprintf("the token endpoint answered %d", e.Status)
	for _, more := range []string{e.Code, e.Description} {
		if more != "" {
			s += " " + more
		}
	}
	return s
}

// redeem gets a token for what the form says.
func (a *account) redeem(ctx context.Context, found *discovery, client registration, scopes []string, form url.Values) (*Login, error) {
	m := &found.issuer
	l := &Login{Resource: a.resource, ResourceID: found.resource.Resource, Issuer: m.Issuer, Asked: scopes,
		Client: client, TokenEndpoint: m.TokenEndpoint}
	if found.dpop || slices.Contains(m.DPoP, "ES256") {
		var err error
		if l.Key, err = newProofKey(); err != nil {
			return nil, err
		}
	}
	l, err := a.exchange(ctx, l, form)
	if refused := new(TokenError); errors.As(err, &refused) {
		a.forgetClient(ctx, client, m.Issuer, refused)
	}
	return l, err
}

// forgetClient drops a registration that its issuer has forgotten, so that the next
// login registers anew. One that the configuration names stays.
func (a *account) forgetClient(ctx context.Context, client registration, issuer string, refused *TokenError) {
	if client.Dynamic && slices.Contains([]string{"invalid_client", "unauthorized_client"}, refused.Code) {
		if err := a.t.config.Store.Delete(ctx, registrationName(issuer)); err != nil {
			a.t.config.Log.Warn("a registration cannot be forgotten", "issuer", issuer, "error", err)
		}
	}
}

// refresh gets a new token for what the old one had.
func (a *account) refresh(ctx context.Context, old *Login) (*Login, error) {
	l := *old
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {old.RefreshToken}}
	if old.Scopes != nil {
		form.Set("scope", strings.Join(old.Scopes, " ")) // Entra grants less without it
	}
	return a.exchange(ctx, &l, form)
}

// exchange asks the token endpoint, and puts its answer into the login.
func (a *account) exchange(ctx context.Context, l *Login, form url.Values) (*Login, error) {
	if l.ResourceID != "" {
		form.Set("resource", l.ResourceID) // REQ-54
	}
	resp, err := a.postToken(ctx, l, form)
	if err != nil {
		return nil, err
	}
	var got tokenResponse
	if err := json.Unmarshal(resp.Body, &got); err != nil && resp.Status == http.StatusOK {
		return nil, fmt.Errorf("the token endpoint's answer cannot be read: %w", err)
	}
	if resp.Status != http.StatusOK {
		return nil, &TokenError{Status: resp.Status, Code: plain(got.Error), Description: plain(got.Description)}
	}
	return l, got.into(l)
}

// tokenResponse is the answer of a token endpoint (RFC 6749 §5.1).
type tokenResponse struct {
	AccessToken  string   `json:"access_token"`
	TokenType    string   `json:"token_type"`
	ExpiresIn    lifetime `json:"expires_in"`
	RefreshToken string   `json:"refresh_token"`
	Scope        *string  `json:"scope"`
	Error        string   `json:"error"`
	Description  string   `json:"error_description"`
}

// lifetime is a number of seconds, which some write as a string. What is neither says
// nothing: the server's 401 will.
type lifetime time.Duration

// maxLifetime is longer than any token should live.
const maxLifetime = 400 * 24 * time.Hour

// UnmarshalJSON never fails.
func (l *lifetime) UnmarshalJSON(data []byte) error {
	seconds, err := strconv.ParseFloat(strings.Trim(string(data), `"`), 64)
	if err == nil && seconds > 0 {
		*l = lifetime(min(seconds, maxLifetime.Seconds()) * float64(time.Second))
	}
	return nil
}

func (r *tokenResponse) into(l *Login) error {
	if !isToken(r.AccessToken) {
		return errors.New("the token endpoint gave no access token")
	}
	switch {
	case r.TokenType == "" || strings.EqualFold(r.TokenType, "bearer"):
		l.Key = nil // it was not bound after all
	case strings.EqualFold(r.TokenType, "dpop") && l.Key != nil:
	default:
		return fmt.Errorf("the token endpoint gave a token of type %q: expected Bearer", plain(r.TokenType))
	}
	l.AccessToken, l.Expires = r.AccessToken, time.Time{}
	if r.ExpiresIn > 0 {
		l.Expires = time.Now().Add(time.Duration(r.ExpiresIn))
	}
	if r.RefreshToken != "" {
		l.RefreshToken = r.RefreshToken // rotation; an absent one keeps the old (RFC 6749 §6)
	}
	if r.Scope != nil {
		l.Scopes = strings.Fields(*r.Scope)
	}
	return nil
}

// isToken reports whether a string can stand in an Authorization header: visible ASCII
// (RFC 6749, appendix A.12), and not longer than servers take.
func isToken(s string) bool {
	return s != "" && len(s) <= 64<<10 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// postToken posts to the token endpoint as the client is registered, with a proof
// where there is a key, and once more where the server wants its nonce (RFC 9449 §8).
func (a *account) postToken(ctx context.Context, l *Login, form url.Values) (fetch.Response, error) {
	u, err := url.Parse(l.TokenEndpoint)
	if err != nil {
		return fetch.Response{}, err
	}
	for again := false; ; again = true {
		h := http.Header{"Accept": {"application/json"}}
		l.Client.authenticate(form, h)
		if l.Key != nil {
			proof, err := l.Key.prove(http.MethodPost, u, a.t.nonces.of(u), "")
			if err != nil {
				return fetch.Response{}, err
			}
			h.Set("DPoP", proof)
		}
		resp, err := a.fetch.PostForm(ctx, l.TokenEndpoint, form, h)
		if err != nil {
			return resp, err
		}
		a.t.nonces.learn(u, resp.Header)
		if again || l.Key == nil || resp.Status != http.StatusBadRequest || !strings.Contains(string(resp.Body), `"use_dpop_nonce"`) {
			return resp, nil
		}
	}
}

// authenticate proves who the client is (RFC 6749 §2.3.1). A private key signs its
// own assertion into the form beforehand.
func (r registration) authenticate(form url.Values, h http.Header) {
	switch r.Method {
	case "client_secret_basic":
		pair := url.QueryEscape(r.ID) + ":" + url.QueryEscape(r.Secret)
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	case "client_secret_post":
		form.Set("client_id", r.ID)
		form.Set("client_secret", r.Secret)
	default:
		if r.ID != "" {
			form.Set("client_id", r.ID)
		}
	}
}
