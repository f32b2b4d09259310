package provider

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

// Config says which provider, and who may sign in. Paths of mistakes are the names
// in stile.yaml.
type Config struct {
	Issuer       string // https, or http on loopback
	ClientID     string
	ClientSecret string // empty: a public client
	RedirectURL  string // where the provider sends people back to
	// Scopes are asked for. Default openid, email and profile.
	Scopes []string
	// GroupsClaim is the claim with a person's groups. Default "groups".
	GroupsClaim string
	// AllowEmails are addresses that may sign in, or "@example.com" for all of a
	// domain, in any case; only verified ones count. AllowGroups are groups whose
	// members may. At least one of them must be there.
	AllowEmails, AllowGroups []string
	// Groups are the scopes that members may grant; a person may grant those of
	// all their groups. nil: everybody may grant everything.
	Groups map[string][]string
	// Transport replaces the network. For tests.
	Transport http.RoundTripper
}

func (c *Config) applyDefaults() {
	if c.Scopes == nil {
		c.Scopes = []string{"openid", "email", "profile"}
	}
	if c.GroupsClaim == "" {
		c.GroupsClaim = "groups"
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
}

// check tells every mistake.
func (c *Config) check() error {
	var found problem.List
	if u, err := url.Parse(c.Issuer); err != nil || !safeURL(c.Issuer) || u.RawQuery != "" || u.Fragment != "" {
		found.Add("issuer", c.Issuer, "expected an https URL, or http on loopback, without query or fragment")
	}
	if c.ClientID == "" {
		found.Add("client_id", "", "expected the id that Stile has at the provider")
	}
	if len(c.AllowEmails) == 0 && len(c.AllowGroups) == 0 {
		found.Add("allow", "", "expected emails or groups: without them nobody may sign in")
	}
	for i, email := range c.AllowEmails {
		if local, domain, ok := strings.Cut(email, "@"); !ok || domain == "" || strings.ContainsAny(local+domain, "@* ") {
			found.Add(fmt.Sprintf("allow.emails[%d]", i), email, `expected an address, or "@" and a domain`)
		}
	}
	if c.Scopes != nil && !slices.Contains(c.Scopes, "openid") {
		found.Add("scopes", strings.Join(c.Scopes, " "), `expected "openid" among them`)
	}
	for group, scopes := range c.Groups {
		for _, s := range scopes {
			if !scope.ValidToken(s) {
				found.Add("groups."+group, s, "expected a scope")
			}
		}
	}
	return found.Err()
}

// claims are what the provider says of a person.
type claims map[string]any

func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// list reads a claim that is a list, or a single value.
func (c claims) list(name string) []string {
	switch value := c[name].(type) {
	case string:
		return []string{value}
	case []any:
		var all []string
		for _, v := range value {
			if s, ok := v.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// email is the person's address if the provider vouches for it, else "". Some
// write true as text.
func (c claims) email() string {
	if c["email_verified"] != true && c["email_verified"] != "true" {
		return ""
	}
	return lower(c.text("email"))
}

// missing are the claims that the userinfo endpoint is asked for: what a list needs,
// and how to call the person.
func (c *Config) missing(have claims) (names []string) {
	if _, ok := have["email"]; !ok {
		names = append(names, "email", "email_verified") // of one document, both
	}
	if _, ok := have[c.GroupsClaim]; !ok && (len(c.AllowGroups) > 0 || c.Groups != nil) {
		names = append(names, c.GroupsClaim)
	}
	return names
}

// admit returns the person that claims are about, or ErrNotAllowed.
func (c *Config) admit(have claims) (people.Person, error) {
	email, groups := have.email(), have.list(c.GroupsClaim)
	if !c.allows(email, groups) {
		return people.Person{}, ErrNotAllowed
	}
	sum := sha256.Sum256([]byte(c.Issuer + "\x00" + have.text("sub")))
	person := people.Person{Subject: "oidc-" + base64.RawURLEncoding.EncodeToString(sum[:16]), Name: have.text("sub")}
	for _, name := range []string{email, have.text("preferred_username"), have.text("name")} {
		if name != "" {
			person.Name = name
			break
		}
	}
	if c.Groups != nil {
		person.Scopes = []string{}
		for _, group := range groups {
			person.Scopes = append(person.Scopes, c.Groups[group]...)
		}
		slices.Sort(person.Scopes)
		person.Scopes = slices.Compact(person.Scopes)
	}
	return person, nil
}

func (c *Config) allows(email string, groups []string) bool {
	if at := strings.LastIndexByte(email, '@'); at > 0 {
		for _, allowed := range c.AllowEmails {
			if allowed = lower(allowed); allowed == email || allowed == email[at:] {
				return true
			}
		}
	}
	return slices.ContainsFunc(groups, func(group string) bool { return slices.Contains(c.AllowGroups, group) })
}

// lower folds ASCII only: folding more would make letters of other scripts, such
// as the Kelvin sign, equal to ours.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// safeURL reports whether a browser or a secret may be sent there.
func safeURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}
