package stile

import (
	"sync"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/session"
)

// maxUnconfirmed is how many times in a row nobody can be asked about the token of an
// open stream before the stream ends: an issuer that is out of reach must not keep
// alive what it may have revoked.
const maxUnconfirmed = 3

// streamEnd is when an event stream of this exchange ends at the latest: with its
// token (DES-43), and without a known end of that after StreamMaxAge. Zero: never.
func (x *exchange) streamEnd() time.Time {
	if x.identity != nil && !x.identity.Expiry.IsZero() {
		return x.identity.Expiry
	}
	if x.g.config.StreamMaxAge > 0 {
		return time.Now().Add(x.g.config.StreamMaxAge)
	}
	return time.Time{}
}

// tokenWatch asks again about a token that can be revoked while a stream of it is
// open, and ends the stream when the token, or the right to the stream, is gone
// (DES-43). A timer waits, no goroutine.
type tokenWatch struct {
	x   *exchange
	end func()

	mu          sync.Mutex // guards what follows
	timer       *time.Timer
	stopped     bool
	unconfirmed int
}

// watchToken calls end, at most once, when the token is no longer good. stop ends
// the watch.
func (x *exchange) watchToken(end func()) (stop func()) {
	if x.identity == nil || x.identity.Recheck <= 0 {
		return func() {}
	}
	w := &tokenWatch{x: x, end: end}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(x.identity.Recheck, w.look)
	return w.stop
}

func (w *tokenWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

// look asks, and either ends the stream or waits for the next time.
func (w *tokenWatch) look() {
	good, asked := w.x.stillGood()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if asked {
		w.unconfirmed = 0
	} else {
		w.unconfirmed++
		good = w.unconfirmed < maxUnconfirmed
	}
	if good {
		w.timer.Reset(w.x.identity.Recheck)
		return
	}
	w.stopped = true
	go w.end() // it may wait for whoever calls stop
}

// stillGood reports whether the token of an exchange still names the same owner and
// allows the same call, and whether that could be asked.
func (x *exchange) stillGood() (good, asked bool) {
	id, err := x.s.authenticator.Authenticate(x.r)
	switch {
	case err == nil:
		return ownerOf(id) == x.owner() && x.s.policy.Decide(id, x.call).Outcome == authorize.Allow, true
	case err.Kind == authenticate.Unavailable:
		return true, x.r.Context().Err() != nil
	default:
		return false, true
	}
}

// ownerOf is whom the sessions of an identity belong to (DES-40).
func ownerOf(id *authenticate.Identity) session.Owner {
	return session.Owner{Issuer: id.Issuer, Subject: id.Subject, Kind: uint8(id.SubjectKind)}
}
