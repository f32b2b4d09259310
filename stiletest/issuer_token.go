package stiletest

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Claims says what a token of Issuer.Token is like. The zero value is a good
// token of the issuer's own user, without any scope.
type Claims struct {
	// Issuer is iss. Default: the issuer identifier.
	Issuer string
	// Subject is sub. Default: the issuer's Subject.
	Subject string
	// ClientID is client_id. Default "stiletest".
	ClientID string
	// Scope is the scope claim, space separated. Default: left out.
	Scope string
	// Audience is aud, a string where it has one member. Default: the issuer's
	// Audience.
	Audience []string
	// IssuedAt is iat. Default: now.
	IssuedAt time.Time
	// Expiry is exp. Default: IssuedAt and the issuer's Lifetime.
	Expiry time.Time
	// NotBefore is nbf. Default: left out.
	NotBefore time.Time
	// Omit names claims that are left out, such as "exp" or "iat".
	Omit []string
	// Extra sets further claims or replaces those above.
	Extra map[string]any
	// Typ is the typ of the header. Default "at+jwt" (RFC 9068 §2.1); "-" leaves
	// it out.
	Typ string
	// Kid is the kid of the header. Default: that of the key that signs; "-"
	// leaves it out.
	Kid string
	// Algorithm is the alg of the header. "none" has an empty signature, "HS256"
	// is keyed with PublicKeyPEM; any other value is only written, and the
	// signature is that of the issuer's own algorithm. Default: the issuer's.
	Algorithm string
	// Opaque makes this token opaque whatever the issuer's option is.
	Opaque bool
}

// issuedToken is what introspection knows of a token.
type issuedToken struct {
	claims  map[string]any
	expiry  time.Time // zero: no exp
	family  string    // of the authorization it came from
	revoked bool
}

// Token mints a token, good or deliberately bad. Introspection knows it, unless
// it was made with another issuer, algorithm, type or key id.
func (i *Issuer) Token(c Claims) string { return i.mint(c, "") }

func (i *Issuer) mint(c Claims, family string) string {
	claims, expiry := i.claims(c)
	var token string
	if c.Opaque || i.options.Opaque {
		token = rand.Text()
	} else {
		token = i.jwt(c, claims)
	}
	if c.Issuer != "" || c.Algorithm != "" || c.Typ != "" || c.Kid != "" {
		return token
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tokens[token] = &issuedToken{claims: claims, expiry: expiry, family: family}
	return token
}

// claims is the payload of RFC 9068 §2.2 with what c changes.
func (i *Issuer) claims(c Claims) (map[string]any, time.Time) {
	issued := c.IssuedAt
	if issued.IsZero() {
		issued = time.Now()
	}
	expiry := c.Expiry
	if expiry.IsZero() {
		expiry = issued.Add(i.options.Lifetime)
	}
	claims := map[string]any{
		"iss": cmp.Or(c.Issuer, i.URL()), "sub": cmp.Or(c.Subject, i.options.Subject),
		"client_id": cmp.Or(c.ClientID, "stiletest"), "aud": i.audience(c.Audience),
		"iat": issued.Unix(), "exp": expiry.Unix(), "jti": rand.Text(),
	}
	if c.Scope != "" {
		claims["scope"] = c.Scope
	}
	if !c.NotBefore.IsZero() {
		claims["nbf"] = c.NotBefore.Unix()
	}
	override(claims, c.Extra)
	for _, name := range c.Omit {
		delete(claims, name)
	}
	if _, ok := claims["exp"]; !ok {
		expiry = time.Time{}
	}
	return claims, expiry
}

func (i *Issuer) audience(list []string) any {
	if len(list) == 0 {
		list = i.options.Audience
	}
	switch len(list) {
	case 0:
		return i.URL()
	case 1:
		return list[0]
	}
	return list
}

// jwt signs claims as c says.
func (i *Issuer) jwt(c Claims, claims map[string]any) string {
	header := i.header(c)
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(fmt.Sprintf("stiletest: claims %v: %v", claims, err))
	}
	switch c.Algorithm {
	case "none":
		return signingInput(header, payload) + "."
	case "HS256":
		mac := hmac.New(sha256.New, i.PublicKeyPEM())
		input := signingInput(header, payload)
		mac.Write([]byte(input))
		return input + "." + encode(mac.Sum(nil))
	}
	return i.RawToken(header, payload)
}

// header is the JOSE header that c asks for.
func (i *Issuer) header(c Claims) []byte {
	key := i.signer()
	fields := map[string]any{"alg": cmp.Or(c.Algorithm, key.algorithm)}
	if c.Typ != "-" {
		fields["typ"] = cmp.Or(c.Typ, "at+jwt")
	}
	if c.Kid != "-" {
		fields["kid"] = cmp.Or(c.Kid, key.id)
	}
	header, err := json.Marshal(fields)
	if err != nil {
		panic("stiletest: header: " + err.Error())
	}
	return header
}

// RawToken signs the very bytes of header and payload with the issuer's key,
// whatever they say: for duplicate members, bad JSON and the like. A nil header
// is the one good tokens have.
func (i *Issuer) RawToken(header, payload []byte) string {
	if header == nil {
		header = i.header(Claims{})
	}
	input := signingInput(header, payload)
	return input + "." + encode(i.signer().sign([]byte(input)))
}

// signingInput is that of RFC 7515 §5.1.
func signingInput(header, payload []byte) string { return encode(header) + "." + encode(payload) }

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
