// Package session seals the ids of 2025-era sessions. An id names its owner and
// the upstream's own id; there is no table of sessions, so any replica with the
// same keys serves any session.
//
// A sealed id is never authentication (REQ-16): it is opened after the token of
// the request was verified, and only for the owner that token names.
package session

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
)

// Owner is whom a session belongs to (DES-40): the issuer and subject of the
// identity that opened it, never its token, scopes or client. The zero Owner is
// whoever has no token; it is an owner of its own, equal to no other.
type Owner struct {
	Issuer  string
	Subject string
	// Kind says what Subject is, 0 for the name of a person or service. Clients name
	// themselves in another list than people: one that is called like a person must
	// not be taken for one.
	Kind uint8
}

// What Open returns. All of them become 404, so that the client starts anew
// (REQ-24, DES-41); they differ for the log and the audit only.
var (
	// ErrInvalid is an id that was not sealed here for this endpoint, or with a
	// key that is no longer configured.
	ErrInvalid = errors.New("session id was not sealed here")
	// ErrNotOwner is an id that belongs to somebody else.
	ErrNotOwner = errors.New("session belongs to another owner")
	// ErrExpired is an id that was sealed longer ago than MaxAge.
	ErrExpired = errors.New("session id has expired")
)

// The limits of what is sealed and opened, in bytes.
const (
	// MaxEndpoint is the longest endpoint name.
	MaxEndpoint = 128
	// MaxUpstream is the longest upstream id.
	MaxUpstream = 1 << 10
	// MaxID is the longest id that Open looks at. Those of Seal have at most 1,458.
	MaxID = 4 << 10
)

// minKey is the shortest master key, in bytes.
const minKey = 32

// DefaultMaxAge is how long an id is good for unless Config says otherwise.
const DefaultMaxAge = 24 * time.Hour

// Config is what a Sealer is made of.
type Config struct {
	// Keys are the master keys, at least 32 random bytes each. The first seals,
	// all open: to rotate, put the new key first and take the old one away after
	// MaxAge. Required.
	Keys [][]byte
	// MaxAge is how long an id is good for, in whole seconds. Default 24 h.
	MaxAge time.Duration
}

// Sealer seals and opens session ids. It is immutable and safe for concurrent
// use.
type Sealer struct {
	keys   []*key
	maxAge int64 // seconds
}

// New makes a Sealer. The error is a problem.List; it never holds key material.
// The keys are not kept.
func New(c Config) (*Sealer, error) {
	var mistakes problem.List
	s := &Sealer{maxAge: int64(c.MaxAge / time.Second)}
	if c.MaxAge == 0 {
		s.maxAge = int64(DefaultMaxAge / time.Second)
	}
	if s.maxAge < 1 {
		mistakes.Add("max_age", c.MaxAge.String(), "want at least 1s, or 0 for the default of 24h")
	}
	if len(c.Keys) == 0 {
		mistakes.Add("keys", "", "want at least one key")
	}
	for i, master := range c.Keys {
		if len(master) < minKey {
			mistakes.Add(fmt.Sprintf("keys[%d]", i), "", fmt.Sprintf("has %d bytes, want at least %d random ones", len(master), minKey))
			continue
		}
		k, err := newKey(master)
		if err != nil {
			mistakes.Add(fmt.Sprintf("keys[%d]", i), "", "cannot be used: "+err.Error())
			continue
		}
		s.keys = append(s.keys, k)
	}
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// An id is, before base64url:
//
//	version 1 | key id 4 | nonce 24 | sealed: issued at 8 | owner 16 | upstream
//
// and, at its end, the tag of 16 bytes. Version, context and endpoint are
// associated data.
const (
	version    = 1
	nonceStart = 1 + keyIDSize
	headerSize = nonceStart + nonceSize
	plainSize  = 8 + ownerSize // without the upstream id
)

// encoding has only visible ASCII, as session ids must, and one spelling for
// each sequence of bytes.
var encoding = base64.RawURLEncoding.Strict()

// Seal makes an id for a session that owner opened at an endpoint, and that the
// upstream calls by the given id, which may be empty. Two calls never give the
// same id. It fails on an endpoint over MaxEndpoint and an upstream id over
// MaxUpstream.
func (s *Sealer) Seal(endpoint string, owner Owner, upstream string) (string, error) {
	switch {
	case len(endpoint) > MaxEndpoint:
		return "", fmt.Errorf("endpoint name of %d bytes: want at most %d", len(endpoint), MaxEndpoint)
	case len(upstream) > MaxUpstream:
		return "", fmt.Errorf("upstream session id of %d bytes: want at most %d", len(upstream), MaxUpstream)
	}
	k := s.keys[0]
	id := make([]byte, headerSize, headerSize+plainSize+len(upstream)+tagSize)
	id[0] = version
	copy(id[1:], k.id[:])
	nonce := id[nonceStart:]
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	plain := make([]byte, 0, plainSize+len(upstream))
	plain = binary.BigEndian.AppendUint64(plain, uint64(time.Now().Unix()))
	mark := k.mark(owner)
	plain = append(plain, mark[:]...)
	plain = append(plain, upstream...)
	var buf [adSize]byte
	return encoding.EncodeToString(k.aead.Seal(id, nonce, plain, associated(buf[:0], endpoint))), nil
}

// Open returns the upstream's id of a session, when id was sealed by one of the
// keys for this endpoint, not more than MaxAge ago, for this owner. Otherwise
// the error is ErrInvalid, ErrExpired or ErrNotOwner, in this order of
// precedence. Owners are compared in constant time.
func (s *Sealer) Open(id, endpoint string, owner Owner) (upstream string, err error) {
	var space [512]byte
	raw, ok := decode(space[:0], id)
	if !ok || len(endpoint) > MaxEndpoint {
		return "", ErrInvalid
	}
	k, plain := s.open(raw, endpoint)
	if k == nil {
		return "", ErrInvalid
	}
	issued := int64(binary.BigEndian.Uint64(plain))
	if time.Now().Unix()-issued >= s.maxAge {
		return "", ErrExpired
	}
	mark := k.mark(owner)
	if subtle.ConstantTimeCompare(mark[:], plain[8:plainSize]) != 1 {
		return "", ErrNotOwner
	}
	return string(plain[plainSize:]), nil
}

// decode undoes the encoding and checks what can be seen without a key.
func decode(space []byte, id string) ([]byte, bool) {
	if len(id) > MaxID {
		return nil, false
	}
	for i := range len(id) {
		// The decoder would skip line ends: another spelling of the same id.
		if id[i] <= ' ' || id[i] >= 0x7F {
			return nil, false
		}
	}
	raw, err := encoding.AppendDecode(space, []byte(id))
	if err != nil || len(raw) < headerSize+plainSize+tagSize || raw[0] != version {
		return nil, false
	}
	return raw, true
}

// open finds the key and decrypts; the key is nil when there is none.
func (s *Sealer) open(raw []byte, endpoint string) (*key, []byte) {
	var buf [adSize]byte
	ad := associated(buf[:0], endpoint)
	nonce, sealed := raw[nonceStart:headerSize], raw[headerSize:]
	for _, k := range s.keys {
		// A foreign key may share the short id; decrypting tells them apart.
		if k.id != [keyIDSize]byte(raw[1:nonceStart]) {
			continue
		}
		var space [256]byte
		if plain, err := k.aead.Open(space[:0], nonce, sealed, ad); err == nil {
			return k, plain
		}
	}
	return nil, nil
}
