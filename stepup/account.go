package stepup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// load reads the saved login once. The caller holds a.mu.
func (a *account) load(ctx context.Context) error {
	if a.loaded {
		return nil
	}
	login, err := LoadLogin(ctx, a.t.config.Store, a.resource)
	if err != nil {
		return err
	}
	a.login, a.loaded = login, true
	return nil
}

// attempt is a login under way, which several requests may wait for.
type attempt struct {
	d     demand
	asked bool // it is more than a refresh
	done  chan struct{}
	err   error
}

// gain gets a login that is another than used. All requests that want one at the same
// time wait for the same login, and then look whether the server takes it.
func (a *account) gain(ctx context.Context, d demand, used *Login) error {
	for {
		a.mu.Lock()
		if a.login != used && a.login != nil {
			a.mu.Unlock()
			return nil // somebody was faster
		}
		at, mine := a.pending, false
		if at == nil {
			at, mine = &attempt{d: d, done: make(chan struct{})}, true
			a.pending = at
			go a.run(context.WithoutCancel(ctx), at, a.login)
		}
		a.mu.Unlock()
		select {
		case <-at.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if at.err != nil && (mine || at.d.kind == d.kind && includes(at.d.scopes, d.scopes)) {
			return at.err
		}
	}
}

// run makes one attempt. It outlives the request it was begun for: others wait for
// it, and a person may be in the middle of it.
func (a *account) run(ctx context.Context, at *attempt, used *Login) {
	limited, cancel := context.WithTimeout(ctx, a.t.config.LoginTimeout)
	defer cancel()
	login, err := a.obtain(limited, at.d, used)
	if err != nil && limited.Err() != nil {
		err = fmt.Errorf("it was not finished within %s: %w", a.t.config.LoginTimeout, err)
	}
	a.mu.Lock()
	switch {
	case err != nil:
		at.err = a.failure(at.d, used, err)
	case at.asked:
		a.login, a.asked, a.accepted = login, time.Now(), false
	default:
		a.login = login
	}
	a.pending = nil
	a.mu.Unlock()
	close(at.done)
}

// failure says what a demand was for, beside why it was not met.
func (a *account) failure(d demand, used *Login, err error) *Error {
	e := &Error{Resource: a.resource, Scopes: d.scopes, Err: err}
	if used != nil {
		e.Scopes = union(used.Asked, d.scopes)
	}
	if d.kind == wantsScopes {
		e.Operation = d.operation
	}
	return e
}

// obtain gets a login under the lock that other processes respect too: one of them
// may have logged in while this one waited.
func (a *account) obtain(ctx context.Context, d demand, used *Login) (*Login, error) {
	store := a.t.config.Store
	unlock, err := store.Lock(ctx, loginName(a.resource))
	if err != nil {
		return nil, err
	}
	defer unlock()
	saved, err := LoadLogin(ctx, store, a.resource)
	if err != nil {
		return nil, err
	}
	if saved != nil && (used == nil || saved.AccessToken != used.AccessToken) && !saved.ends() && saved.covers(d.scopes) {
		return saved, nil
	}
	login, err := a.fresh(ctx, d, saved)
	if err != nil {
		return nil, err
	}
	err = saveLogin(ctx, store, login)
	a.mu.Lock()
	a.unsaved = err != nil
	a.mu.Unlock()
	if err != nil {
		a.t.config.Log.Warn("the login cannot be saved, and ends with this process", "resource", a.resource, "error", err)
	}
	return login, nil
}

// fresh refreshes the login, or makes a new one where that cannot help.
func (a *account) fresh(ctx context.Context, d demand, old *Login) (*Login, error) {
	if a.refreshable(d, old) {
		login, err := a.refresh(ctx, old)
		if err == nil {
			return login, nil
		}
		var refused *TokenError
		if !errors.As(err, &refused) || refused.Status >= http.StatusInternalServerError {
			return nil, err // the issuer is down; a person could not log in either
		}
		a.forgetClient(ctx, old.Client, old.Issuer, refused)
		a.t.config.Log.Info("refresh was refused; logging in anew", "resource", a.resource, "error", refused.Code)
	}
	if err := a.mayAsk(d); err != nil {
		return nil, err
	}
	return a.logIn(ctx, d, old)
}

// logIn finds who issues tokens for the resource, and gets one.
func (a *account) logIn(ctx context.Context, d demand, old *Login) (*Login, error) {
	found, err := a.discover(ctx, d.metadata, old)
	if err != nil {
		return nil, err
	}
	found.dpop = d.dpop
	if err := a.checkIssuer(found.issuer.Issuer, old); err != nil {
		return nil, err
	}
	if old != nil && old.Issuer != found.issuer.Issuer {
		old = nil // another issuer knows nothing of what the first one granted
	}
	scopes := a.scopesFor(d, found, old)
	if a.t.config.Grant != nil {
		login, err := a.t.config.Grant.token(ctx, a, found, scopes)
		if err == nil {
			a.count(d)
		}
		return login, err
	}
	return a.askPerson(ctx, d, found, scopes)
}

// checkIssuer refuses an issuer that the credentials of the configuration are not for
// (REQ-58): the resource says who issues, and must not get by that what was given for
// another. Where the configuration does not say whose they are, it is the issuer of the
// saved login.
func (a *account) checkIssuer(issuer string, old *Login) error {
	c := a.t.config.Client
	switch {
	case c.Issuer != "" && c.Issuer != issuer:
		return fmt.Errorf("the client %s is registered with %s, but %s issues the tokens", cmp.Or(c.ID, "(without an id)"), c.Issuer, issuer)
	case c.Issuer != "" || c.ID == "" && a.t.config.Grant == nil:
		return nil
	case old != nil && old.Client.ID == c.ID && old.Issuer != issuer:
		return fmt.Errorf("%s issued the tokens before, and now %s issues the tokens: if that is right, log out and in again", old.Issuer, issuer)
	}
	return nil
}

// scopesFor is what a login asks for: what the challenge names, else what the
// metadata lists (REQ-51), with what was asked for before (REQ-53) and what the
// configuration adds. Nothing at all means that the issuer chooses.
func (a *account) scopesFor(d demand, found *discovery, old *Login) []string {
	scopes := d.scopes
	if len(scopes) == 0 && old == nil {
		scopes = found.resource.ScopesSupported
	}
	if old != nil {
		scopes = union(old.Asked, scopes)
	}
	return union(scopes, a.t.config.Scopes)
}
