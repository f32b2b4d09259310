package authenticate

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// refresh fetches the keys and tells everybody who waits.
func (s *KeySet) refresh(f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
	defer cancel()
	ring, err := s.fetchKeys(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.nextTry = time.Now().Add(backoff(s.failures, maxBackoff))
		s.failures++
	} else {
		s.current.Store(ring)
		s.failures, s.nextTry = 0, time.Time{}
	}
	s.lastErr, s.flight, f.err = err, nil, err
	close(f.done)
}

// backoff is 1 s, 2 s, 4 s and so on up to a bound.
func backoff(failures int, bound time.Duration) time.Duration {
	return min(time.Second<<min(failures, 10), bound)
}

// fetchKeys asks the issuer. A panic over its bytes is an error like any other.
func (s *KeySet) fetchKeys(ctx context.Context) (ring *keyring, err error) {
	defer func() {
		if p := recover(); p != nil {
			ring, err = nil, fmt.Errorf("reading the keys panicked: %v", p)
		}
	}()
	place := s.jwksURI
	if place == "" {
		if place, err = s.keysPlace(ctx); err != nil {
			return nil, err
		}
	}
	r, err := s.client.GetJSON(ctx, place)
	if err == nil {
		var keys []publicKey
		if keys, err = parseKeys(r.Body); err == nil {
			now := time.Now()
			return &keyring{keys: keys, fetched: now, fresh: now.Add(s.freshFor(r.Header))}, nil
		}
	}
	// The keys may have moved: look at the metadata again next time.
	if d := s.discovered.Load(); d != nil {
		s.discovered.Store(&discovery{jwksURI: d.jwksURI, raw: d.raw})
	}
	return nil, err
}

// keysPlace is the jwks_uri of the metadata, discovered anew when that is old. An
// old one is used while the metadata cannot be had.
func (s *KeySet) keysPlace(ctx context.Context) (string, error) {
	old := s.discovered.Load()
	if old != nil && time.Since(old.at) < discoveryMaxAge {
		return old.jwksURI, nil
	}
	d, err := s.discover(ctx)
	if err != nil {
		if old == nil {
			return "", err
		}
		d = old
	}
	s.discovered.Store(d)
	return d.jwksURI, nil
}

// freshFor is max-age of Cache-Control (RFC 9111 §5.2.2) within our bounds.
func (s *KeySet) freshFor(h http.Header) time.Duration {
	age := s.maxAge
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minKeyAge
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				age = min(max(time.Duration(seconds)*time.Second, minKeyAge), maxKeyAge)
			}
		}
	}
	return age
}
