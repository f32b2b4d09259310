package stepup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// effort is how often a login was asked for on behalf of an operation since it last
// succeeded.
type effort struct {
	asks int
	last time.Time
}

// maxEfforts bounds the operations that are remembered, and effortAge how long a
// login that came to nothing is remembered.
const (
	maxEfforts = 1024
	effortAge  = 10 * time.Minute
)

// maxVain is how many logins may come to nothing within effortAge, whatever they were
// for: who refuses ten windows does not want an eleventh.
const maxVain = 10

// vain is how many logins came to nothing lately, and when the last one was asked for.
// The caller holds a.mu.
func (a *account) vain() (asks int, last time.Time) {
	for _, e := range a.efforts {
		if time.Since(e.last) < effortAge {
			asks += e.asks
			if e.last.After(last) {
				last = e.last
			}
		}
	}
	return asks, last
}

// allowed reports why no login may be asked for now; nil if one may. That a server
// refuses for ever, names other scopes each time or takes no token at all must not
// open one window after the other (REQ-53). The caller holds a.mu.
func (a *account) allowed(d demand) error {
	recent := a.login != nil && time.Since(a.asked) < effortAge
	e := a.efforts[d.purpose()]
	switch {
	case d.operation == http.MethodDelete:
		return errors.New("nobody is asked to log in for the end of a session")
	case recent && d.kind == wantsToken && !a.accepted:
		return fmt.Errorf("the server refuses the token that %s has just issued for it%s: whoever runs the server has to find out why",
			a.login.Issuer, quoted(d.description))
	case recent && d.kind == wantsScopes && includes(a.login.Scopes, d.scopes):
		return fmt.Errorf("the token has %s, and the server still says that it is missing%s: whoever runs the server has to find out why",
			strings.Join(d.scopes, " "), quoted(d.description))
	case recent && d.kind == wantsScopes && includes(a.login.Asked, d.scopes):
		return fmt.Errorf("the last login asked for %s and was not given it%s: log out to be asked again, or have it granted at %s",
			strings.Join(d.scopes, " "), quoted(d.description), a.login.Issuer)
	case e != nil && e.asks >= a.t.config.MaxStepUps && time.Since(e.last) < effortAge:
		return inVain(e.asks, e.last)
	}
	if asks, last := a.vain(); asks >= max(maxVain, a.t.config.MaxStepUps) {
		return inVain(asks, last)
	}
	return nil
}

func inVain(asks int, last time.Time) error {
	return fmt.Errorf("%d logins in a row did not help: try again in %d minutes, or log out and in again",
		asks, max(1, int((effortAge-time.Since(last)).Minutes())))
}

func quoted(description string) string {
	if description == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", plain(description))
}

// purpose is what logins are counted for: the first ones apart from the step-ups.
func (d demand) purpose() string {
	if d.kind == wantsToken {
		return "login " + d.operation
	}
	return d.operation
}

// mayAsk reports why the login under way may be no more than a refresh; nil if it may.
func (a *account) mayAsk(d demand) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending.asked = true
	return a.allowed(d)
}

// count counts a login that is asked for. What fails before, since an issuer is down or
// this machine is offline, has bothered nobody.
func (a *account) count(d demand) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.efforts[d.purpose()]
	if e == nil || time.Since(e.last) > effortAge {
		if len(a.efforts) >= maxEfforts {
			clear(a.efforts)
		}
		e = &effort{}
		a.efforts[d.purpose()] = e
	}
	e.asks++
	e.last = time.Now()
}

// mayHelp reports why asking for a login could not help a request that was refused
// with used; nil if it could, if a refresh might do, or if there is a newer login to
// try first.
func (a *account) mayHelp(ctx context.Context, d demand, used *Login) error {
	a.mu.Lock()
	if used != a.login || a.pending != nil || a.refreshable(d, used) {
		a.mu.Unlock()
		return nil
	}
	why := a.allowed(d)
	a.mu.Unlock()
	if why != nil && a.changedElsewhere(ctx) {
		return nil
	}
	return why
}

// changedElsewhere takes over what another process has done with the login meanwhile: a
// person who logs out, or in anew, wants to be asked again.
func (a *account) changedElsewhere(ctx context.Context) bool {
	saved, err := LoadLogin(ctx, a.t.config.Store, a.resource)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || a.unsaved || a.login == nil || saved != nil && saved.AccessToken == a.login.AccessToken {
		return false
	}
	a.login, a.asked = saved, time.Time{}
	clear(a.efforts)
	return true
}

// refreshable reports whether a refresh could bring what a demand wants: it brings no
// new scopes.
func (a *account) refreshable(d demand, login *Login) bool {
	return d.kind == wantsToken && !d.anew && login != nil && login.RefreshToken != "" && login.covers(d.scopes)
}

// succeeded notes that a request was answered with a login.
func (a *account) succeeded(operation string, login *Login, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range []kind{wantsToken, wantsScopes} {
		delete(a.efforts, demand{kind: k, operation: operation}.purpose())
	}
	if login != nil && login == a.login && status < http.StatusBadRequest {
		a.accepted = true
	}
}

// explanationKey is where Explanation looks in the context of a response's request:
// what wraps bodies does not hide it there.
type explanationKey struct{}

func explain(resp *http.Response, why *Error) *http.Response {
	r := resp.Request
	resp.Request = r.WithContext(context.WithValue(r.Context(), explanationKey{}, why))
	return resp
}

// Explanation is why a 401 or 403 that Transport returned was not answered by a login,
// and what can be done: an *Error to show to a person. It is nil for every other
// response.
func Explanation(resp *http.Response) error {
	if resp.Request != nil {
		if why, ok := resp.Request.Context().Value(explanationKey{}).(*Error); ok {
			return why
		}
	}
	return nil
}
