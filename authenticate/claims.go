package authenticate

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// claims are the members of a JWT payload (RFC 7519 §4.1, RFC 9068 §2.2) or of
// an introspection answer (RFC 7662 §2.2) that are judged here.
type claims struct {
	issuer, subject, clientID, party string // party is azp
	appID, clientRef                 string // appid of Entra ID and cid of Okta
	// hasIssuer tells an absent iss from an empty one.
	hasIssuer                   bool
	audience                    []string
	hasAudience                 bool // an empty list is not an absent one
	expiry, notBefore, issuedAt numericDate
	// scopes are the values of the first scope claim present.
	scopes []string
	// active is the member of RFC 7662, true only for the JSON value true.
	active bool
	// bound is true for tokens that belong to a key (cnf, RFC 7800): DPoP, mTLS.
	bound bool
	// signs that a token is not an access token.
	nonce, hash                      bool // nonce; at_hash or c_hash
	claimedType, tokenUse, tokenType string
	// wrong says which claim had the wrong type; the first one counts.
	wrong error

	scopeRank int // of the scope claim that was read, to find the first
}

// numericDate is a time in seconds since 1970 (RFC 7519 §2), unset when zero.
type numericDate struct {
	time.Time
	set bool
}

// claimNames are the claims whose names are configured.
type claimNames struct {
	scopes  []string // in order of preference
	subject string
}

// reader is a pooled jsontext.Decoder. It refuses duplicate names at every
// level, invalid UTF-8 and trailing data.
type reader struct {
	dec *jsontext.Decoder
	src bytes.Reader
	buf []byte // the name of the member at hand
}

var readers = sync.Pool{New: func() any {
	r := &reader{}
	r.dec = jsontext.NewDecoder(&r.src)
	return r
}}

var errNotObject = errors.New("expected one JSON object")

// members calls f for each member of the one JSON object in data. Name and value
// are good until f returns; the value is compact only if it was so in data.
func members(data []byte, f func(name []byte, value jsontext.Value) error) error {
	r := readers.Get().(*reader)
	defer func() {
		r.src.Reset(nil)
		readers.Put(r)
	}()
	r.src.Reset(data)
	r.dec.Reset(&r.src)
	token, err := r.dec.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != '{' {
		return errNotObject
	}
	for r.dec.PeekKind() != '}' {
		name, err := r.name()
		if err != nil {
			return err
		}
		value, err := r.dec.ReadValue()
		if err != nil {
			return err
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	if r.dec.PeekKind() != 0 {
		return errNotObject
	}
	return nil
}

// name reads a member's name into a buffer that lives until the next one, since
// reading the value moves what the decoder holds.
func (r *reader) name() ([]byte, error) {
	quoted, err := r.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	r.buf, err = jsontext.AppendUnquote(r.buf[:0], quoted)
	return r.buf, err
}

// readClaims reads a claims set strictly. An error means that it is not one JSON
// object; a claim of the wrong type is told by claims.wrong, so that the issuer
// can be looked at first.
func readClaims(data []byte, names *claimNames) (claims, error) {
	c := claims{scopeRank: len(names.scopes)}
	err := members(data, func(name []byte, value jsontext.Value) error {
		c.take(name, value)
		if string(name) == names.subject {
			c.subject = c.text(name, value)
		}
		for rank, scopes := range names.scopes[:c.scopeRank] {
			if string(name) == scopes && value.Kind() != 'n' {
				c.scopeRank, c.scopes = rank, c.texts(name, value)
			}
		}
		return nil
	})
	return c, err
}

// take keeps a claim whose name is fixed. A null is as good as absent.
func (c *claims) take(name []byte, value jsontext.Value) {
	if value.Kind() == 'n' {
		return
	}
	switch string(name) {
	case "iss":
		c.issuer, c.hasIssuer = c.text(name, value), true
	case "aud":
		c.audience, c.hasAudience = c.texts(name, value), true
	case "exp":
		c.expiry = c.date(name, value)
	case "nbf":
		c.notBefore = c.date(name, value)
	case "iat":
		c.issuedAt = c.date(name, value)
	case "client_id":
		c.clientID = c.text(name, value)
	case "azp":
		c.party = c.text(name, value)
	case "active":
		c.active = value.Kind() == 't'
	case "cnf":
		c.bound = true
	case "nonce":
		c.nonce = true
	case "at_hash", "c_hash":
		c.hash = true
	case "typ", "token_use", "token_type", "appid", "cid":
		c.mark(name, value)
	}
}

// mark keeps a claim that only some issuers use to say what a token is. Another
// type of value means something else to its issuer, and nothing here.
func (c *claims) mark(name []byte, value jsontext.Value) {
	if value.Kind() != '"' {
		return
	}
	text := c.text(name, value)
	switch string(name) {
	case "typ":
		c.claimedType = text
	case "token_use":
		c.tokenUse = text
	case "token_type":
		c.tokenType = text
	case "appid":
		c.appID = text
	case "cid":
		c.clientRef = text
	}
}

// isAccessToken tells access tokens from what the same issuer signs with the
// same key: ID tokens by at_hash, c_hash or a nonce (OpenID Connect Core §2,
// §3.3.2.11), Keycloak's kinds by the claim typ, Cognito's and Hydra's by
// token_use. Declared is true where the header's typ has said so (RFC 9068 §2.1).
func (c *claims) isAccessToken(declared bool) bool {
	switch strings.ToLower(c.claimedType) {
	case "id", "refresh", "offline", "logout":
		return false
	}
	switch strings.ToLower(c.tokenUse) {
	case "id", "id_token", "refresh", "refresh_token":
		return false
	}
	if declared {
		return true
	}
	// Keycloak before 24 repeated the nonce in access tokens, which it marks.
	marked := strings.EqualFold(c.claimedType, "bearer") || strings.HasPrefix(strings.ToLower(c.tokenUse), "access")
	return !c.hash && (!c.nonce || marked)
}

func (c *claims) fault(name []byte, want string) {
	if c.wrong == nil {
		c.wrong = fmt.Errorf("claim %.40q: expected %s", name, want)
	}
}

func (c *claims) text(name []byte, value jsontext.Value) string {
	if value.Kind() == 'n' {
		return ""
	}
	if value.Kind() != '"' {
		c.fault(name, "a string")
		return ""
	}
	if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	plain, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		c.fault(name, "a string")
	}
	return string(plain)
}

// texts reads a string or an array of strings.
func (c *claims) texts(name []byte, value jsontext.Value) []string {
	switch value.Kind() {
	case '"':
		return []string{c.text(name, value)}
	case '[':
		dec := jsontext.NewDecoder(bytes.NewReader(value))
		_, _ = dec.ReadToken()
		var list []string
		for dec.PeekKind() == '"' {
			element, _ := dec.ReadValue()
			list = append(list, c.text(name, element))
		}
		if dec.PeekKind() == ']' {
			return list
		}
	}
	c.fault(name, "a string or an array of strings")
	return nil
}

// lastSecond is the end of the year 9999. A later date is a mistake, such as
// milliseconds where seconds are meant, and would never end.
const lastSecond = 253402300799

func (c *claims) date(name []byte, value jsontext.Value) numericDate {
	if value.Kind() != '0' {
		c.fault(name, "a number of seconds")
		return numericDate{}
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < 0 || seconds > lastSecond {
		c.fault(name, "a number of seconds since 1970, before the year 10000")
		return numericDate{}
	}
	return numericDate{time.Unix(int64(seconds), 0), true}
}
