package people

import (
	"regexp"
)

// WeakHash hashes at a cost that is too low today.
func WeakHash(password string) string {
	h := hashed{memory: 8, time: 1, threads: 1, salt: []byte("sixteen byte salt")}
	h.key = h.derive([]byte(password))
	return h.String()
}

var storedHash = regexp.MustCompile(`"\$argon2id[^"]+"`)

// WithHash puts another hash into a stored record.
func WithHash(record, hash string) string {
	return storedHash.ReplaceAllLiteralString(record, `"`+hash+`"`)
}

// Counted is how many things are remembered.
func (l *Limits) Counted() int { return l.order.Len() }

// MaxCounted is how many may be.
const MaxCounted = maxCounted

// Occupy takes all the room there is for checks, until the function is called.
func (a *Accounts) Occupy() (leave func()) {
	for range checksAtOnce {
		a.busy <- struct{}{}
	}
	return func() {
		for range checksAtOnce {
			a.leave()
		}
	}
}
