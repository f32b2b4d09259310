package authenticate

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// header is the JOSE header of a token (RFC 7515 §4.1), as far as it decides.
// Keys that a token brings along (jwk, jku, x5u, x5c) are never looked at.
type header struct {
	alg, kid, typ string
	hasAlg        bool
	hasKid        bool
	critical      bool
	wrong         bool
}

var (
	errNotJWT  = errors.New("not a signed JWT in compact form")
	strictB64  = base64.RawURLEncoding.Strict()
	errHeaders = errors.New("JOSE header: alg, kid and typ must be strings")
	errCrit    = errors.New("JOSE header: crit asks for extensions that are not known here")
)

// compact is a signed JWT, taken apart but not verified (RFC 7515 §7.1).
type compact struct {
	header  header
	payload []byte
}

// splitCompact takes a token apart. An error means that it is no JWT at all, such
// as an opaque token or an encrypted one (five parts, RFC 7516).
func splitCompact(token string) (compact, error) {
	head, rest, ok := strings.Cut(token, ".")
	if !ok {
		return compact{}, errNotJWT
	}
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return compact{}, errNotJWT
	}
	raw, err := decodePart(head)
	if err != nil {
		return compact{}, err
	}
	h, err := readHeader(raw)
	if err != nil {
		return compact{}, err
	}
	// Strict decoding refuses a second spelling of the same signature.
	if _, err := decodePart(signature); err != nil {
		return compact{}, err
	}
	payload, err := decodePart(body)
	return compact{h, payload}, err
}

// decodePart refuses what encoding/base64 lets through: line ends.
func decodePart(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, errNotJWT
	}
	return strictB64.DecodeString(part)
}

func readHeader(raw []byte) (header, error) {
	var h header
	err := members(raw, func(name []byte, value jsontext.Value) error {
		switch string(name) {
		case "alg":
			h.alg, h.hasAlg = h.text(value), true
		case "kid":
			h.kid, h.hasKid = h.text(value), true
		case "typ":
			h.typ = h.text(value)
		case "crit":
			h.critical = true
		}
		return nil
	})
	if err == nil && !h.hasAlg {
		err = errNotJWT
	}
	return h, err
}

func (h *header) text(value jsontext.Value) string {
	if value.Kind() != '"' {
		h.wrong = true
		return ""
	}
	plain, err := jsontext.AppendUnquote(nil, value)
	h.wrong = h.wrong || err != nil
	return string(plain)
}

// accessTokenTypes are the values of typ that say access token (RFC 9068 §2.1).
var accessTokenTypes = []string{"at+jwt", "application/at+jwt"}

// declared reports whether typ says that this is an access token, and fits
// whether it may be one: many issuers send "JWT" or nothing. Every other type
// (logout+jwt, dpop+jwt, oauth-id-jag+jwt) is something else. Media types are
// compared without case (RFC 7515 §4.1.9).
func (h *header) declared() bool { return slices.Contains(accessTokenTypes, strings.ToLower(h.typ)) }

func (h *header) fits() bool { return h.declared() || h.typ == "" || strings.EqualFold(h.typ, "jwt") }
