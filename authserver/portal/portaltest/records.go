package portaltest

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"
)

// Records are people.Records and browser.Records in memory. They are safe for
// concurrent use.
type Records struct {
	mu     sync.Mutex // guards values
	values map[string]record
}

type record struct {
	value    []byte
	revision string
	expires  time.Time // zero: never
}

// NewRecords returns Records without any.
func NewRecords() *Records { return &Records{values: map[string]record{}} }

// Load returns a value and its revision, or nil, "".
func (m *Records) Load(_ context.Context, key string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.now(key)
	return slices.Clone(r.value), r.revision, nil
}

// now returns a record that has not expired. The caller holds the lock.
func (m *Records) now(key string) record {
	r := m.values[key]
	if !r.expires.IsZero() && !time.Now().Before(r.expires) {
		return record{}
	}
	return r
}

// Swap stores a value if the revision still is the current one.
func (m *Records) Swap(_ context.Context, key, revision string, value []byte, expires time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now(key).revision != revision {
		return false, nil
	}
	m.values[key] = record{slices.Clone(value), rand.Text(), expires}
	return true, nil
}

// Delete takes a value away.
func (m *Records) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}
