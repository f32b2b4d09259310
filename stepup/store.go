package stepup

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Login is what a login at one resource has brought. It holds secrets.
type Login struct {
	Resource string `json:"resource"` // the endpoint's URL
	Issuer   string `json:"issuer"`   // as its metadata spells it (REQ-57)
	// ResourceID is what resource says in requests: the identifier of the metadata.
	ResourceID string `json:"resource_id"`

	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	Expires      time.Time `json:"expires,omitzero"`
	// Scopes are what the token has, as the issuer told; nil where it did not.
	Scopes []string `json:"scopes"`
	// Asked are the scopes of the last authorization: the next one asks for them too.
	Asked []string `json:"asked"`
	// Key binds the token (RFC 9449); nil for a bearer token.
	Key *ProofKey `json:"key,omitempty"`
	// Client is the registration the token was issued to.
	Client registration `json:"client"`
	// TokenEndpoint is where it is refreshed.
	TokenEndpoint string `json:"token_endpoint"`
}

// ends reports whether the token is about to end.
func (l *Login) ends() bool {
	return !l.Expires.IsZero() && time.Until(l.Expires) < 10*time.Second
}

// covers reports whether the token is known to have the scopes.
func (l *Login) covers(scopes []string) bool {
	if l.Scopes == nil {
		return includes(l.Asked, scopes)
	}
	return includes(l.Scopes, scopes)
}

// Store keeps logins and registrations as bytes under names. What it is given holds
// secrets. It is safe for concurrent use.
type Store interface {
	// Get returns what was put under a name; nil where there is nothing.
	Get(ctx context.Context, name string) ([]byte, error)
	Put(ctx context.Context, name string, value []byte) error
	Delete(ctx context.Context, name string) error
	// Lock waits until nobody else, in this process or another, holds the lock of
	// a name, and returns what gives it back.
	Lock(ctx context.Context, name string) (unlock func(), err error)
}

// Names in a Store.
func loginName(resource string) string      { return "login " + resource }
func registrationName(issuer string) string { return "client " + issuer }

// ResourceOf is the resource whose login a Store keeps under a name.
func ResourceOf(name string) (resource string, ok bool) {
	return strings.CutPrefix(name, loginName(""))
}

// LoadLogin reads the login at a resource from a Store; nil where nobody is logged in.
func LoadLogin(ctx context.Context, s Store, resource string) (*Login, error) {
	data, err := s.Get(ctx, loginName(resource))
	if err != nil || data == nil {
		return nil, err
	}
	l := new(Login)
	if err := json.Unmarshal(data, l); err != nil {
		return nil, fmt.Errorf("the saved login at %s cannot be read: %w", resource, err)
	}
	return l, nil
}

// Logout forgets the login at a resource. The registration stays.
func Logout(ctx context.Context, s Store, resource string) error {
	return s.Delete(ctx, loginName(resource))
}

func saveLogin(ctx context.Context, s Store, l *Login) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return s.Put(ctx, loginName(l.Resource), data)
}

// Memory is a Store that ends with the process.
type Memory struct {
	mu     sync.Mutex
	values map[string][]byte
	locks  map[string]chan struct{}
}

// NewMemory returns an empty Store.
func NewMemory() *Memory {
	return &Memory{values: map[string][]byte{}, locks: map[string]chan struct{}{}}
}

// Get returns what was put under a name.
func (m *Memory) Get(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.values[name]), nil
}

// Put keeps a value.
func (m *Memory) Put(_ context.Context, name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[name] = slices.Clone(value)
	return nil
}

// Delete forgets a value.
func (m *Memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, name)
	return nil
}

// Lock waits for the lock of a name.
func (m *Memory) Lock(ctx context.Context, name string) (func(), error) {
	m.mu.Lock()
	lock := m.locks[name]
	if lock == nil {
		lock = make(chan struct{}, 1)
		m.locks[name] = lock
	}
	m.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
