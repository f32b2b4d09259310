package stepup

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ProofKey is the key a token is bound to (RFC 9449), of the curve P-256. It is
// kept with the login.
type ProofKey struct{ key *ecdsa.PrivateKey }

func newProofKey() (*ProofKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &ProofKey{key}, err
}

// MarshalText writes the key as base64 of PKCS #8.
func (k *ProofKey) MarshalText() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return nil, err
	}
	return []byte(base64.StdEncoding.EncodeToString(der)), nil
}

// UnmarshalText reads what MarshalText wrote.
func (k *ProofKey) UnmarshalText(text []byte) error {
	der, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return errKey
	}
	k.key = key
	return nil
}

// prove makes the proof for one request (RFC 9449 §4.2), with the hash of the token
// where there is one.
func (k *ProofKey) prove(method string, u *url.URL, nonce, token string) (string, error) {
	target := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target.String(), "iat": time.Now().Unix()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k.key},
		(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	if err != nil {
		return "", err
	}
	return sign(signer, claims)
}

// sign makes a JWT.
func sign(signer jose.Signer, claims map[string]any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// nonces are the last ones that servers gave, by origin (RFC 9449 §8.2).
type nonces struct {
	mu   sync.Mutex
	last map[string]string
}

// maxNonces bounds the origins, and maxNonce the bytes of one.
const (
	maxNonces = 64
	maxNonce  = 1 << 10
)

func (n *nonces) of(u *url.URL) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last[u.Scheme+"://"+u.Host]
}

func (n *nonces) learn(u *url.URL, h http.Header) {
	nonce := h.Get("DPoP-Nonce")
	if nonce == "" || len(nonce) > maxNonce {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil || len(n.last) >= maxNonces {
		n.last = map[string]string{}
	}
	n.last[u.Scheme+"://"+u.Host] = nonce
}
