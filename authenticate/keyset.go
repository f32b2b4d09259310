package authenticate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/internal/problem"
)

// Defaults and bounds of a KeySet.
const (
	// DefaultKeyMaxAge is how long keys are good where the issuer does not say.
	DefaultKeyMaxAge = 10 * time.Minute
	// DefaultKeyStaleFor is how long old keys are used while new ones cannot be
	// had.
	DefaultKeyStaleFor = 24 * time.Hour
	// minKeyAge and maxKeyAge bound what Cache-Control may ask for.
	minKeyAge, maxKeyAge = time.Minute, 24 * time.Hour
	// unknownTurns is how many unknown key ids make us ask at once, and unknownPause how
	// soon there is another turn: a stray id does not take that of a new key, and a
	// flood of forged ones keeps it for one pause at the most.
	unknownTurns, unknownPause = 2, 10 * time.Second
	// missingFor is how long the same unknown key id does not; maxMissing is how
	// many are remembered, maxKeyID how long one may be.
	missingFor, maxMissing, maxKeyID = time.Minute, 1024, 256
	// refreshTimeout bounds discovery and keys together.
	refreshTimeout = 10 * time.Second
	// maxBackoff bounds the pause after a failure, which starts at 1 s.
	maxBackoff = 30 * time.Second
	// discoveryMaxAge is how long the metadata is good.
	discoveryMaxAge = time.Hour
)

// KeySetConfig says whose keys, and where they are.
type KeySetConfig struct {
	// Issuer is the issuer identifier: https, or http on loopback. Required. Its
	// metadata must name it byte for byte (REQ-57).
	Issuer string
	// JWKSURI is where the keys are. Empty: as the issuer's metadata says.
	JWKSURI string
	// MetadataURL is where the metadata is. Empty: looked for at the places of
	// RFC 8414 and OpenID Connect discovery, inserted and appended.
	MetadataURL string
	// MaxAge is how long keys are good where the answer carries no
	// Cache-Control max-age, which counts from one minute to 24 hours.
	// Default 10 minutes.
	MaxAge time.Duration
	// StaleFor is how long after the last success old keys are used while new
	// ones cannot be had. After it tokens are Unavailable. Default 24 h.
	StaleFor time.Duration
	// Transport replaces the network. Default: https with the system's roots,
	// no redirects, no link-local addresses.
	Transport http.RoundTripper
}

// KeySet keeps the signature keys of one issuer. Nothing is fetched before the
// first token or Ready asks, and no goroutine runs in between: keys past their
// age are fetched anew beside the request that finds them so. One fetch is in
// flight at a time and everybody waits for that one. It is safe for concurrent
// use.
type KeySet struct {
	issuer, jwksURI, metadataURL string
	maxAge, staleFor             time.Duration
	client                       *fetch.Client

	current    atomic.Pointer[keyring]
	discovered atomic.Pointer[discovery]

	mu       sync.Mutex    // guards what follows
	flight   *flight       // nil while nothing is being fetched
	failures int           // since the last success
	lastErr  error         // of the last attempt, nil after a success
	nextTry  time.Time     // not before, after a failure
	unknown  *rate.Limiter // turns for the sake of unknown key ids
	missing  map[string]time.Time
}

// keyring is the outcome of one successful fetch; never changed.
type keyring struct {
	keys    []publicKey
	fetched time.Time
	fresh   time.Time // until when it need not be fetched again
}

// flight is one fetch; err may be read once done is closed.
type flight struct {
	done chan struct{}
	err  error
}

// NewKeySet checks the configuration; the error is a list of every mistake.
func NewKeySet(c KeySetConfig) (*KeySet, error) {
	var mistakes problem.List
	checkIssuer(&mistakes, c.Issuer)
	checkURL(&mistakes, "jwks_uri", c.JWKSURI)
	checkURL(&mistakes, "metadata_url", c.MetadataURL)
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	s := &KeySet{
		issuer: c.Issuer, jwksURI: c.JWKSURI, metadataURL: c.MetadataURL,
		maxAge: c.MaxAge, staleFor: c.StaleFor, missing: map[string]time.Time{},
		client:  fetch.New(fetch.Options{AllowPrivate: true, AllowLoopbackHTTP: true, Transport: c.Transport}),
		unknown: rate.NewLimiter(rate.Every(unknownPause), unknownTurns),
	}
	if s.maxAge <= 0 {
		s.maxAge = DefaultKeyMaxAge
	}
	if s.staleFor <= 0 {
		s.staleFor = DefaultKeyStaleFor
	}
	return s, nil
}

// Issuer is the issuer identifier.
func (s *KeySet) Issuer() string { return s.issuer }

// Metadata is the issuer's own metadata document, byte for byte as it was
// fetched, for a relay to clients that only look at the resource's origin. It is
// nil until it was discovered, and always where JWKSURI is set. Not to be changed.
func (s *KeySet) Metadata() []byte {
	if d := s.discovered.Load(); d != nil {
		return d.raw
	}
	return nil
}

// Close closes the connections that are kept for the next fetch. The KeySet stays
// usable.
func (s *KeySet) Close() { s.client.CloseIdle() }

