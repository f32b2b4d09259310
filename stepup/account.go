package stepup

import (
	"context"
	"errors"
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

// gain gets a login that is another than used and has what the demand names. All
// requests that want one at the same time wait for the same login.
func (a *account) gain(ctx context.Context, d demand, used *Login) error {
	for {
		a.mu.Lock()
		if a.login != used && a.login != nil && !a.login.ends() && a.login.covers(d.scopes) {
			a.mu.Unlock()
			return nil // somebody was faster
		}
		at, mine := a.pending, false
		if at == nil {
			at, mine = &attempt{done: make(chan struct{})}, true
			a.pending = at
			go a.run(context.WithoutCancel(ctx), at, d, a.login)
		}
		a.mu.Unlock()
		select {
		case <-at.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if at.err != nil || mine {
			return at.err
		}
		// It was begun for another request: look whether it brought what this one
		// needs.
	}
}

// run makes one attempt. It outlives the request it was begun for: others wait for
// it, and a person may be in the middle of it.
func (a *account) run(ctx context.Context, at *attempt, d demand, used *Login) {
	ctx, cancel := context.WithTimeout(ctx, a.t.config.LoginTimeout)
	defer cancel()
	login, err := a.obtain(ctx, d, used)
	a.mu.Lock()
	if err == nil {
		a.login = login
	} else {
		asked := d.scopes
		if used != nil {
			asked = union(used.Asked, asked)
		}
		at.err = &Error{Resource: a.resource, Operation: operationName(d), Scopes: asked, Err: err}
	}
	a.pending = nil
	a.mu.Unlock()
	close(at.done)
}

func operationName(d demand) string {
	if d.kind == wantsScopes {
		return d.operation
	}
	return ""
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
	return login, saveLogin(ctx, store, login)
}

// fresh refreshes the login, or makes a new one where that cannot help: a refresh
// brings no new scopes.
func (a *account) fresh(ctx context.Context, d demand, old *Login) (*Login, error) {
	if d.kind == wantsToken && old != nil && old.RefreshToken != "" && old.covers(d.scopes) {
		login, err := a.refresh(ctx, old)
		if err == nil {
			return login, nil
		}
		var refused *TokenError
		if !errors.As(err, &refused) {
			return nil, err // the issuer is down; a person could not log in either
		}
		a.t.config.Log.Info("refresh was refused; logging in anew", "resource", a.resource, "error", refused.Code)
	}
	return a.logIn(ctx, d, old)
}

// logIn finds who issues tokens for the resource, and gets one.
func (a *account) logIn(ctx context.Context, d demand, old *Login) (*Login, error) {
	found, err := a.discover(ctx, d.metadata, old)
	if err != nil {
		return nil, err
	}
	if old != nil && old.Issuer != found.issuer.Issuer {
		old = nil // another issuer knows nothing of what the first one granted
	}
	scopes := a.scopesFor(d, found, old)
	if a.t.config.Grant != nil {
		return a.t.config.Grant.token(ctx, a, found, scopes)
	}
	return a.askPerson(ctx, d, found, scopes)
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
