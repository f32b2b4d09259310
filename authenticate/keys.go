package authenticate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxKeys is how many keys of one document are kept.
	maxKeys = 256
	// minRSABits and maxRSABits bound RSA keys: below is too weak (RFC 7518
	// §3.3), above costs too much to verify with.
	minRSABits = 2048
	maxRSABits = 8192
)

// publicKey is one usable signature key of an issuer.
type publicKey struct {
	id  string
	alg string // the only algorithm it is for, empty: any that fits
	key any    // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
}

// fits reports whether the key can verify alg: an algorithm never chooses how
// the bytes of a key are read.
func (k *publicKey) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		switch alg {
		case "ES256":
			return key.Curve == elliptic.P256()
		case "ES384":
			return key.Curve == elliptic.P384()
		case "ES512":
			return key.Curve == elliptic.P521()
		}
	case *rsa.PublicKey:
		return len(alg) == 5 && (alg[:2] == "RS" || alg[:2] == "PS")
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

var errNoKeys = errors.New("the key document holds no key that can verify signatures")

// parseKeys reads a JWK Set (RFC 7517 §5). A key that is not understood, secret,
// or not for signatures is passed over, as §5 asks; a set without any other is an
// error, so that an empty document never replaces good keys.
func parseKeys(data []byte) ([]publicKey, error) {
	var (
		keys []publicKey
		has  bool
	)
	err := members(data, func(name []byte, value jsontext.Value) error {
		if string(name) != "keys" || value.Kind() != '[' {
			return nil
		}
		has = true
		dec := jsontext.NewDecoder(bytes.NewReader(value))
		_, _ = dec.ReadToken()
		for dec.PeekKind() != ']' && len(keys) < maxKeys {
			raw, err := dec.ReadValue()
			if err != nil {
				return err
			}
			if k, err := parseKey(raw); err == nil {
				keys = append(keys, k)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("key document: expected a JWK Set: %w", err)
	case !has:
		return nil, errors.New("key document: expected a JWK Set with an array of keys")
	case len(keys) == 0:
		return nil, errNoKeys
	}
	return keys, nil
}

var errUnfit = errors.New("not a public key for signatures")

func parseKey(raw jsontext.Value) (publicKey, error) {
	if err := forSignatures(raw); err != nil {
		return publicKey{}, err
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return publicKey{}, err
	}
	// A private key that was published is everybody's.
	if !jwk.IsPublic() || !jwk.Valid() {
		return publicKey{}, errUnfit
	}
	switch key := jwk.Key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return publicKey{}, errUnfit
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return publicKey{}, errUnfit
	}
	return publicKey{id: jwk.KeyID, alg: jwk.Algorithm, key: jwk.Key}, nil
}

// forSignatures looks at use and key_ops (RFC 7517 §4.2, §4.3) and refuses
// symmetric keys before anything is made of them.
func forSignatures(raw jsontext.Value) error {
	return members(raw, func(name []byte, value jsontext.Value) error {
		var c claims
		switch string(name) {
		case "kty":
			if c.text(name, value) == "oct" {
				return errUnfit
			}
		case "use":
			if c.text(name, value) != "sig" {
				return errUnfit
			}
		case "key_ops":
			if !slices.Contains(c.texts(name, value), "verify") {
				return errUnfit
			}
		}
		return c.wrong
	})
}

// match returns the keys that may have signed a token with this header: those of
// its kid, or without a kid the only key that fits (RFC 7515 §4.1.4).
func match(keys []publicKey, h *header) (found []any, known bool) {
	for i := range keys {
		k := &keys[i]
		if h.hasKid && k.id != h.kid {
			continue
		}
		known = true
		if k.fits(h.alg) {
			found = append(found, k.key)
		}
	}
	if !h.hasKid && len(found) > 1 {
		return nil, known
	}
	return found, known
}
