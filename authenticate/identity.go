// Package authenticate answers WHO: it reads the bearer token of a request,
// has it verified, and returns the Identity that every later stage judges by.
//
// It never writes a response; what went wrong comes back as an *Error.
package authenticate

import (
	"context"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/scope"
)

// Identity is who sent a request and what the token of that request grants.
// It is immutable once made and safe to share between goroutines.
type Identity struct {
	// Issuer is the issuer identifier, byte for byte as configured.
	Issuer string
	// Subject is the value of the issuer's subject claim. With Issuer it names
	// the owner of sessions (DES-40); it falls back to ClientID where a token
	// has no subject.
	Subject string
	// SubjectKind says what Subject is.
	SubjectKind SubjectKind
	// ClientID is the client_id claim, or else azp, appid or cid; empty when the token has
	// none of them.
	ClientID string
	// Scopes are the granted scopes in the gateway's own vocabulary: the
	// issuer's prefix is already stripped (DES-07).
	Scopes scope.Set
	// IssuedAt is the iat claim, zero when the token has none.
	IssuedAt time.Time
	// Expiry is when the token ends (exp plus the issuer's clock skew), zero
	// for credentials that do not end, such as API keys.
	Expiry time.Time
	// Recheck is how soon a token that can be revoked should be asked about again while
	// something of it lasts; zero where it cannot be.
	Recheck time.Duration
	// TokenHash is the SHA-256 of the token as it was presented.
	TokenHash [32]byte
	// Final is true where asking for more scopes cannot help: API keys, and
	// subjects that nobody can send to a consent page (DES-21).
	Final bool
	// Profile is what the gateway knows of the issuer; never nil.
	Profile *Profile
	// Claims is the token's claims set (JWT payload or introspection answer) as
	// one JSON object. It is nil unless the verifier was told to keep it, which
	// only policies whose conditions read `token` need.
	Claims jsontext.Value
}

// SubjectKind is where the subject of an identity comes from.
type SubjectKind uint8

const (
	// SubjectNamed is a subject that the token, or the API key, names.
	SubjectNamed SubjectKind = iota
	// SubjectClient is the client id of a token without a subject.
	SubjectClient
	// SubjectToken is the hash of a token that names nobody.
	SubjectToken
)

// Profile is what later stages must know of an issuer. One value is shared by
// all identities of that issuer.
type Profile struct {
	// Issuer is the issuer identifier.
	Issuer string
	// ScopePrefix is put before every scope in a challenge (DES-07).
	ScopePrefix string
	// Grantable lists the scopes the issuer can grant, exact or ending in "*".
	// Empty means any. What it cannot grant is never challenged for.
	Grantable []string
}

// Verifier verifies one kind of credential.
//
// Verify returns the identity the token stands for, or an *Error. It returns an
// *Error with Kind Unknown when the token is not of this verifier's kind at all
// (another issuer's, opaque where it wants a JWT), so that the next one is
// asked. It must be safe for concurrent use and must respect ctx. It need not
// check the size of the token (at most MaxToken bytes) or its characters
// (RFC 6750 b64token): the caller has.
type Verifier interface {
	Verify(ctx context.Context, token string) (*Identity, error)
}

// MaxToken is the longest token accepted, in bytes.
const MaxToken = 16 << 10

// Kind says what is wrong with a request's credentials.
type Kind uint8

const (
	// Missing says that no credentials were sent. 401 without an error code (DES-15).
	Missing Kind = iota + 1
	// Malformed is credentials that cannot be read, sent twice or in the wrong
	// place. 400 invalid_request (DES-16, RFC 6750 §3.1).
	Malformed
	// Invalid says that a token was read and refused. 401 invalid_token.
	Invalid
	// Unavailable says that it cannot be told now, because keys or introspection are out
	// of reach. 503 with Retry-After and no challenge (DES-26).
	Unavailable
	// Unknown is a token that is not of this verifier's kind. Never leaves this package:
	// when no verifier knows the token it becomes Invalid.
	Unknown
)

// Error is why a request has no Identity.
type Error struct {
	Kind Kind
	// Description may be shown to the client. It is made of the characters
	// [A-Za-z0-9 ._:/-] and names nothing that came from the token.
	Description string
	// RetryAfter is set with Unavailable, at least one second.
	RetryAfter time.Duration
	// Err is the cause, for the log only. It never contains the token.
	Err error
}

// Error returns the description and, for the log, the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Description
	}
	return e.Description + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
