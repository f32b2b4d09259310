package authenticate_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/authenticate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuerURL = "https://idp.example/realms/acme"
	jwksURL   = "https://idp.example/keys"
	audience  = "https://mcp.example.com/mcp"
)

// keys that are costly to make are made once.
var (
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	otherKey = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return must(key, err)
	})
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// object is a JSON object.
type object map[string]any

func (o object) with(name string, value any) object {
	o = maps.Clone(o)
	if value == absent {
		delete(o, name)
	} else {
		o[name] = value
	}
	return o
}

// absent takes a member out.
var absent = new(struct{ _ int })

func (o object) String() string { return string(must(json.Marshal(o))) }

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// sign makes a compact JWS out of any header and payload, byte for byte.
func sign(key any, alg, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	digest := sha256.Sum256([]byte(input))
	var signature []byte
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		must(0, err)
		signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		if alg == "PS256" {
			signature = must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		} else {
			signature = must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:]))
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, []byte(input))
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		signature = mac.Sum(nil)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// goodHeader and goodClaims make the plainest token that is accepted.
func goodHeader() object { return object{"alg": "ES256", "kid": "ec", "typ": "at+jwt"} }

func goodClaims() object {
	now := time.Now().Unix()
	return object{"iss": issuerURL, "sub": "alice", "client_id": "app", "aud": audience, "scope": "notes:read notes:write",
		"iat": now, "exp": now + 300, "jti": "1"}
}

func goodToken() string { return sign(ecKey(), "ES256", goodHeader().String(), goodClaims().String()) }

func jwk(id, alg string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: alg, Use: "sig"}
}

func goodKeys() []jose.JSONWebKey {
	return []jose.JSONWebKey{jwk("ec", "ES256", ecKey().Public()), jwk("rsa", "", rsaKey().Public()), jwk("ed", "EdDSA", edKey().Public())}
}

// network is an http.RoundTripper that answers from memory, counts, and can be
// slow or down. It works under testing/synctest.
type network struct {
	mu       sync.Mutex
	handlers map[string]http.HandlerFunc
	hits     map[string]int
	down     bool
	delay    time.Duration
}

func newNetwork() *network {
	return &network{handlers: map[string]http.HandlerFunc{}, hits: map[string]int{}}
}

func (n *network) on(url string, h http.HandlerFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handlers[url] = h
}

func (n *network) json(url string, v any) {
	body := must(json.Marshal(v))
	n.on(url, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	})
}

func (n *network) keys(keys ...jose.JSONWebKey) { n.json(jwksURL, jose.JSONWebKeySet{Keys: keys}) }

func (n *network) set(down bool, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.delay = down, delay
}

func (n *network) count(url string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hits[url]
}

var errDown = errors.New("connection refused")

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	h, down, delay := n.handlers[r.URL.String()], n.down, n.delay
	n.hits[r.URL.String()]++
	n.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if down {
		return nil, errDown
	}
	w := &recorded{header: http.Header{}, status: 200}
	if h == nil {
		w.status = 404
	} else {
		h(w, r)
	}
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorded) Header() http.Header         { return w.header }
func (w *recorded) WriteHeader(status int)      { w.status = status }
func (w *recorded) Write(p []byte) (int, error) { return w.body.Write(p) }

// newKeySet knows the good keys of the network.
func newKeySet(t testing.TB, n *network, change ...func(*authenticate.KeySetConfig)) *authenticate.KeySet {
	t.Helper()
	c := authenticate.KeySetConfig{Issuer: issuerURL, JWKSURI: jwksURL, Transport: n}
	for _, f := range change {
		f(&c)
	}
	s, err := authenticate.NewKeySet(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newJWT(t testing.TB, n *network, change ...func(*authenticate.JWTConfig)) *authenticate.JWT {
	t.Helper()
	c := authenticate.JWTConfig{Issuer: issuerURL, Audiences: []string{audience}, Keys: newKeySet(t, n)}
	for _, f := range change {
		f(&c)
	}
	v, err := authenticate.NewJWT(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func goodNetwork() *network {
	n := newNetwork()
	n.keys(goodKeys()...)
	return n
}

// verify returns the identity, or the *Error that every verifier must return.
func verify(t testing.TB, v authenticate.Verifier, token string) (*authenticate.Identity, *authenticate.Error) {
	t.Helper()
	id, err := v.Verify(context.Background(), token)
	if err == nil {
		if id == nil {
			t.Fatal("neither identity nor error")
		}
		return id, nil
	}
	var e *authenticate.Error
	if !errors.As(err, &e) || id != nil {
		t.Fatalf("got %v and %T %v, want an *Error alone", id, err, err)
	}
	if t, ok := t.(*testing.T); ok {
		checkDescription(t, e)
	}
	return nil, e
}
