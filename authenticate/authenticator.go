package authenticate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/stile-mcp/stile/internal/problem"
)

// verifyTimeout bounds the verification of one token by all verifiers. It goes on
// when the caller that began it leaves, since others may be waiting for it.
const verifyTimeout = 20 * time.Second

// Cacheable is what a Verifier may have beside Verify: how long its answers may be
// used again without asking it. A positive answer is never used beyond
// Identity.Expiry, an answer that is Unavailable never again. Without it answers
// are remembered for 60 and 10 seconds; zero means never.
type Cacheable interface {
	Lifetimes() (positive, negative time.Duration)
}

// Options are what an Authenticator is made of.
type Options struct {
	// Verifiers are asked in order until one knows the token, but API keys first,
	// so that no key is ever shown to an issuer. May be empty: nobody can log in.
	Verifiers []Verifier
	// CacheSize is how many verified tokens are remembered, about 300 bytes each.
	// Default 100,000.
	CacheSize int
	// NegativeCache is how many refused tokens are remembered, so that the same
	// bad token is not verified over and over. Default 10,000.
	NegativeCache int
}

// Authenticator finds out who sent a request. It is safe for concurrent use.
type Authenticator struct {
	keys      []*APIKeys
	verifiers []Verifier // all others
	cache     *verified
	flights   singleflight.Group
}

// New checks the options; the error is a list of every mistake.
func New(o Options) (*Authenticator, error) {
	if o.CacheSize <= 0 {
		o.CacheSize = DefaultCacheSize
	}
	if o.NegativeCache <= 0 {
		o.NegativeCache = DefaultNegativeCache
	}
	a := &Authenticator{}
	var mistakes problem.List
	for i, v := range o.Verifiers {
		switch v := v.(type) {
		case nil:
			mistakes.Add("verifiers["+strconv.Itoa(i)+"]", "", "a verifier")
		case *APIKeys:
			a.keys = append(a.keys, v)
		default:
			a.verifiers = append(a.verifiers, v)
		}
	}
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	var err error
	a.cache, err = newVerified(o.CacheSize, o.NegativeCache)
	return a, err
}

// Authenticate returns the identity of a request's bearer token, or of its
// X-API-Key where API keys are configured. The error is Missing, Malformed,
// Invalid or Unavailable, never Unknown. A token that was verified before costs a
// hash and a look-up. The identity must not be changed.
func (a *Authenticator) Authenticate(r *http.Request) (*Identity, *Error) {
	if len(a.keys) > 0 {
		if key, sent, err := presentedKey(r); err != nil {
			return nil, err
		} else if sent {
			return a.byKey(key)
		}
	}
	token, err := Bearer(r)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(token))
	if id := a.findKey(&hash); id != nil {
		return id, nil
	}
	if id, err := a.cache.get(&hash, time.Now()); id != nil || err != nil {
		return id, err
	}
	if err := a.glance(token); err != nil {
		return nil, err
	}
	return a.wait(r.Context(), token, hash)
}

// glancer is a verifier that can refuse most bad tokens at a glance, without
// network, signature or waiting. A refusal must be what Verify would return; nil
// says nothing.
type glancer interface {
	refuses(token string) *Error
}

// glance refuses what no verifier would have to work for, so that a flood of bad
// tokens costs less than good traffic: neither goroutine nor room in a cache.
func (a *Authenticator) glance(token string) *Error {
	for _, v := range a.verifiers {
		g, ok := v.(glancer)
		if !ok {
			return nil
		}
		if err := g.refuses(token); err == nil || err.Kind != Unknown {
			return err
		}
	}
	return errUnknown
}

// errUnknown is told when no verifier knows a token.
var errUnknown = invalid("the token is expired or revoked or not known here", nil)

