package stile

import (
	"crypto/sha256"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// refusalMemory remembers who was challenged for what, so that a newer token
// that still lacks it is told so in words instead of being sent to log in again
// and again (DES-28). It is bounded: the oldest half is forgotten when full.
type refusalMemory struct {
	window time.Duration

	mu      sync.Mutex // guards the maps
	current map[refusalKey]refusal
	old     map[refusalKey]refusal
}

// refusalAge is how long a challenge is remembered (decision 10): a person who signs in
// does it within minutes, and a token that comes later is no answer to it.
const refusalAge = 15 * time.Minute

// maxRefusals bounds each of the two generations of memory.
const maxRefusals = 10_000

// refusalKey is who asked for which operation at which endpoint. The client is
// part of it: another client of the same person starts afresh. The operation is
// a digest: names and URIs are the caller's, and as long as a body may be.
type refusalKey struct {
	endpoint, issuer, subject, client string
	kind                              authenticate.SubjectKind
	operation                         [sha256.Size]byte
}

// refusal is the last challenge that was sent for a key.
type refusal struct {
	token   [32]byte // hash of the token that was refused
	at      time.Time
	missing [sha256.Size]byte // digest of what it lacked
	held    scope.Set
	told    time.Time // when a newer token was first answered in-band
}

func newRefusalMemory(window time.Duration) *refusalMemory {
	return &refusalMemory{window: window, current: map[refusalKey]refusal{}, old: map[refusalKey]refusal{}}
}

func keyOf(endpoint string, id *authenticate.Identity, call *message.Call) refusalKey {
	operation := digest(strconv.Itoa(int(call.Kind)), call.Method, call.Name, call.URI)
	return refusalKey{endpoint, id.Issuer, id.Subject, id.ClientID, id.SubjectKind, operation}
}

// digest is a hash of texts without NUL.
func digest(texts ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, text := range texts {
		_, _ = io.WriteString(h, text) // never fails (hash.Hash)
		_, _ = h.Write([]byte{0})
	}
	h.Sum(sum[:0])
	return sum
}

// challenge decides whether a refusal is sent as a challenge. It is false only
// for a token issued after the last challenge for the same operation and the
// same missing scopes, for the length of the window: then asking again did not
// help. A token without iat is always challenged, and so is a token from before
// the challenge (a second device of the same person).
func (m *refusalMemory) challenge(key refusalKey, id *authenticate.Identity, missing scope.Set) bool {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	last, known := m.find(key, now)
	lacks := digest(missing...)
	if known && last.missing == lacks && last.token != id.TokenHash && issuedAfter(id, last.at) {
		if last.told.IsZero() {
			last.told = now
			m.put(key, last)
		}
		if now.Sub(last.told) < m.window {
			return false
		}
	}
	// A token from before the challenge leaves it as it is: otherwise a second
	// device would take back what a newer token was told.
	if !known || last.missing != lacks || last.token != id.TokenHash && issuedAfter(id, last.at) {
		m.put(key, refusal{token: id.TokenHash, at: now, missing: lacks, held: id.Scopes})
	}
	return true
}

// issuedAfter reports whether a token is newer than a moment. iat has whole
// seconds, so a token of the same second does not count as newer.
func issuedAfter(id *authenticate.Identity, at time.Time) bool {
	return !id.IssuedAt.IsZero() && id.IssuedAt.Unix() > at.Unix()
}

// elevated returns what was held when this operation was last refused, where the
// caller now holds more, and forgets it: the call that is allowed is the end of
// that step-up (DES-46). Without more it was allowed for other arguments.
func (m *refusalMemory) elevated(key refusalKey, id *authenticate.Identity) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.find(key, time.Now())
	if !ok || last.token == id.TokenHash || !slices.ContainsFunc(id.Scopes, func(s string) bool { return !slices.Contains(last.held, s) }) {
		return ""
	}
	delete(m.current, key)
	delete(m.old, key)
	return last.held.String()
}

// empty reports whether there is nothing to look up.
func (m *refusalMemory) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.current) == 0 && len(m.old) == 0
}

func (m *refusalMemory) find(key refusalKey, now time.Time) (refusal, bool) {
	r, ok := m.current[key]
	if !ok {
		r, ok = m.old[key]
	}
	if !ok || r.over(m.window, now) {
		return refusal{}, false
	}
	return r, true
}

// over reports whether a refusal is too old to be remembered. One that somebody was
// told of counts for its window.
func (r *refusal) over(window time.Duration, now time.Time) bool {
	return now.Sub(r.at) >= refusalAge && (r.told.IsZero() || now.Sub(r.told) >= window)
}

func (m *refusalMemory) put(key refusalKey, r refusal) {
	if len(m.current) >= maxRefusals {
		m.old, m.current = m.current, make(map[refusalKey]refusal)
	}
	m.current[key] = r
}
