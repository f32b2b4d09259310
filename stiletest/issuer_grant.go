package stiletest

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// refreshGrant is what a refresh token stands for.
type refreshGrant struct {
	client   string
	subject  string
	scopes   []string
	resource []string
	family   string
	retired  bool
}

// tokenResponse is that of RFC 6749 §5.1.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	Scope        string `json:"scope,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
}

// token is the token endpoint.
func (i *Issuer) token(event *Event, r *http.Request) answer {
	if err := form(r); err != nil {
		return answer{err: err}
	}
	client, ok := i.authenticated(r)
	event.ClientID, event.GrantType = client.ID, r.PostFormValue("grant_type")
	if !ok {
		return refuseClient(r)
	}
	if !slices.Contains(i.grantTypes(), event.GrantType) {
		return answer{err: &OAuthError{Code: "unsupported_grant_type"}}
	}
	if !client.may(event.GrantType) {
		return answer{err: &OAuthError{"unauthorized_client", "not registered for " + event.GrantType}}
	}
	event.Asked = scopeList(r.PostFormValue("scope"))
	var g *refreshGrant
	var err *OAuthError
	switch event.GrantType {
	case "authorization_code":
		g, err = i.redeem(client, r.PostForm)
	case "refresh_token":
		g, err = i.rotate(client, r.PostForm)
	default:
		g, err = i.clientGrant(client, event.Asked, r.PostForm)
	}
	if err != nil {
		return answer{err: err}
	}
	event.Subject, event.Granted, event.Resource = g.subject, g.scopes, g.resource
	return answer{body: i.issue(client, g, event)}
}

// issue makes the tokens of a grant. A refresh token keeps all the scopes of its
// grant, an access token those that were asked for.
func (i *Issuer) issue(client Client, g *refreshGrant, event *Event) tokenResponse {
	scopes, resource := g.scopes, g.resource
	if event.GrantType == "refresh_token" && len(event.Asked) > 0 {
		scopes = event.Asked
		event.Granted = scopes
	}
	res := tokenResponse{
		AccessToken: i.mint(Claims{
			Subject: g.subject, ClientID: client.ID, Audience: resource, Scope: strings.Join(scopes, " "),
		}, g.family),
		TokenType: "Bearer",
		ExpiresIn: int64(i.options.Lifetime / time.Second),
		Scope:     strings.Join(scopes, " "),
	}
	if i.options.RefreshTokens && client.may("refresh_token") && event.GrantType != "client_credentials" {
		res.RefreshToken = rand.Text()
		i.mu.Lock()
		i.refresh[res.RefreshToken] = g
		i.mu.Unlock()
	}
	return res
}

// redeem turns a code into a grant, once. A second try ends the tokens of the
// first (RFC 6749 §4.1.2).
func (i *Issuer) redeem(client Client, form url.Values) (*refreshGrant, *OAuthError) {
	invalid := func(why string) (*refreshGrant, *OAuthError) { return nil, &OAuthError{"invalid_grant", why} }
	i.mu.Lock()
	defer i.mu.Unlock()
	code, ok := i.codes[form.Get("code")]
	switch {
	case !ok || code.client != client.ID:
		return invalid("unknown code")
	case code.used:
		i.endFamily(code.family)
		return invalid("the code was used before")
	}
	code.used = true
	switch {
	case time.Now().After(code.expires):
		return invalid("the code has expired")
	case code.redirectURI != form.Get("redirect_uri") && form.Has("redirect_uri"):
		return invalid("redirect_uri is not that of the authorization request")
	case challengeOf(form.Get("code_verifier")) != code.challenge:
		return invalid("code_verifier does not match")
	}
	resource, err := narrow(code.resource, form["resource"])
	if err != nil {
		return nil, err
	}
	return &refreshGrant{client: client.ID, subject: code.subject, scopes: code.scopes, resource: resource, family: code.family}, nil
}

// challengeOf is the S256 challenge of a verifier (RFC 7636 §4.2).
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return encode(sum[:])
}

