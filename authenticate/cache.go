package authenticate

import (
	"crypto/sha256"
	"time"

	"github.com/maypok86/otter/v2"
)

// Defaults of Options.
const (
	DefaultCacheSize     = 100_000
	DefaultNegativeCache = 10_000
)

// verified remembers identities and refusals by the SHA-256 of the token, never
// the token. Good and bad tokens have caches of their own, so that a flood of
// bad ones drives no good one out. Entries past their time are dropped when they
// are met or when room is needed; both caches are bounded, so no timer runs.
type verified struct {
	good *otter.Cache[cacheKey, *goodEntry]
	bad  *otter.Cache[cacheKey, *badEntry]
}

// cacheKey is the first half of a token's hash; the whole of it is compared when
// an entry is found.
type cacheKey [16]byte

type goodEntry struct {
	id    Identity
	until int64 // unix nanoseconds
}

type badEntry struct {
	hash  [sha256.Size]byte
	until int64 // unix nanoseconds
	err   *Error
}

func newVerified(good, bad int) (*verified, error) {
	g, err := otter.New(&otter.Options[cacheKey, *goodEntry]{MaximumSize: good})
	if err != nil {
		return nil, err
	}
	b, err := otter.New(&otter.Options[cacheKey, *badEntry]{MaximumSize: bad})
	if err != nil {
		return nil, err
	}
	return &verified{good: g, bad: b}, nil
}

// get returns what is known of a token: an identity, a refusal, or neither.
func (v *verified) get(hash *[sha256.Size]byte, now time.Time) (*Identity, *Error) {
	key := cacheKey(hash[:16])
	if e, ok := v.good.GetIfPresent(key); ok && e.id.TokenHash == *hash {
		if now.UnixNano() < e.until {
			return &e.id, nil
		}
		v.good.Invalidate(key)
	}
	if e, ok := v.bad.GetIfPresent(key); ok && e.hash == *hash {
		if now.UnixNano() < e.until {
			return nil, e.err
		}
		v.bad.Invalidate(key)
	}
	return nil, nil
}

// keep remembers an identity for at most ttl, never beyond its expiry.
func (v *verified) keep(id *Identity, ttl time.Duration, now time.Time) *Identity {
	until := now.Add(ttl)
	if !id.Expiry.IsZero() && id.Expiry.Before(until) {
		until = id.Expiry
	}
	if !now.Before(until) {
		return id
	}
	e := &goodEntry{id: *id, until: until.UnixNano()}
	v.good.Set(cacheKey(id.TokenHash[:16]), e)
	return &e.id
}

// refuse remembers a refusal for at most ttl.
func (v *verified) refuse(hash [sha256.Size]byte, err *Error, ttl time.Duration, now time.Time) {
	if ttl > 0 {
		v.bad.Set(cacheKey(hash[:16]), &badEntry{hash, now.Add(ttl).UnixNano(), err})
	}
}