// byKey asks only the API keys: what comes in X-API-Key is nobody else's to see.
func (a *Authenticator) byKey(key string) (*Identity, *Error) {
	hash := sha256.Sum256([]byte(key))
	if id := a.findKey(&hash); id != nil {
		return id, nil
	}
	return nil, invalid("the API key is not known", nil)
}

func (a *Authenticator) findKey(hash *[sha256.Size]byte) *Identity {
	for _, k := range a.keys {
		if id := k.keys[*hash]; id != nil {
			return id
		}
	}
	return nil
}

// outcome is what a flight brings back.
type outcome struct {
	id  *Identity
	err *Error
}

// wait has the token verified once, whoever asks meanwhile. The work does not
// hang on the request that began it, so that one client that leaves fails nobody
// else.
func (a *Authenticator) wait(ctx context.Context, token string, hash [sha256.Size]byte) (*Identity, *Error) {
	flight := a.flights.DoChan(string(hash[:]), func() (any, error) {
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), verifyTimeout)
		defer cancel()
		return a.verify(work, token, hash), nil
	})
	select {
	case result := <-flight:
		o := result.Val.(outcome)
		return o.id, o.err
	case <-ctx.Done():
		return nil, &Error{Kind: Unavailable, Description: "the token could not be checked in time", RetryAfter: time.Second, Err: ctx.Err()}
	}
}

// verify asks the verifiers and remembers the answer.
func (a *Authenticator) verify(ctx context.Context, token string, hash [sha256.Size]byte) outcome {
	if id, err := a.cache.get(&hash, time.Now()); id != nil || err != nil {
		return outcome{id, err} // another flight ended between look-up and here
	}
	var unavailable *Error
	shortest := negativeMaxAge
	for _, v := range a.verifiers {
		positive, negative := lifetimes(v)
		id, err := call(ctx, v, token, hash)
		now := time.Now()
		if err == nil && !id.Expiry.IsZero() && !now.Before(id.Expiry) {
			err = invalid("the token has expired", errExpired)
		}
		switch {
		case err == nil:
			return outcome{a.cache.keep(id, positive, now), nil}
		case err.Kind == Unavailable:
			unavailable = err
		case err.Kind == Unknown:
			shortest = min(shortest, negative)
		default:
			a.cache.refuse(hash, err, negative, now)
			return outcome{nil, err}
		}
	}
	if unavailable != nil {
		return outcome{nil, unavailable}
	}
	a.cache.refuse(hash, errUnknown, shortest, time.Now())
	return outcome{nil, errUnknown}
}

func lifetimes(v Verifier) (positive, negative time.Duration) {
	if c, ok := v.(Cacheable); ok {
		return c.Lifetimes()
	}
	return DefaultIntrospectionCache, negativeMaxAge
}

var (
	errNoIdentity = errors.New("the verifier returned neither identity nor error")
	errNoProfile  = errors.New("the verifier returned an identity without a profile")
)

// call asks one verifier. Whatever it does that its contract does not allow, a
// panic too, is an outage: the token is neither good nor known to be bad.
func call(ctx context.Context, v Verifier, token string, hash [sha256.Size]byte) (id *Identity, refusal *Error) {
	defer func() {
		if p := recover(); p != nil {
			id, refusal = nil, broken(fmt.Errorf("verifier %T panicked: %v", v, p))
		}
	}()
	id, err := v.Verify(ctx, token)
	switch {
	case err != nil:
		if !errors.As(err, &refusal) || refusal == nil || refusal.Kind < Invalid || refusal.Kind > Unknown {
			return nil, broken(err)
		}
		return nil, refusal
	case id == nil:
		return nil, broken(errNoIdentity)
	case id.Profile == nil:
		return nil, broken(errNoProfile)
	case id.TokenHash != hash:
		own := *id
		own.TokenHash = hash
		id = &own
	}
	return id, nil
}

func broken(cause error) *Error {
	return &Error{Kind: Unavailable, Description: "the token cannot be checked now", RetryAfter: time.Second, Err: cause}
}
