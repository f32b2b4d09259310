// Package people knows who may sign in: local accounts with passwords, and the
// link with which the first of them is made.
//
// All accounts are one record of the store, changed by compare-and-swap. There are
// few, they change seldom, and so a name cannot be taken twice and the first
// account cannot be made twice, whichever replica is asked.
package people

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What can be wrong with what somebody wants. Each may be shown to them.
var (
	ErrName     = errors.New("this name cannot be used")
	ErrPassword = errors.New("this password cannot be used")
	ErrTaken    = errors.New("there is an account of this name already")
	ErrUnknown  = errors.New("there is no account of this name")
	ErrFull     = errors.New("there are as many accounts as there may be; use an OpenID provider instead")
	ErrLink     = errors.New("this link was used, has expired, or was replaced by a newer one")
	ErrBusy     = errors.New("there are too many sign-ins at once")
	// ErrMismatch is all that a failed sign-in says.
	ErrMismatch = errors.New("name and password do not belong together")
)

// maxAccounts keeps the record small. A company with more people has a provider.
const maxAccounts = 1000

// Person is somebody who signed in, by password or through a provider.
type Person struct {
	// Subject is the sub of tokens: unique, and never given to anybody else.
	Subject string
	// Name is what pages call the person.
	Name string
	// Scopes are those the person may grant; nil: all there are.
	Scopes []string
}

// Account is a local account.
type Account struct {
	Name    string    `json:"name"` // as Name returns it
	Subject string    `json:"subject"`
	Hash    string    `json:"hash"`    // argon2id, with its parameters
	Created time.Time `json:"created"` // UTC
	// Epoch changes with the password. Sessions of another epoch are over.
	Epoch string `json:"epoch"`
}

// Person is who signed in with this account.
func (a Account) Person() Person { return Person{Subject: a.Subject, Name: a.Name} }

// Accounts are the local accounts. They are safe for concurrent use.
type Accounts struct {
	records   Records
	unmatched string
	busy      chan struct{} // bounds the memory that checks take at once
}

// NewAccounts returns the accounts that are kept in records.
func NewAccounts(records Records) *Accounts {
	return &Accounts{records: records, unmatched: unmatched(), busy: make(chan struct{}, checksAtOnce)}
}

const (
	// checksAtOnce bounds password checks side by side: each takes 19 MiB.
	checksAtOnce = 4
	// longestWait is how long one of them waits for its turn.
	longestWait = 10 * time.Second
)

// Records is the part of the store that accounts need.
type Records interface {
	// Load returns a value and what stands for its revision, or nil, "" when there
	// is none.
	Load(ctx context.Context, key string) (value []byte, revision string, err error)
	// Swap stores a value until expires, or for ever when that is zero, if the
	// revision still is the current one.
	Swap(ctx context.Context, key, revision string, value []byte, expires time.Time) (swapped bool, err error)
}

// recordKey is where all accounts are.
const recordKey = "people"

// record is everything that is stored about local people.
type record struct {
	Accounts []Account `json:"accounts"` // by name
	Setup    *setup    `json:"setup,omitempty"`
}

// find returns the position of a folded name.
func (r *record) find(name string) (int, bool) {
	return slices.BinarySearchFunc(r.Accounts, name, func(a Account, name string) int { return strings.Compare(a.Name, name) })
}

// insert puts in a new account. Both arguments are prepared.
func (r *record) insert(name, hash string) (Account, error) {
	at, found := r.find(name)
	if found {
		return Account{}, ErrTaken
	}
	if len(r.Accounts) >= maxAccounts {
		return Account{}, ErrFull
	}
	// The random end keeps a later account of the same name from being taken for
	// this one; the name in front keeps the audit readable.
	account := Account{Name: name, Subject: name + "-" + strings.ToLower(rand.Text()[:10]), Hash: hash, Created: time.Now().UTC(), Epoch: rand.Text()}
	r.Accounts = slices.Insert(r.Accounts, at, account)
	return account, nil
}

func (a *Accounts) load(ctx context.Context) (record, string, error) {
	var r record
	value, revision, err := a.records.Load(ctx, recordKey)
	if err == nil && value != nil {
		err = json.Unmarshal(value, &r)
	}
	if err != nil {
		return record{}, "", fmt.Errorf("reading accounts: %w", err)
	}
	return r, revision, nil
}

// update changes the record, again and again until nobody else did meanwhile.
func (a *Accounts) update(ctx context.Context, change func(*record) error) error {
	for {
		r, revision, err := a.load(ctx)
		if err != nil {
			return err
		}
		if err := change(&r); err != nil {
			return err
		}
		value, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("writing accounts: %w", err)
		}
		swapped, err := a.records.Swap(ctx, recordKey, revision, value, time.Time{})
		if err != nil {
			return fmt.Errorf("writing accounts: %w", err)
		}
		if swapped {
			return nil
		}
	}
}