// rotate uses up a refresh token (OAuth 2.1 §4.3.1). The use of one that was
// used before ends its family.
func (i *Issuer) rotate(client Client, form url.Values) (*refreshGrant, *OAuthError) {
	i.mu.Lock()
	defer i.mu.Unlock()
	name := form.Get("refresh_token")
	old, ok := i.refresh[name]
	if !ok || old.client != client.ID {
		return nil, &OAuthError{"invalid_grant", "unknown refresh token"}
	}
	if old.retired {
		i.endFamily(old.family)
		return nil, &OAuthError{"invalid_grant", "the refresh token was used before"}
	}
	for _, s := range scopeList(form.Get("scope")) {
		if !slices.Contains(old.scopes, s) {
			return nil, &OAuthError{"invalid_scope", "more than was granted"}
		}
	}
	resource, err := narrow(old.resource, form["resource"])
	if err != nil {
		return nil, err
	}
	next := *old
	next.resource = resource
	i.refresh[name] = &refreshGrant{client: old.client, family: old.family, retired: true}
	return &next, nil
}

// clientGrant is the grant of client_credentials: the client is its own subject.
func (i *Issuer) clientGrant(client Client, scopes []string, form url.Values) (*refreshGrant, *OAuthError) {
	if client.Secret == "" {
		return nil, &OAuthError{"unauthorized_client", "a client with a secret was expected"}
	}
	if err := i.checkResource(form["resource"]); err != nil {
		return nil, err
	}
	return &refreshGrant{client: client.ID, subject: client.ID, scopes: scopes, resource: form["resource"], family: rand.Text()}, nil
}

// narrow is the audience of a token request: all that was authorised, or the
// part of it that is asked for (RFC 8707 §2.2).
func narrow(authorised, asked []string) ([]string, *OAuthError) {
	if len(asked) == 0 {
		return authorised, nil
	}
	for _, r := range asked {
		if len(authorised) > 0 && !slices.Contains(authorised, r) {
			return nil, &OAuthError{"invalid_target", "not the resource that was authorised"}
		}
	}
	return asked, nil
}

// endFamily revokes every token of an authorization. The lock is held.
func (i *Issuer) endFamily(family string) {
	for _, t := range i.tokens {
		if t.family == family {
			t.revoked = true
		}
	}
	for _, g := range i.refresh {
		if g.family == family {
			g.retired = true
		}
	}
}

// introspect answers RFC 7662: only to clients with a secret, and nothing but
// {"active":false} about tokens that are not good.
func (i *Issuer) introspect(event *Event, r *http.Request) answer {
	if err := form(r); err != nil {
		return answer{err: err}
	}
	client, ok := i.authenticated(r)
	event.ClientID = client.ID
	if !ok || client.Secret == "" {
		return refuseClient(r)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	t, ok := i.tokens[r.PostFormValue("token")]
	now := time.Now()
	if !ok || t.revoked || !t.expiry.IsZero() && !now.Before(t.expiry) {
		return answer{body: map[string]any{"active": false}}
	}
	if nbf, ok := t.claims["nbf"].(int64); ok && now.Unix() < nbf {
		return answer{body: map[string]any{"active": false}}
	}
	body := map[string]any{"active": true, "token_type": "Bearer"}
	override(body, t.claims)
	event.Subject, _ = t.claims["sub"].(string)
	return answer{body: body}
}

// revoke answers RFC 7009: 200 whatever the token was. A refresh token takes its
// whole family along.
func (i *Issuer) revoke(event *Event, r *http.Request) answer {
	if err := form(r); err != nil {
		return answer{err: err}
	}
	client, ok := i.authenticated(r)
	event.ClientID = client.ID
	if !ok {
		return refuseClient(r)
	}
	name := r.PostFormValue("token")
	i.mu.Lock()
	defer i.mu.Unlock()
	if t, ok := i.tokens[name]; ok && t.claims["client_id"] == client.ID {
		t.revoked = true
	}
	if g, ok := i.refresh[name]; ok && g.client == client.ID {
		i.endFamily(g.family)
	}
	return answer{status: http.StatusOK}
}

// Revoke ends a token, so that introspection finds it inactive. A JWT that is
// checked by its signature stays good.
func (i *Issuer) Revoke(token string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if t, ok := i.tokens[token]; ok {
		t.revoked = true
	}
}
