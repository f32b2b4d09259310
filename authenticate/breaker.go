package authenticate

import (
	"sync"
	"time"
)

const (
	// tripAt is the weight of consecutive failures at which a breaker opens. No
	// answer at all weighs that much; a bad answer weighs one, since a single
	// odd token may cause it.
	tripAt = 3
	// maxOpen bounds how long it stays open; it starts at 1 s.
	maxOpen = 5 * time.Second
)

// breaker keeps an endpoint that is down from being asked again and again. After
// its pause one request finds out whether it is back, while the others still
// fail at once. The zero value is closed and ready.
type breaker struct {
	mu     sync.Mutex
	weight int       // of consecutive failures
	opened int       // times in a row
	until  time.Time // while open: when the next one may try
	cause  error
}

// admit reports how long to wait and why, or zero when the request may be made.
// Whoever is admitted must call done. Probe bounds the time of that request.
func (b *breaker) admit(probe time.Duration) (time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.weight < tripAt {
		return 0, nil
	}
	now := time.Now()
	if wait := b.until.Sub(now); wait > 0 {
		return wait, b.cause
	}
	b.until = now.Add(probe)
	return 0, nil
}

// done tells how the request went: weight 0 is a success.
func (b *breaker) done(weight int, pause time.Duration, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if weight == 0 {
		b.weight, b.opened, b.cause = 0, 0, nil
		return
	}
	b.weight += weight
	b.cause = cause
	if b.weight >= tripAt {
		b.until = time.Now().Add(max(backoff(b.opened, maxOpen), pause))
		b.opened++
	}
}

// abandon gives the turn back: the caller went away before there was an answer.
func (b *breaker) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.weight >= tripAt {
		b.until = time.Now()
	}
}

// state returns why it is open, nil when it is not.
func (b *breaker) state() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.weight >= tripAt {
		return b.cause
	}
	return nil
}