// Add makes an account. Errors: ErrName, ErrPassword, ErrTaken, ErrFull, and those
// of the store.
func (a *Accounts) Add(ctx context.Context, name, password string) (Account, error) {
	name, hash, err := a.prepare(ctx, name, password)
	if err != nil {
		return Account{}, err
	}
	var account Account
	err = a.update(ctx, func(r *record) (err error) {
		account, err = r.insert(name, hash)
		r.Setup = nil // whoever can add accounts needs no link
		return err
	})
	return account, err
}

// prepare checks and folds a name, and hashes a new password.
func (a *Accounts) prepare(ctx context.Context, name, password string) (folded, hash string, err error) {
	folded, err = Name(name)
	prepared, wrong := newPassword(password)
	if err = errors.Join(err, wrong); err != nil {
		return "", "", err
	}
	if err := a.enter(ctx); err != nil {
		return "", "", err
	}
	defer a.leave()
	return folded, newHash(prepared), nil
}

// Remove takes an account away and returns what it was. Its sessions are over;
// its grants are for the caller to end. Errors: ErrUnknown and those of the store.
func (a *Accounts) Remove(ctx context.Context, name string) (Account, error) {
	var account Account
	err := a.change(ctx, name, func(r *record, at int) {
		account = r.Accounts[at]
		r.Accounts = slices.Delete(r.Accounts, at, at+1)
	})
	return account, err
}

// SetPassword gives an account another password, which ends its sessions. Errors:
// ErrUnknown, ErrPassword, and those of the store.
func (a *Accounts) SetPassword(ctx context.Context, name, password string) (Account, error) {
	name, hash, err := a.prepare(ctx, name, password)
	if err != nil {
		return Account{}, err
	}
	var account Account
	err = a.change(ctx, name, func(r *record, at int) {
		r.Accounts[at].Hash, r.Accounts[at].Epoch = hash, rand.Text()
		account = r.Accounts[at]
	})
	return account, err
}

// change finds an account and lets something be done to it.
func (a *Accounts) change(ctx context.Context, name string, do func(r *record, at int)) error {
	name, err := Name(name)
	if err != nil {
		return ErrUnknown
	}
	return a.update(ctx, func(r *record) error {
		at, found := r.find(name)
		if !found {
			return ErrUnknown
		}
		do(r, at)
		return nil
	})
}

// List returns all accounts, by name.
func (a *Accounts) List(ctx context.Context) ([]Account, error) {
	r, _, err := a.load(ctx)
	return r.Accounts, err
}

// Subject returns the account of a subject, or ErrUnknown when it was removed.
func (a *Accounts) Subject(ctx context.Context, subject string) (Account, error) {
	r, _, err := a.load(ctx)
	if err != nil {
		return Account{}, err
	}
	at := slices.IndexFunc(r.Accounts, func(a Account) bool { return a.Subject == subject })
	if at < 0 {
		return Account{}, ErrUnknown
	}
	return r.Accounts[at], nil
}

// Check returns the account that a name and a password belong to, or ErrMismatch,
// which takes as long for a name that does not exist. Limits are the caller's.
func (a *Accounts) Check(ctx context.Context, name, password string) (Account, error) {
	prepared, err := preparePassword(password)
	if err != nil {
		return Account{}, ErrMismatch // told from the password alone
	}
	r, _, err := a.load(ctx)
	if err != nil {
		return Account{}, err
	}
	account, stored := Account{}, a.unmatched
	if folded, err := Name(name); err == nil {
		if at, found := r.find(folded); found {
			account, stored = r.Accounts[at], r.Accounts[at].Hash
		}
	}
	if err := a.enter(ctx); err != nil {
		return Account{}, err
	}
	defer a.leave()
	ok, outdated, err := matches(stored, prepared)
	if err != nil {
		return Account{}, fmt.Errorf("account %s: %w", account.Name, err)
	}
	if !ok {
		return Account{}, ErrMismatch
	}
	if outdated {
		return account, a.renew(ctx, account, newHash(prepared))
	}
	return account, nil
}

// renew stores a stronger hash of the same password.
func (a *Accounts) renew(ctx context.Context, account Account, hash string) error {
	return a.change(ctx, account.Name, func(r *record, at int) {
		if r.Accounts[at].Hash == account.Hash {
			r.Accounts[at].Hash = hash
		}
	})
}

// enter waits for room to compute a hash: until ctx ends, or until it has become
// ErrBusy.
func (a *Accounts) enter(ctx context.Context) error {
	timer := time.NewTimer(longestWait)
	defer timer.Stop()
	select {
	case a.busy <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Accounts) leave() { <-a.busy }
