package authenticate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/stile-mcp/stile/scope"
)

// mapping turns the claims of one issuer's tokens into identities. JWT and
// Introspection share it, so that a claim means the same to both.
type mapping struct {
	profile   *Profile
	names     claimNames
	audiences []string
	// anyAudience leaves aud unchecked.
	anyAudience bool
	// noAudience are the client ids whose tokens may have no aud.
	noAudience map[string]bool
	// needExpiry refuses tokens without exp.
	needExpiry bool
	skew       time.Duration
	// final are the client ids whose identities are Final.
	final map[string]bool
	keep  bool
	sets  scopeSets
}

func invalid(description string, cause error) *Error {
	return &Error{Kind: Invalid, Description: description, Err: cause}
}

var (
	errBound    = errors.New("claim cnf: the token is bound to a key, whose proof is not checked here (RFC 9449, RFC 8705)")
	errNoExpiry = errors.New("claim exp: expected one (RFC 9068 section 2.2)")
	errAudience = errors.New("claim aud: names none of the configured audiences")
	errExpired  = errors.New("claim exp: in the past")
	errEarly    = errors.New("claim nbf: in the future")
	errIssued   = errors.New("claim iat: in the future")
	errNotOne   = errors.New("the claims are those of an ID token, a refresh token or the like")
	errLong     = errors.New("claims sub and client_id: longer than 1024 bytes")
)

// maxName bounds the subject and the client id, in bytes.
const maxName = 1024

// check judges everything but the issuer and the signature.
func (m *mapping) check(c *claims, declared bool, now time.Time) *Error {
	switch {
	case c.wrong != nil:
		return invalid("the token cannot be read", c.wrong)
	case !c.expiry.set && m.needExpiry:
		return invalid("the token has no expiry", errNoExpiry)
	case c.expiry.set && !now.Before(c.expiry.Add(m.skew)):
		return invalid("the token has expired", errExpired)
	case c.notBefore.set && now.Add(m.skew).Before(c.notBefore.Time):
		return invalid("the token is not valid yet", errEarly)
	case c.issuedAt.set && now.Add(m.skew).Before(c.issuedAt.Time):
		return invalid("the token is not valid yet", errIssued)
	case !m.anyAudience && !m.meant(c):
		return invalid("the token is not meant for this server", errAudience)
	case !c.isAccessToken(declared):
		return invalid("the token is not an access token", errNotOne)
	case c.bound || strings.EqualFold(c.tokenType, "dpop"):
		return invalid("tokens that are bound to a key are not accepted here", errBound)
	case len(c.subject) > maxName || len(c.client()) > maxName:
		return invalid("the token cannot be read", errLong)
	}
	return nil
}

// meant reports whether aud names one of the configured audiences, byte for byte
// (RFC 7519 §4.1.3, REQ-04). Where there is no aud at all, the client may vouch for
// what the token is meant for, if the operator said so (DangerouslyNoAudienceClients).
func (m *mapping) meant(c *claims) bool {
	if !c.hasAudience {
		return m.noAudience[c.client()]
	}
	for _, a := range c.audience {
		if slices.Contains(m.audiences, a) {
			return true
		}
	}
	return false
}

// identity makes the identity of claims that passed every check. Raw is the
// claims set, kept where conditions need it.
func (m *mapping) identity(c *claims, raw []byte, token string) *Identity {
	id := &Identity{
		Issuer:    m.profile.Issuer,
		Subject:   c.subject,
		ClientID:  unique.Make(c.client()).Value(),
		Scopes:    m.sets.of(c.scopes, m.profile.ScopePrefix),
		TokenHash: sha256.Sum256([]byte(token)),
		Profile:   m.profile,
	}
	if c.issuedAt.set {
		id.IssuedAt = c.issuedAt.Time
	}
	if c.expiry.set {
		id.Expiry = c.expiry.Add(m.skew)
	}
	id.Final = m.final[id.ClientID]
	if id.Subject == "" {
		id.Subject, id.SubjectKind = id.ClientID, SubjectClient
	}
	if id.Subject == "" {
		// Nobody is named. What belongs to this caller then belongs to this very
		// token, never to all nameless callers of the issuer.
		id.SubjectKind = SubjectToken
		id.Subject = "token:" + hex.EncodeToString(id.TokenHash[:])
	}
	if m.keep {
		id.Claims = slices.Clone(raw)
	}
	return id
}

// client is the client id: client_id (RFC 9068 §2.2), or what issuers that do not
// write it call it: azp (OpenID Connect), appid (Entra ID), cid (Okta).
func (c *claims) client() string {
	return firstOf(firstOf(c.clientID, c.party), firstOf(c.appID, c.clientRef))
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// maxScopeSets bounds how many different scope sets of an issuer are shared.
const maxScopeSets = 1024

// scopeSets makes equal scope sets of an issuer one, since most tokens carry one
// of few. Only verified tokens reach it. The zero value is ready.
type scopeSets struct {
	mu   sync.Mutex
	sets map[string]scope.Set
}

// of splits the values of a scope claim at spaces, strips the prefix where it
// stands (some issuers want it in requests and leave it out of tokens), and drops
// duplicates and what is no scope token (RFC 6749 §3.3), which no rule can ask
// for.
func (s *scopeSets) of(values []string, prefix string) scope.Set {
	if len(values) == 0 {
		return nil
	}
	key := strings.Join(values, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	if set, ok := s.sets[key]; ok {
		return set
	}
	var set scope.Set
	seen := map[string]bool{}
	for token := range strings.SplitSeq(key, " ") {
		token = strings.TrimPrefix(token, prefix)
		if !isScopeToken(token) || seen[token] {
			continue
		}
		seen[token] = true
		set = append(set, strings.Clone(token))
	}
	if s.sets == nil || len(s.sets) >= maxScopeSets {
		s.sets = map[string]scope.Set{}
	}
	s.sets[key] = slices.Clip(set)
	return s.sets[key]
}

// isScopeToken is 1*( %x21 / %x23-5B / %x5D-7E ) (RFC 6749 §3.3).
func isScopeToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}
