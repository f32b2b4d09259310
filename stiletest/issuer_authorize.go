package stiletest

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ConsentRequest is what a user is asked.
type ConsentRequest struct {
	ClientID string
	// Subject is who is asked; empty in the call of IssuerOptions.User.
	Subject string
	// Scopes that were asked for, in their order, without duplicates.
	Scopes []string
	// Resource are the resource indicators (RFC 8707).
	Resource []string
}

// authorizationCode is what a code stands for until it is redeemed, once.
type authorizationCode struct {
	client      string
	redirectURI string
	challenge   string // PKCE S256
	subject     string
	scopes      []string
	resource    []string
	expires     time.Time
	used        bool
	family      string // of the tokens that come of it
}

// codeLifetime is short, as RFC 6749 §4.1.2 wants it.
const codeLifetime = time.Minute

// authorize is the authorization endpoint. What is wrong with the client or its
// redirect URI is told to the caller, everything else to the client by redirect
// (RFC 6749 §4.1.2.1), with iss (RFC 9207).
func (i *Issuer) authorize(event *Event, r *http.Request) answer {
	q := r.URL.Query()
	i.mu.Lock()
	client, ok := i.clients[q.Get("client_id")]
	i.mu.Unlock()
	if !ok {
		return answer{err: &OAuthError{"invalid_request", "unknown client_id"}}
	}
	target := q.Get("redirect_uri")
	if target == "" && len(client.RedirectURIs) == 1 {
		target = client.RedirectURIs[0]
	}
	if !client.redirects(target) {
		return answer{err: &OAuthError{"invalid_request", "redirect_uri is not registered"}}
	}
	ask := ConsentRequest{ClientID: client.ID, Scopes: scopeList(q.Get("scope")), Resource: q["resource"]}
	event.ClientID, event.Asked, event.Resource = ask.ClientID, ask.Scopes, ask.Resource
	back := url.Values{"iss": {i.URL()}}
	if state, ok := q["state"]; ok {
		back.Set("state", state[0])
	}
	code, err := i.decide(client, ask, q)
	if err != nil {
		back.Set("error", err.Code)
		if err.Description != "" {
			back.Set("error_description", err.Description)
		}
		return answer{location: withQuery(target, back), err: err}
	}
	event.Subject, event.Granted = code.subject, code.scopes
	code.redirectURI = q.Get("redirect_uri")
	back.Set("code", i.keepCode(code))
	return answer{location: withQuery(target, back)}
}

// decide checks an authorization request whose client is known and asks for
// consent.
func (i *Issuer) decide(client Client, ask ConsentRequest, q url.Values) (*authorizationCode, *OAuthError) {
	if err := i.checkRequest(client, ask, q); err != nil {
		return nil, err
	}
	ask.Subject = i.options.Subject
	if i.options.User != nil {
		ask.Subject = i.options.User(ConsentRequest{ClientID: ask.ClientID, Scopes: ask.Scopes, Resource: ask.Resource})
	}
	granted := ask.Scopes
	if i.options.Consent != nil {
		var err error
		if granted, err = i.options.Consent(ask); err != nil {
			var told *OAuthError
			if errors.As(err, &told) {
				return nil, told
			}
			return nil, &OAuthError{Code: "access_denied"}
		}
	}
	return &authorizationCode{
		client: client.ID, challenge: q.Get("code_challenge"), subject: ask.Subject,
		scopes: granted, resource: ask.Resource,
	}, nil
}

// checkRequest holds a request against OAuth 2.1: code only, PKCE with S256
// only, known resources.
func (i *Issuer) checkRequest(client Client, ask ConsentRequest, q url.Values) *OAuthError {
	for _, name := range []string{"client_id", "redirect_uri", "response_type", "state", "scope", "code_challenge", "code_challenge_method"} {
		if len(q[name]) > 1 {
			return &OAuthError{"invalid_request", name + " was sent more than once"}
		}
	}
	if q.Get("response_type") != "code" {
		return &OAuthError{"unsupported_response_type", "code was expected"}
	}
	if !client.may("authorization_code") {
		return &OAuthError{"unauthorized_client", "not registered for authorization_code"}
	}
	if q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256" {
		return &OAuthError{"invalid_request", "PKCE with S256 was expected"}
	}
	for _, s := range ask.Scopes {
		if !isScopeToken(s) {
			return &OAuthError{"invalid_scope", "characters of RFC 6749 section 3.3 were expected"}
		}
	}
	return i.checkResource(ask.Resource)
}

// checkResource refuses a resource that is no absolute URI without a fragment
// (RFC 8707 §2), or that is not known where the options list them.
func (i *Issuer) checkResource(list []string) *OAuthError {
	for _, raw := range list {
		u, err := url.Parse(raw)
		if err != nil || !u.IsAbs() || strings.Contains(raw, "#") {
			return &OAuthError{"invalid_target", "an absolute URI without a fragment was expected"}
		}
		if known := i.options.Resources; len(known) > 0 && !slices.Contains(known, raw) {
			return &OAuthError{"invalid_target", "unknown resource"}
		}
	}
	return nil
}

// keepCode stores a code and names it.
func (i *Issuer) keepCode(code *authorizationCode) string {
	code.expires, code.family = time.Now().Add(codeLifetime), rand.Text()
	name := rand.Text()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.codes[name] = code
	return name
}

// scopeList splits a scope parameter and drops duplicates.
func scopeList(scope string) []string {
	var list []string
	for s := range strings.FieldsSeq(scope) {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// isScopeToken reports whether s is a scope-token of RFC 6749 §3.3.
func isScopeToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// withQuery adds parameters to a redirect URI and keeps those it has.
func withQuery(uri string, add url.Values) string {
	u, err := url.Parse(uri)
	if err != nil {
		return uri
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += add.Encode()
	return u.String()
}

// form reads the parameters of a POST. They must stand in the body.
func form(r *http.Request) *OAuthError {
	if err := r.ParseForm(); err != nil || r.PostForm == nil || len(r.PostForm) == 0 {
		return &OAuthError{"invalid_request", "a form was expected in the body"}
	}
	return nil
}
