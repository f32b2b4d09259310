package stiletest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// signingKey is one key of an issuer. Immutable.
type signingKey struct {
	id        string
	algorithm string
	private   crypto.Signer
}

// newSigningKey makes a key; it panics when the algorithm is unknown, since
// that is a mistake in the test.
func newSigningKey(algorithm string) *signingKey {
	k := &signingKey{id: rand.Text()[:10], algorithm: algorithm}
	var err error
	switch algorithm {
	case "ES256":
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256", "PS256":
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "EdDSA":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		panic(fmt.Sprintf("stiletest: algorithm %q: ES256, RS256, PS256 or EdDSA was expected", algorithm))
	}
	if err != nil {
		panic("stiletest: making a key: " + err.Error())
	}
	return k
}

// sign makes the signature of a JWS over input (RFC 7518 §3).
func (k *signingKey) sign(input []byte) []byte {
	digest := sha256.Sum256(input)
	var sig []byte
	var err error
	switch key := k.private.(type) {
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, key, digest[:])
		if err = e; err == nil {
			sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case *rsa.PrivateKey:
		if k.algorithm == "PS256" {
			sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
		}
	case ed25519.PrivateKey:
		sig = ed25519.Sign(key, input)
	}
	if err != nil {
		panic("stiletest: signing: " + err.Error())
	}
	return sig
}

// publicPEM is the public key as an attacker would find it: what a verifier that
// mixes up HMAC and signatures takes for the shared secret.
func (k *signingKey) publicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic("stiletest: public key: " + err.Error())
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func (k *signingKey) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: k.algorithm, Use: "sig"}
}

// Rotate makes a new key that signs from now on, and returns its id. The old
// ones stay published until Retire.
func (i *Issuer) Rotate() (kid string) {
	k := newSigningKey(i.options.Algorithm)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, k)
	return k.id
}

// Retire takes every key but the one that signs out of the JWKS.
func (i *Issuer) Retire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = i.keys[len(i.keys)-1:]
}

// KeyID is the id of the key that signs.
func (i *Issuer) KeyID() string { return i.signer().id }

// PublicKeyPEM is the public half of the key that signs, as PEM. The HS256
// tokens of Token use these bytes as their secret.
func (i *Issuer) PublicKeyPEM() []byte { return i.signer().publicPEM() }

func (i *Issuer) signer() *signingKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// keySet is the JWKS (RFC 7517 §5), the key that signs first.
func (i *Issuer) keySet() jose.JSONWebKeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for n := len(i.keys) - 1; n >= 0; n-- {
		set.Keys = append(set.Keys, i.keys[n].public())
	}
	return set
}
