package stepup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stile-mcp/stile/internal/fetch"
)

// discovery is who issues tokens for a resource.
type discovery struct {
	resource oauthex.ProtectedResourceMetadata
	issuer   issuer
	dpop     bool // the resource wants tokens that are bound to a key
}

// issuer is an authorization server's metadata.
type issuer struct {
	oauthex.AuthServerMeta
	DPoP []string `json:"dpop_signing_alg_values_supported"`

	fixed bool // it has no metadata: endpoints as 2025-03-26 fixed them
}

// discover finds the resource's metadata and its authorization server's.
func (a *account) discover(ctx context.Context, told string, old *Login) (*discovery, error) {
	d := new(discovery)
	found, err := a.findResource(ctx, told, &d.resource)
	if err != nil {
		return nil, err
	}
	if !found {
		return d, a.discoverOld(ctx, d)
	}
	return d, a.chooseIssuer(ctx, d, old)
}

// maxIssuers bounds how many of a resource's authorization servers are looked at.
const maxIssuers = 4

// chooseIssuer takes the authorization server that the client is registered with or the
// person knows already, else the first that can be used. Why the first of them cannot
// be is the error.
func (a *account) chooseIssuer(ctx context.Context, d *discovery, old *Login) error {
	servers := d.resource.AuthorizationServers
	if len(servers) == 0 {
		return errors.New("the resource's metadata names no authorization server: whoever runs it has to")
	}
	for _, known := range []string{a.t.config.Client.Issuer, issuerOf(old)} {
		if known != "" && slices.Contains(servers, known) {
			servers = []string{known}
			break
		}
	}
	var first error
	for _, id := range servers[:min(len(servers), maxIssuers)] {
		found, err := a.findIssuer(ctx, id, &d.issuer)
		if err == nil && !found {
			err = fmt.Errorf("the authorization server %s has no metadata", plain(id))
		}
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	return first
}

func issuerOf(l *Login) string {
	if l == nil {
		return ""
	}
	return l.Issuer
}

// findResource reads the protected-resource metadata where the challenge says, else
// at the well-known places (REQ-50).
func (a *account) findResource(ctx context.Context, told string, into *oauthex.ProtectedResourceMetadata) (bool, error) {
	u, err := url.Parse(a.resource)
	if err != nil {
		return false, err
	}
	inserted, root := fetch.ResourceMetadata(u)
	places := []string{inserted, root}
	if told != "" {
		places = append([]string{told}, places...)
	}
	var first error
	for _, at := range slices.Compact(places) {
		found, err := a.getJSON(ctx, at, into)
		if err != nil {
			first = cmp.Or(first, fmt.Errorf("metadata of the resource: %w", err))
			continue // it may be at the next place
		}
		if found {
			into.ScopesSupported = scopesOf(into.ScopesSupported)
			return true, checkResource(u, into.Resource)
		}
	}
	return false, first
}

// checkResource holds the resource of the metadata against the URL that is asked:
// it is that URL, or what stands above it on the same origin (RFC 9728 §3.3).
// Otherwise tokens for one server would be got for another.
func checkResource(endpoint *url.URL, resource string) error {
	r, err := url.Parse(resource)
	above := func(p string) string { return strings.TrimSuffix(p, "/") + "/" }
	if err != nil || !sameOrigin(r, endpoint) || r.User != nil || !strings.HasPrefix(above(endpoint.Path), above(r.Path)) {
		return fmt.Errorf("the metadata is of the resource %q, not of %s: whoever runs the server has to put its URL there", plain(resource), endpoint)
	}
	return nil
}

// sameOrigin compares scheme, host and port (RFC 6454 §4).
func sameOrigin(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// discoverOld is for servers of 2025-03-26, which are their own authorization
// server, with metadata at the origin or fixed endpoints.
func (a *account) discoverOld(ctx context.Context, d *discovery) error {
	u, err := url.Parse(a.resource)
	if err != nil {
		return err
	}
	origin := (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	d.resource.Resource = a.resource
	found, err := a.findIssuer(ctx, origin, &d.issuer)
	if err != nil || found {
		return err
	}
	d.issuer = issuer{fixed: true, AuthServerMeta: oauthex.AuthServerMeta{Issuer: origin, AuthorizationEndpoint: origin + "/authorize",
		TokenEndpoint: origin + "/token", RegistrationEndpoint: origin + "/register"}}
	return nil
}

// findIssuer reads an authorization server's metadata: RFC 8414 inserted, OpenID
// inserted, OpenID appended, and RFC 8414 appended as Okta has it (REQ-70).
func (a *account) findIssuer(ctx context.Context, id string, into *issuer) (bool, error) {
	if err := checkAddress(id); err != nil {
		return false, fmt.Errorf("authorization server %q: %w", plain(id), err)
	}
	var first error
	for _, at := range fetch.IssuerMetadata(id) {
		*into = issuer{}
		found, err := a.getJSON(ctx, at, into)
		if err != nil {
			first = cmp.Or(first, fmt.Errorf("metadata of the authorization server: %w", err))
			continue // it may be at the next place
		}
		if found {
			return true, into.check(id)
		}
	}
	return false, first
}

// maxAddress bounds a URL of a stranger's, in bytes.
const maxAddress = 2 << 10

// checkAddress refuses what must be neither fetched nor opened nor shown: anything but
// https, and http on this machine, in the characters of RFC 3986.
func checkAddress(address string) error {
	odd := func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}", r)
	}
	if strings.ContainsFunc(address, odd) || len(address) > maxAddress {
		return fmt.Errorf("expected a URL of at most %d characters of RFC 3986", maxAddress)
	}
	_, err := fetch.CheckURL(address, true)
	return err
}

// check refuses what would make a login unsafe: another issuer (REQ-57), no PKCE
// (REQ-56), endpoints that are not https.
func (m *issuer) check(id string) error {
	if m.Issuer != id {
		return fmt.Errorf("the metadata of %s is of another issuer: %q", id, plain(m.Issuer))
	}
	for _, endpoint := range []string{m.AuthorizationEndpoint, m.TokenEndpoint, m.RegistrationEndpoint} {
		if endpoint == "" {
			continue
		}
		if err := checkAddress(endpoint); err != nil {
			return fmt.Errorf("authorization server %s: endpoint %q: %w", id, plain(endpoint), err)
		}
	}
	if m.TokenEndpoint == "" {
		return fmt.Errorf("authorization server %s has no token endpoint", id)
	}
	return nil
}

// checkPKCE refuses an authorization server that does not say that it can do PKCE
// with S256 (REQ-56). One of 2025-03-26 without metadata cannot say.
func (m *issuer) checkPKCE() error {
	if !m.fixed && !slices.Contains(m.CodeChallengeMethodsSupported, "S256") {
		return fmt.Errorf("authorization server %s does not offer PKCE with S256, or its metadata does not say so: whoever runs it has to list code_challenge_methods_supported", m.Issuer)
	}
	return nil
}

// getJSON fetches a document. That there is none is no error.
func (a *account) getJSON(ctx context.Context, at string, into any) (bool, error) {
	got, err := a.fetch.GetJSON(ctx, at)
	if e := new(fetch.Error); errors.As(err, &e) && e.Status >= 400 && e.Status < 500 {
		return false, nil
	}
	if err != nil {
		if got.Status == http.StatusOK && !fetch.IsJSON(got.Header.Get("Content-Type")) {
			return false, nil // a page instead of a document
		}
		return false, err
	}
	if err := json.Unmarshal(got.Body, into); err != nil {
		return false, fmt.Errorf("%s: expected a JSON object: %w", at, err)
	}
	return true, nil
}
