// Package store keeps what has to outlive the process: signing keys, registered
// clients, grants, consents and accounts. It knows nothing of what they mean.
//
// Bolt keeps them in one file, encrypted, and is the default; Memory ends with the
// process. storetest has what every engine must pass.
package store

import (
	"context"
	"errors"
	"time"
)

// ErrConflict says that a value is not what the caller took it for: somebody else
// has changed it meanwhile.
var ErrConflict = errors.New("store: the value was changed by somebody else")

// MaxKey and MaxValue are the longest key and value, in bytes.
const (
	MaxKey   = 1 << 10
	MaxValue = 1 << 20
)

// Store keeps values by key. It is safe for concurrent use, by one process or, where
// the engine says so, by many. A value that was stored is there after a crash, once
// the call has returned.
type Store interface {
	// Load returns a value and what stands for its revision: nil and "" when there
	// is none or it has expired.
	Load(ctx context.Context, key string) (value []byte, revision string, err error)
	// Swap stores a value until expires, or for ever when that is zero, if revision
	// still is the current one; "" means that there must be none. A nil value takes
	// it away. It reports whether it did.
	Swap(ctx context.Context, key, revision string, value []byte, expires time.Time) (swapped bool, err error)
	// Delete takes a value away, whatever its revision.
	Delete(ctx context.Context, key string) error
	// Keys are the keys with a prefix whose values have not expired, sorted, at
	// most limit of them.
	Keys(ctx context.Context, prefix string, limit int) ([]string, error)
	// Close ends the use of the store. Nothing may be called after it.
	Close() error
}

// Update changes a value: change gets the current one, nil where there is none, and
// returns what is to be stored, nil for nothing, and until when. It may be called
// several times, when others change the value at the same time; its error is
// returned as it is, and nothing is stored.
func Update(ctx context.Context, s Store, key string, change func(value []byte) ([]byte, time.Time, error)) error {
	for range 100 {
		old, revision, err := s.Load(ctx, key)
		if err != nil {
			return err
		}
		value, expires, err := change(old)
		if err != nil {
			return err
		}
		swapped, err := s.Swap(ctx, key, revision, value, expires)
		if err != nil || swapped {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return ErrConflict
}