// Ready fetches the keys where there are none and says why there are none.
func (s *KeySet) Ready(ctx context.Context) error {
	if _, err := s.ring(ctx); err != nil {
		return fmt.Errorf("keys of %s: %w", s.issuer, err)
	}
	return nil
}

// find returns the keys that may have signed a token with this header. The error
// is Invalid when the issuer has no such key, Unavailable when that cannot be told.
func (s *KeySet) find(ctx context.Context, h *header) ([]any, *Error) {
	ring, err := s.ring(ctx)
	if err != nil {
		return nil, s.unavailable(err)
	}
	found, known := match(ring.keys, h)
	if len(found) > 0 {
		return found, nil
	}
	if known || !mayAppear(h) {
		return nil, noSuchKey(h)
	}
	if err := s.lookAgain(ctx, h.kid); err != nil {
		return nil, s.unavailable(err)
	}
	if found, _ = match(s.current.Load().keys, h); len(found) > 0 {
		return found, nil
	}
	return nil, noSuchKey(h)
}

// hopeless is find without waiting: it refuses a header for which find would
// have neither a key nor anything to ask the issuer.
func (s *KeySet) hopeless(h *header) *Error {
	now := time.Now()
	ring := s.current.Load()
	if ring == nil || !now.Before(ring.fresh) {
		return nil
	}
	found, known := match(ring.keys, h)
	if len(found) > 0 {
		return nil
	}
	if !known && mayAppear(h) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.flight != nil || s.lastErr != nil || s.mayAsk(h.kid, now) {
			return nil
		}
	}
	return noSuchKey(h)
}

// mayAppear reports whether a key that is not there might be among newer ones.
func mayAppear(h *header) bool { return h.hasKid && len(h.kid) <= maxKeyID }

func noSuchKey(h *header) *Error {
	return invalid("the token is signed with an unknown key", &noKeyError{h.kid, h.alg})
}

// noKeyError is put into words only where a log asks for them.
type noKeyError struct{ kid, alg string }

func (e *noKeyError) Error() string {
	return fmt.Sprintf("no key for kid %.60q and alg %.20q", e.kid, e.alg)
}

// ring returns keys that may be used now. Keys just past their age are used while
// new ones are on their way; older ones only when new ones cannot be had.
func (s *KeySet) ring(ctx context.Context) (*keyring, error) {
	now := time.Now()
	r := s.current.Load()
	if r != nil && now.Before(r.fresh) {
		return r, nil
	}
	f, err := s.start(now)
	if r != nil && now.Before(r.fresh.Add(r.fresh.Sub(r.fetched))) && now.Before(r.fetched.Add(s.staleFor)) {
		return r, nil
	}
	if f != nil {
		err = f.wait(ctx)
	}
	if r = s.current.Load(); r != nil && now.Before(r.fetched.Add(s.staleFor)) {
		return r, nil
	}
	return nil, err
}

// start returns the fetch in flight, begins one, or says why none may begin now.
func (s *KeySet) start(now time.Time) (*flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked(now)
}

func (s *KeySet) startLocked(now time.Time) (*flight, error) {
	if s.flight != nil {
		return s.flight, nil
	}
	if now.Before(s.nextTry) {
		return nil, s.lastErr
	}
	f := &flight{done: make(chan struct{})}
	s.flight = f
	go s.refresh(f)
	return f, nil
}

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lookAgain fetches the keys for a key id that is not among them: at most as
// often as there are turns, whatever the ids are, and once in missingFor for the same id. An
// attempt that failed has answered nobody and does not count; the pause after a
// failure does. It returns an error where the keys could not be asked for, and
// nil where there is nothing new to know.
func (s *KeySet) lookAgain(ctx context.Context, kid string) error {
	now := time.Now()
	s.mu.Lock()
	var err error
	f := s.flight
	switch {
	case f != nil:
	case s.lastErr == nil && !s.mayAsk(kid, now):
	default:
		if f, err = s.startLocked(now); f != nil {
			s.unknown.AllowN(now, 1)
			s.remember(kid, now)
		}
	}
	s.mu.Unlock()
	if f != nil {
		err = f.wait(ctx)
	}
	return err
}

// mayAsk reports whether an unknown key id is worth a fetch. The caller holds mu.
func (s *KeySet) mayAsk(kid string, now time.Time) bool {
	return !now.Before(s.missing[kid]) && s.unknown.TokensAt(now) >= 1
}

// remember keeps an unknown key id. When there are too many, all are forgotten:
// the turns hold whatever is in here. The caller holds mu.
func (s *KeySet) remember(kid string, now time.Time) {
	if len(s.missing) >= maxMissing {
		clear(s.missing)
	}
	s.missing[kid] = now.Add(missingFor)
}

// unavailable is 503 until the next attempt may be made.
func (s *KeySet) unavailable(cause error) *Error {
	s.mu.Lock()
	wait := time.Until(s.nextTry)
	s.mu.Unlock()
	return &Error{Kind: Unavailable, Description: "the keys of the issuer are out of reach",
		RetryAfter: max(wait.Round(time.Second), time.Second), Err: fmt.Errorf("keys of %s: %w", s.issuer, errOr(cause))}
}

var errNoAnswer = errors.New("no answer")

func errOr(err error) error {
	if err == nil {
		return errNoAnswer
	}
	return err
}
