package store

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Memory is a Store that ends with the process.
type Memory struct {
	mu     sync.Mutex
	values map[string]memoryValue
	count  uint64
}

type memoryValue struct {
	value    []byte
	revision string
	expires  time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty Store.
func NewMemory() *Memory { return &Memory{values: map[string]memoryValue{}} }

// get is the value that has not expired. The caller holds m.mu.
func (m *Memory) get(key string) (memoryValue, bool) {
	v, ok := m.values[key]
	if ok && !v.expires.IsZero() && !time.Now().Before(v.expires) {
		delete(m.values, key)
		return memoryValue{}, false
	}
	return v, ok
}

// Load returns a value and its revision.
func (m *Memory) Load(_ context.Context, key string) ([]byte, string, error) {
	if err := check(key, nil); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v, _ := m.get(key)
	return bytes.Clone(v.value), v.revision, nil
}

// Swap stores a value if its revision is the current one.
func (m *Memory) Swap(_ context.Context, key, revision string, value []byte, expires time.Time) (bool, error) {
	if err := check(key, value); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, _ := m.get(key); v.revision != revision {
		return false, nil
	}
	if value == nil {
		delete(m.values, key)
		return true, nil
	}
	m.count++
	m.values[key] = memoryValue{bytes.Clone(value), strconv.FormatUint(m.count, 36), expires}
	return true, nil
}

// Delete takes a value away.
func (m *Memory) Delete(_ context.Context, key string) error {
	if err := check(key, nil); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

// Keys are the keys with a prefix.
func (m *Memory) Keys(_ context.Context, prefix string, limit int) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.values {
		if _, ok := m.get(key); ok && strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys[:min(len(keys), limit)], nil
}

// Close does nothing.
func (m *Memory) Close() error { return nil }
