package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/stiletest"
)

// authenticator is what a gateway has, in this process.
func (b *bench) authenticator() (*authenticate.Authenticator, error) {
	v, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: b.issuer.URL(), Audiences: []string{b.issuer.URL()}})
	if err != nil {
		return nil, err
	}
	return authenticate.New(authenticate.Options{Verifiers: []authenticate.Verifier{v}})
}

func bearer(token string) *http.Request {
	return &http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}
}

// cachedTokens measures what remembering a token takes, as live heap.
func cachedTokens(b *bench) error {
	a, err := b.authenticator()
	if err != nil {
		return err
	}
	requests := make([]*http.Request, b.options.tokens)
	for i := range requests {
		requests[i] = bearer(b.token(i, false))
	}
	if _, refusal := a.Authenticate(bearer(b.token(-1, false))); refusal != nil {
		return refusal
	}
	before := liveHeap()
	for _, r := range requests {
		if _, refusal := a.Authenticate(r); refusal != nil {
			return refusal
		}
	}
	each := (liveHeap() - before) / float64(len(requests))
	runtime.KeepAlive(a)
	runtime.KeepAlive(requests)
	b.table.add(row{what: "memory of a cached token", value: each, unit: "B", must: 1024, aim: 300, most: true})
	return nil
}

// liveHeap is what is alive, in bytes; pools need two collections to be empty.
func liveHeap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// refusals measures bad tokens that are refused before their signature is
// checked, beside one check of an ES256 signature.
func refusals(b *bench) error {
	a, err := b.authenticator()
	if err != nil {
		return err
	}
	if _, refusal := a.Authenticate(bearer(b.token(0, false))); refusal != nil {
		return refusal
	}
	verify, err := signature()
	if err != nil {
		return err
	}
	past := time.Now().Add(-time.Hour)
	bad := []struct {
		name   string
		claims stiletest.Claims
	}{
		{"kid", stiletest.Claims{Kid: "another"}},
		{"iss", stiletest.Claims{Issuer: "https://another.example.com"}},
		{"aud", stiletest.Claims{Audience: []string{"https://another.example.com/mcp"}}},
		{"exp", stiletest.Claims{IssuedAt: past, Expiry: past.Add(time.Minute)}},
	}
	worst, relative := 0.0, 0.0
	for _, one := range bad {
		requests := make([]*http.Request, 64)
		for i := range requests {
			one.claims.Extra = map[string]any{"jti": fmt.Sprint("bad-", i)}
			requests[i] = bearer(b.issuer.Token(one.claims))
		}
		refuse := func(i int) error {
			if _, refusal := a.Authenticate(requests[i%len(requests)]); refusal == nil || refusal.Kind != authenticate.Invalid {
				return fmt.Errorf("a token with a bad %s: %w", one.name, refusal)
			}
			return nil
		}
		micros, ratio, err := b.beside(refuse, verify)
		if err != nil {
			return err
		}
		worst, relative = max(worst, micros), max(relative, ratio)
	}
	b.table.add(row{what: "bad token refused before its signature (worst of kid, iss, aud, exp)", value: worst, unit: "µs", must: 15, aim: 15, most: true})
	b.table.add(row{what: "the same, × one check of an ES256 signature", value: relative, plain: true})
	return nil
}

// signature returns a function that checks one ES256 signature.
func signature() (func(int) error, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte("a token"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
	return func(int) error {
		if !ecdsa.VerifyASN1(&key.PublicKey, hash[:], sig) {
			return errors.New("the signature does not verify")
		}
		return nil
	}, err
}

// beside runs two functions in turns and returns the time of the first in
// microseconds and as a ratio to the second: medians.
func (b *bench) beside(f, g func(int) error) (micros, ratio float64, err error) {
	const each = 200
	var times, ratios []float64
	timed := func(f func(int) error) float64 {
		began := time.Now()
		for i := range each {
			err = errors.Join(err, f(i))
		}
		return 1e6 * time.Since(began).Seconds() / each
	}
	for range 4 * b.options.rounds {
		tf, tg := timed(f), timed(g)
		times, ratios = append(times, tf), append(ratios, tf/tg)
	}
	return median(times), median(ratios), err
}
