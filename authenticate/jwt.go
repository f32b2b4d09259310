package authenticate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/internal/problem"
)

// DefaultAlgorithms are the signature algorithms accepted where none are named.
var DefaultAlgorithms = []string{"ES256", "RS256", "PS256", "EdDSA"}

// knownAlgorithms have a public key, so that nobody who can verify a token can
// make one: neither HMAC nor none is among them.
var knownAlgorithms = []string{"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"}

// jwtMaxAge is how long a verified JWT is remembered before its signature is
// checked again, so that a key that was withdrawn does not live on in a cache.
const jwtMaxAge = 5 * time.Minute

// negativeMaxAge is how long the refusal of a token is remembered.
const negativeMaxAge = 10 * time.Second

// JWTConfig is what is expected of the JWT access tokens of one issuer.
type JWTConfig struct {
	// Issuer is compared byte for byte with iss; tokens of others are Unknown.
	// Required.
	Issuer string
	// Audiences are the accepted values of aud, of which a token must name one,
	// byte for byte (REQ-04). At least one.
	Audiences []string
	// Keys are the issuer's keys. Default: a KeySet that discovers them.
	Keys *KeySet
	// Transport is that of the default Keys.
	Transport http.RoundTripper
	// Algorithms are the accepted signature algorithms (RFC 7518 §3.1).
	// Default ES256, RS256, PS256 and EdDSA. HMAC and none are refused.
	Algorithms []string
	// ClockSkew is how far the issuer's clock and ours may be apart, at most
	// 5 minutes. Default 30 s; negative is a mistake.
	ClockSkew time.Duration
	// ScopeClaims may hold the scopes, as one string or an array; the first one
	// present counts. Default scope, scp.
	ScopeClaims []string
	// ScopePrefix is stripped from the token's scopes where it stands (DES-07).
	ScopePrefix string
	// Grantable is Profile.Grantable.
	Grantable []string
	// SubjectClaim names the caller. Default sub.
	SubjectClaim string
	// NonInteractiveClients are the client ids whose identities are Final: nobody
	// can be sent to a consent page (DES-21).
	NonInteractiveClients []string
	// DangerouslyNoAudienceClients are the client ids whose tokens are accepted without aud, for
	// issuers that write none (classic tokens of Cognito, Clerk). Every API that accepts
	// this issuer's tokens of such a client can then use them here, and this gateway
	// cannot tell: list only clients that get tokens for nothing else. An aud that is
	// there must still name one of Audiences. Default: none.
	DangerouslyNoAudienceClients []string
	// RequireAccessTokenType accepts only tokens whose typ is at+jwt (RFC 9068
	// §4). Without it "JWT" and no typ are accepted too, since many issuers send
	// those, but never another type.
	RequireAccessTokenType bool
	// KeepClaims keeps the payload in Identity.Claims, for conditions that read
	// `token`.
	KeepClaims bool
}

// JWT verifies the JWT access tokens of one issuer (RFC 9068, RFC 7519). What is
// cheap comes first: size, form, algorithm, issuer, times and audience are
// looked at before a key is, and a key before the signature, so that a flood of
// bad tokens costs less than good traffic. It is safe for concurrent use.
type JWT struct {
	mapping    mapping
	keys       *KeySet
	algorithms []string
	strictType bool
}

