package people

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
)

// LeastPassword is how many characters a password has at least (NIST SP 800-63B
// asks for 8; nothing else is asked of it, so it is a little longer here).
const LeastPassword = 12

// maxPassword bounds a password, in bytes, before anything is computed from it.
const maxPassword = 1024

// What a new password costs to check (argon2id, RFC 9106). OWASP's first choice:
// 19 MiB and two passes, some 20 ms. The numbers are stored with each hash, so
// that they can be raised; whoever signs in then gets a new hash.
const (
	costMemory  = 19 << 10 // KiB
	costTime    = 2
	costThreads = 1
	saltBytes   = 16
	keyBytes    = 32
)

// Bounds of what a stored hash may ask for: a broken record must not use up the
// machine.
const (
	maxMemory  = 256 << 10 // KiB
	maxTime    = 16
	maxThreads = 16
)

// hashed is an argon2id hash, taken apart.
type hashed struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// newHash hashes a prepared password with a new salt at the current cost.
func newHash(password []byte) string {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	h := hashed{memory: costMemory, time: costTime, threads: costThreads, salt: salt}
	h.key = h.derive(password)
	return h.String()
}

// unmatched is a hash at the current cost that no password has: what is checked
// for names that do not exist, so that they take as long as those that do.
func unmatched() string {
	random := make([]byte, saltBytes+keyBytes)
	_, _ = rand.Read(random)
	return hashed{costMemory, costTime, costThreads, random[:saltBytes], random[saltBytes:]}.String()
}

func (h hashed) derive(password []byte) []byte {
	return argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, keyBytes)
}

// String is the hash in the form that other programs read too (PHC).
func (h hashed) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

func parseHash(s string) (hashed, error) {
	var (
		h         hashed
		version   int
		salt, key string
	)
	// %s ends at a space only, so the two last parts come in one.
	n, err := fmt.Sscanf(s, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &h.memory, &h.time, &h.threads, &salt)
	if err != nil || n != 5 || version != argon2.Version {
		return h, errors.New("not an argon2id hash")
	}
	for i := range len(salt) {
		if salt[i] == '$' {
			salt, key = salt[:i], salt[i+1:]
			break
		}
	}
	var errSalt, errKey error
	h.salt, errSalt = base64.RawStdEncoding.DecodeString(salt)
	h.key, errKey = base64.RawStdEncoding.DecodeString(key)
	if errSalt != nil || errKey != nil || len(h.salt) < 8 || len(h.key) != keyBytes {
		return h, errors.New("an argon2id hash with a broken salt or key")
	}
	if h.memory > maxMemory || h.time == 0 || h.time > maxTime || h.threads == 0 || h.threads > maxThreads {
		return h, errors.New("an argon2id hash that costs too much or nothing")
	}
	return h, nil
}

// matches compares in constant time. outdated says that the hash costs less than
// a new one would.
func matches(stored string, password []byte) (ok, outdated bool, err error) {
	h, err := parseHash(stored)
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(h.derive(password), h.key) == 1
	return ok, h.memory < costMemory || h.time < costTime, nil
}

// preparePassword brings a password into the one form that is hashed (RFC 8265
// OpaqueString: NFC, other spaces as space), so that every keyboard gives the same.
func preparePassword(password string) ([]byte, error) {
	if len(password) > maxPassword {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrPassword, maxPassword)
	}
	prepared, err := precis.OpaqueString.String(password)
	if err != nil {
		return nil, fmt.Errorf("%w: empty, or with characters that are no text", ErrPassword)
	}
	return []byte(prepared), nil
}

// newPassword prepares a password that was chosen.
func newPassword(password string) ([]byte, error) {
	prepared, err := preparePassword(password)
	if err == nil && utf8.RuneCount(prepared) < LeastPassword {
		err = fmt.Errorf("%w: shorter than %d characters", ErrPassword, LeastPassword)
	}
	return prepared, err
}
