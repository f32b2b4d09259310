package authserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/store"
)

// Signing keys are of the curve P-256. A new one is published before it signs, so
// that whoever caches the keys knows it, and one that signs no more stays as long as
// its tokens live.
const (
	keyAge     = 30 * 24 * time.Hour // how long one signs
	keyAdvance = 24 * time.Hour      // how long before that it is published
	keyRest    = 24 * time.Hour      // how long after that it stays
	keyCache   = time.Minute         // how long they are held between looks at the store
	keysKey    = "keys"
)

// signingKey is a key as it is stored.
type signingKey struct {
	Key  jose.JSONWebKey `json:"key"`
	From time.Time       `json:"from"` // when it begins to sign
}

// keyring has the signing keys.
type keyring struct {
	store store.Store

	mu     sync.Mutex
	cached []jose.JSONWebKey
	until  time.Time
}

// private are the keys, the one that signs first.
func (k *keyring) private(ctx context.Context) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Before(k.until) {
		return k.cached, nil
	}
	var keys []signingKey
	err := store.Update(ctx, k.store, keysKey, func(value []byte) ([]byte, time.Time, error) {
		keys = nil
		if value != nil {
			if err := json.Unmarshal(value, &keys); err != nil {
				return nil, time.Time{}, fmt.Errorf("signing keys: %w", err)
			}
		}
		turned, changed, err := turn(keys, now)
		if err != nil {
			return nil, time.Time{}, err
		}
		keys = turned
		if !changed {
			return value, time.Time{}, nil
		}
		value, err = json.Marshal(keys)
		return value, time.Time{}, err
	})
	if err != nil {
		return nil, err
	}
	k.cached, k.until = order(keys, now), now.Add(keyCache)
	return k.cached, nil
}

// turn adds a key when the newest begins to be old, and takes those away that are of
// no use any more.
func turn(keys []signingKey, now time.Time) ([]signingKey, bool, error) {
	changed := false
	if len(keys) == 0 || now.After(keys[len(keys)-1].From.Add(keyAge-keyAdvance)) {
		from := now
		if len(keys) > 0 {
			from = keys[len(keys)-1].From.Add(keyAge)
			if from.Before(now) {
				from = now.Add(keyAdvance) // Stile was off for long
			}
		}
		key, err := newKey(from)
		if err != nil {
			return nil, false, err
		}
		keys, changed = append(keys, key), true
	}
	for len(keys) > 1 && now.After(keys[1].From.Add(keyRest)) {
		keys, changed = keys[1:], true
	}
	return keys, changed, nil
}

func newKey(from time.Time) (signingKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signingKey{}, err
	}
	key := jose.JSONWebKey{Key: private, Algorithm: string(jose.ES256), Use: "sig", KeyID: rand.Text()}
	return signingKey{Key: key, From: from.UTC()}, nil
}

// order puts the key that signs now first.
func order(keys []signingKey, now time.Time) []jose.JSONWebKey {
	signs := 0
	for i, k := range keys {
		if !k.From.After(now) {
			signs = i
		}
	}
	out := []jose.JSONWebKey{keys[signs].Key}
	for i, k := range keys {
		if i != signs {
			out = append(out, k.Key)
		}
	}
	return out
}