// NewJWT checks the configuration; the error is a list of every mistake.
func NewJWT(c JWTConfig) (*JWT, error) {
	if c.ClockSkew == 0 {
		c.ClockSkew = DefaultClockSkew
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = DefaultAlgorithms
	}
	v := &JWT{keys: c.Keys, algorithms: slices.Clone(c.Algorithms), strictType: c.RequireAccessTokenType}
	v.mapping = mapping{
		profile:    &Profile{Issuer: c.Issuer, ScopePrefix: c.ScopePrefix, Grantable: slices.Clone(c.Grantable)},
		names:      newClaimNames(c.ScopeClaims, c.SubjectClaim),
		audiences:  slices.Clone(c.Audiences),
		noAudience: setOf(c.DangerouslyNoAudienceClients),
		needExpiry: true,
		skew:       c.ClockSkew,
		final:      setOf(c.NonInteractiveClients),
		keep:       c.KeepClaims,
	}
	var mistakes problem.List
	checkIssuer(&mistakes, c.Issuer)
	checkMapping(&mistakes, &v.mapping, c.ClockSkew)
	for i, alg := range c.Algorithms {
		checkAlgorithm(&mistakes, "algorithms["+strconv.Itoa(i)+"]", alg)
	}
	if c.Keys != nil && c.Keys.issuer != c.Issuer {
		mistakes.Add("keys", c.Keys.issuer, "the keys of the same issuer")
	}
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	if v.keys == nil {
		var err error
		if v.keys, err = NewKeySet(KeySetConfig{Issuer: c.Issuer, Transport: c.Transport}); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func newClaimNames(scopes []string, subject string) claimNames {
	if len(scopes) == 0 {
		scopes = defaultClaims
	}
	return claimNames{scopes: slices.Clone(scopes), subject: firstOf(subject, "sub")}
}

func checkAlgorithm(mistakes *problem.List, path, alg string) {
	want := "one of " + strings.Join(knownAlgorithms, ", ")
	switch {
	case slices.Contains(knownAlgorithms, alg):
	case strings.HasPrefix(alg, "HS"):
		mistakes.Add(path, alg, want+"; never HMAC, with which whoever checks tokens can make them")
	default:
		mistakes.Add(path, alg, want)
	}
}

// Issuer is the issuer identifier.
func (v *JWT) Issuer() string { return v.mapping.profile.Issuer }

// Profile is what later stages know of the issuer: the one value that all its
// identities share.
func (v *JWT) Profile() *Profile { return v.mapping.profile }

// Keys are the issuer's keys.
func (v *JWT) Keys() *KeySet { return v.keys }

// Ready reports whether the issuer's keys are at hand, and fetches them if not.
func (v *JWT) Ready(ctx context.Context) error { return v.keys.Ready(ctx) }

// Lifetimes bounds how long answers are remembered: see Cacheable.
func (v *JWT) Lifetimes() (positive, negative time.Duration) { return jwtMaxAge, negativeMaxAge }

// Verify verifies one token (RFC 9068 §4). The error is always an *Error: Unknown
// for what is no signed JWT of this issuer, Invalid for one that is refused, and
// Unavailable while the issuer's keys cannot be had.
func (v *JWT) Verify(ctx context.Context, token string) (*Identity, error) {
	h, refusal := v.glance(token)
	if refusal != nil {
		return nil, refusal
	}
	keys, refusal := v.keys.find(ctx, h)
	if refusal != nil {
		return nil, refusal
	}
	payload, err := verifySignature(token, h, keys)
	if err != nil {
		return nil, invalid("the signature of the token is not valid", err)
	}
	// From here on only what was signed counts, read anew.
	c, err := readClaims(payload, &v.mapping.names)
	if err != nil || c.issuer != v.mapping.profile.Issuer {
		return nil, invalid("the token cannot be read", err)
	}
	if refusal := v.mapping.check(&c, h.declared(), time.Now()); refusal != nil {
		return nil, refusal
	}
	return v.mapping.identity(&c, payload, token), nil
}

var (
	errIssuer    = errors.New("claim iss: another issuer")
	errAlgorithm = errors.New("JOSE header: alg is not among the accepted algorithms")
	errType      = errors.New("JOSE header: typ is not that of an access token")
)

// glance refuses all that can be refused without a key. Nothing it reads is
// verified yet, so nothing it returns but the header, which only chooses the key,
// is used.
func (v *JWT) glance(token string) (*header, *Error) {
	if len(token) > MaxToken {
		return nil, invalid("the token is too long", nil)
	}
	parts, err := splitCompact(token)
	if err != nil {
		return nil, &Error{Kind: Unknown, Description: "not a JWT", Err: err}
	}
	c, err := readClaims(parts.payload, &v.mapping.names)
	if err != nil {
		return nil, &Error{Kind: Unknown, Description: "not a JWT", Err: err}
	}
	if !c.hasIssuer || c.issuer != v.mapping.profile.Issuer {
		return nil, &Error{Kind: Unknown, Description: "a token of another issuer", Err: errIssuer}
	}
	if refusal := v.checkHeader(&parts.header); refusal != nil {
		return nil, refusal
	}
	return &parts.header, v.mapping.check(&c, parts.header.declared(), time.Now())
}

// refuses is glance, and a look at the keys that are at hand.
func (v *JWT) refuses(token string) *Error {
	h, refusal := v.glance(token)
	if refusal != nil {
		return refusal
	}
	return v.keys.hopeless(h)
}

func (v *JWT) checkHeader(h *header) *Error {
	switch {
	case h.wrong:
		return invalid("the token cannot be read", errHeaders)
	case !slices.Contains(v.algorithms, h.alg):
		return invalid("the token is signed in a way that is not accepted", errAlgorithm)
	case h.critical:
		return invalid("the token asks for extensions that are not known here", errCrit)
	case !h.fits() || (v.strictType && !h.declared()):
		return invalid("the token is not an access token", errType)
	}
	return nil
}

var errSignature = errors.New("signature: matches no key of the issuer")

// verifySignature returns the payload that one of the keys has signed. The
// header is read again by go-jose, which must come to the same algorithm.
func verifySignature(token string, h *header, keys []any) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(h.alg)})
	if err != nil {
		return nil, err
	}
	if len(signed.Signatures) != 1 || signed.Signatures[0].Header.KeyID != h.kid {
		return nil, fmt.Errorf("JOSE header: read in two ways")
	}
	for _, key := range keys {
		if payload, err := signed.Verify(key); err == nil {
			return payload, nil
		}
	}
	return nil, errSignature
}
