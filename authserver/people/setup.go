package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"time"
)

// SetupLifetime is how long the link for the first account works.
const SetupLifetime = time.Hour

// setup is the link for the first account, as it is stored.
type setup struct {
	Hash    []byte    `json:"hash"` // SHA-256 of the token
	Expires time.Time `json:"expires"`
}

func (s *setup) opens(token string) bool {
	if s == nil || !time.Now().Before(s.Expires) {
		return false
	}
	hash := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(hash[:], s.Hash) == 1
}

// NewSetup returns the token of a new link for the first account, which takes the
// place of an earlier one. It returns "" when there are accounts already.
func (a *Accounts) NewSetup(ctx context.Context) (token string, err error) {
	err = a.update(ctx, func(r *record) error {
		token, r.Setup = "", nil
		if len(r.Accounts) > 0 {
			return nil
		}
		token = rand.Text()
		hash := sha256.Sum256([]byte(token))
		r.Setup = &setup{Hash: hash[:], Expires: time.Now().UTC().Add(SetupLifetime)}
		return nil
	})
	return token, err
}

// CheckSetup returns ErrLink unless the token opens the form for the first
// account. It uses nothing up: mail programs and browsers look at links.
func (a *Accounts) CheckSetup(ctx context.Context, token string) error {
	r, _, err := a.load(ctx)
	if err == nil && (len(r.Accounts) > 0 || !r.Setup.opens(token)) {
		err = ErrLink
	}
	return err
}

// AddFirst makes the first account and uses the link up, both in one. Errors:
// ErrLink, ErrName, ErrPassword, and those of the store. A name or password that
// cannot be used leaves the link as it is.
func (a *Accounts) AddFirst(ctx context.Context, token, name, password string) (Account, error) {
	if err := a.CheckSetup(ctx, token); err != nil {
		return Account{}, err // before anything costly
	}
	name, hash, err := a.prepare(ctx, name, password)
	if err != nil {
		return Account{}, err
	}
	var account Account
	err = a.update(ctx, func(r *record) (err error) {
		if len(r.Accounts) > 0 || !r.Setup.opens(token) {
			return ErrLink
		}
		account, err = r.insert(name, hash)
		r.Setup = nil
		return err
	})
	return account, err
}
