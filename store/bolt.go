package store

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/crypto/chacha20poly1305"
)

// The files of a Bolt, in its folder, readable by their owner only.
const (
	boltFile = "stile.db"
	keyFile  = "store.key"
)

var bucket = []byte("values")

// sweepEvery is the pause between two sweeps of what has expired.
const sweepEvery = 10 * time.Minute

// Bolt is a Store in one file, for one process. Values are sealed (XChaCha20-
// Poly1305) with a key that lies beside the file, so that a copy of the file alone
// tells nothing but keys and sizes.
type Bolt struct {
	db   *bbolt.DB
	aead cipher.AEAD
	stop chan struct{}
	done sync.WaitGroup
}

var _ Store = (*Bolt)(nil)

// OpenBolt opens the store in a folder, which is made, with both files, where they
// are not there. Its errors name the file; when another process has the store open,
// it says so at once.
func OpenBolt(folder string) (*Bolt, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(folder, boltFile)
	key, err := readKey(filepath.Join(folder, keyFile), file)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: another process uses this store", file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	b := &Bolt{db: db, aead: aead, stop: make(chan struct{})}
	b.done.Go(b.sweep)
	return b, nil
}

// readKey reads the key, or makes one where there is no store yet. A store whose key
// is gone cannot be read any more, and is not to be overwritten.
func readKey(name, store string) ([]byte, error) {
	key, err := os.ReadFile(name)
	switch {
	case err == nil && len(key) == chacha20poly1305.KeySize:
		return key, nil
	case err == nil:
		return nil, fmt.Errorf("%s: expected %d bytes, got %d", name, chacha20poly1305.KeySize, len(key))
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if _, err := os.Stat(store); err == nil {
		return nil, fmt.Errorf("%s is missing: without it %s cannot be read; bring it back, or move both away to begin anew", name, store)
	}
	key = make([]byte, chacha20poly1305.KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	return key, writeNew(name, key)
}

// writeNew writes a file that must not be there, and has it on the disk.
func writeNew(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// A stored value is its revision and the second of its end, 0 for never, eight bytes
// each, and what is sealed.
const headLength = 16

type stored struct {
	revision uint64
	expires  int64
	sealed   []byte
}

func parse(data []byte) (stored, bool) {
	if len(data) < headLength {
		return stored{}, false
	}
	v := stored{binary.BigEndian.Uint64(data), int64(binary.BigEndian.Uint64(data[8:])), data[headLength:]}
	return v, v.expires == 0 || time.Now().Unix() < v.expires
}

// seal binds a value to its key and head, so that values cannot change places.
func (b *Bolt) seal(key string, head, value []byte) []byte {
	nonce := make([]byte, b.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails (Go 1.24)
	return b.aead.Seal(append(append([]byte(nil), head...), nonce...), nonce, value, append([]byte(key), head...))
}

func (b *Bolt) open(key string, data []byte) ([]byte, error) {
	n := headLength + b.aead.NonceSize()
	if len(data) < n {
		return nil, fmt.Errorf("store: the value of %q is cut off", key)
	}
	value, err := b.aead.Open([]byte{}, data[headLength:n], data[n:], append([]byte(key), data[:headLength]...))
	if err != nil {
		return nil, fmt.Errorf("store: the value of %q was not sealed with this key", key)
	}
	return value, nil
}

// Load returns a value and its revision.
func (b *Bolt) Load(ctx context.Context, key string) (value []byte, revision string, err error) {
	if err := errors.Join(check(key, nil), ctx.Err()); err != nil {
		return nil, "", err
	}
	err = b.db.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket(bucket).Get([]byte(key))
		v, ok := parse(data)
		if !ok {
			return nil
		}
		revision = strconv.FormatUint(v.revision, 36)
		value, err = b.open(key, data)
		return err
	})
	return value, revision, err
}

// Swap stores a value if its revision is the current one.
func (b *Bolt) Swap(ctx context.Context, key, revision string, value []byte, expires time.Time) (swapped bool, err error) {
	if err := errors.Join(check(key, value), ctx.Err()); err != nil {
		return false, err
	}
	err = b.db.Batch(func(tx *bbolt.Tx) error {
		swapped = false // a batch may run its functions again
		values := tx.Bucket(bucket)
		current := ""
		if v, ok := parse(values.Get([]byte(key))); ok {
			current = strconv.FormatUint(v.revision, 36)
		}
		if current != revision {
			return nil
		}
		swapped = true
		if value == nil {
			return values.Delete([]byte(key))
		}
		next, err := values.NextSequence()
		if err != nil {
			return err
		}
		head := binary.BigEndian.AppendUint64(make([]byte, 0, headLength), next)
		var end int64
		if !expires.IsZero() {
			end = expires.Unix()
		}
		head = binary.BigEndian.AppendUint64(head, uint64(end))
		return values.Put([]byte(key), b.seal(key, head, value))
	})
	return swapped && err == nil, err
}

// Delete takes a value away.
func (b *Bolt) Delete(ctx context.Context, key string) error {
	if err := errors.Join(check(key, nil), ctx.Err()); err != nil {
		return err
	}
	return b.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(key)) })
}

// Keys are the keys with a prefix.
func (b *Bolt) Keys(ctx context.Context, prefix string, limit int) (keys []string, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, data := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix) && len(keys) < limit; k, data = c.Next() {
			if _, ok := parse(data); ok {
				keys = append(keys, string(k))
			}
		}
		return ctx.Err()
	})
	return keys, err
}

// Close ends the use of the file.
func (b *Bolt) Close() error {
	close(b.stop)
	b.done.Wait()
	return b.db.Close()
}

// sweep takes expired values away, until the store is closed.
func (b *Bolt) sweep() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-ticker.C:
			_ = b.Sweep() // the next one tries again
		}
	}
}

// Sweep takes away all values that have expired. It runs by itself every ten
// minutes.
func (b *Bolt) Sweep() error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, data := c.First(); k != nil; k, data = c.Next() {
			if _, ok := parse(data); ok {
				continue
			}
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

// check refuses keys and values that no engine takes.
func check(key string, value []byte) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("store: a key of %d bytes: expected 1 to %d", len(key), MaxKey)
	}
	if len(value) > MaxValue {
		return fmt.Errorf("store: a value of %d bytes: expected at most %d", len(value), MaxValue)
	}
	return nil
}
