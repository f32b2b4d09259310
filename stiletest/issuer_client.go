package stiletest

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Client is an OAuth client of an Issuer. A client without a Secret is public.
type Client struct {
	ID     string
	Secret string
	// RedirectURIs are compared exactly, but for the port of a loopback address
	// (RFC 8252 §7.3).
	RedirectURIs []string
	// GrantTypes it may use; nil: all that the issuer offers.
	GrantTypes []string
}

// ResourceServer is a client with a secret that every Issuer knows: what a
// gateway introspects tokens as.
func ResourceServer() Client {
	return Client{ID: "stile", Secret: "stile-secret", GrantTypes: []string{}}
}

// may reports whether the client registered for a grant type.
func (c Client) may(grant string) bool {
	return c.GrantTypes == nil || slices.Contains(c.GrantTypes, grant)
}

// redirects reports whether uri is one of the client's redirect URIs.
func (c Client) redirects(uri string) bool {
	return slices.ContainsFunc(c.RedirectURIs, func(known string) bool {
		return known == uri || sameLoopback(known, uri)
	})
}

// sameLoopback compares two redirect URIs on a loopback address without their
// ports (RFC 8252 §7.3).
func sameLoopback(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	if errA != nil || errB != nil || !isLoopback(ua) || !isLoopback(ub) || ua.Hostname() != ub.Hostname() {
		return false
	}
	ua.Host, ub.Host = "", ""
	return ua.String() == ub.String()
}

func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && ip != nil && ip.IsLoopback()
}

// authenticated is the client that sent a form, by client_secret_basic,
// client_secret_post or, where it has no secret, by its client_id alone.
func (i *Issuer) authenticated(r *http.Request) (Client, bool) {
	id, secret := r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		// RFC 6749 §2.3.1: both are form-encoded before they are joined.
		var errUser, errPassword error
		id, errUser = url.QueryUnescape(user)
		secret, errPassword = url.QueryUnescape(password)
		if errUser != nil || errPassword != nil {
			return Client{}, false
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	c, ok := i.clients[id]
	return c, ok && subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) == 1
}

// refuseClient is invalid_client (RFC 6749 §5.2).
func refuseClient(r *http.Request) answer {
	_, _, basic := r.BasicAuth()
	return answer{challenge: basic, err: &OAuthError{Code: "invalid_client", Description: "unknown client or wrong secret"}}
}

// registration is a request of RFC 7591 §2 and, with what the issuer adds, the
// answer of §3.2.1.
type registration struct {
	RedirectURIs    []string `json:"redirect_uris,omitempty"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	ClientName      string   `json:"client_name,omitempty"`
	Scope           string   `json:"scope,omitempty"`
	ApplicationType string   `json:"application_type,omitempty"`

	ClientID        string `json:"client_id"`
	IssuedAt        int64  `json:"client_id_issued_at"`
	Secret          string `json:"client_secret,omitempty"`
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"`
}

// register answers a registration (RFC 7591). The scope a client registers is
// echoed, and is no ceiling later.
func (i *Issuer) register(event *Event, r *http.Request) answer {
	var reg registration
	if err := json.NewDecoder(r.Body).Decode(&reg); err != nil {
		return answer{err: &OAuthError{"invalid_client_metadata", "a JSON object was expected"}}
	}
	if reg.GrantTypes == nil {
		reg.GrantTypes = []string{"authorization_code"}
	}
	if reg.ResponseTypes == nil {
		reg.ResponseTypes = []string{"code"}
	}
	if err := checkRegistration(&reg); err != nil {
		return answer{err: err}
	}
	reg.ClientID, reg.IssuedAt = "client-"+rand.Text()[:12], time.Now().Unix()
	if reg.AuthMethod != "none" {
		reg.Secret, reg.SecretExpiresAt = rand.Text(), new(int64)
	}
	i.mu.Lock()
	i.clients[reg.ClientID] = Client{
		ID: reg.ClientID, Secret: reg.Secret,
		RedirectURIs: reg.RedirectURIs, GrantTypes: reg.GrantTypes,
	}
	i.mu.Unlock()
	event.ClientID = reg.ClientID
	return answer{status: http.StatusCreated, body: reg}
}

// checkRegistration refuses what RFC 7591 §3.2.2 has errors for.
func checkRegistration(reg *registration) *OAuthError {
	switch reg.AuthMethod {
	case "":
		reg.AuthMethod = "client_secret_basic"
	case "none", "client_secret_basic", "client_secret_post":
	default:
		return &OAuthError{"invalid_client_metadata", "token_endpoint_auth_method is not supported"}
	}
	if slices.Contains(reg.GrantTypes, "authorization_code") && len(reg.RedirectURIs) == 0 {
		return &OAuthError{"invalid_redirect_uri", "at least one redirect URI was expected"}
	}
	for _, raw := range reg.RedirectURIs {
		u, err := url.Parse(raw)
		plain := err == nil && u.Scheme == "http" && !isLoopback(u) && u.Hostname() != "localhost"
		if err != nil || u.Scheme == "" || u.Fragment != "" || plain {
			return &OAuthError{"invalid_redirect_uri", "https, loopback http or an own scheme was expected, without a fragment"}
		}
	}
	return nil
}
