package forward

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/stile-mcp/stile/session"
)

const (
	// pingTime is how long a client that only listens has to answer a ping.
	pingTime = 30 * time.Second
	// evictAge is how long a session must have been idle to make room for another
	// one of the same caller.
	evictAge = 10 * time.Second
	// pingPrefix begins the ids of Stile's own pings.
	pingPrefix = "stile-ping-"
)

// clientSession is one session of the 2025 revisions.
type clientSession struct {
	c       *Command
	id      string
	owner   session.Owner
	child   *child
	version string // that was agreed on

	box      *mailbox
	standing *stream // what the GET stream sends

	// Of a session on a shared child; guarded by child.mu.
	subscribed map[string]bool
	level      int

	mu     sync.Mutex
	active int // POSTs that wait for an answer
	used   time.Time
	pinged time.Time // zero: not since it was used
	pings  int
	idle   *time.Timer
	over   bool
}

// newSession makes a session of a child. It is not found by its id before enter.
func (c *Command) newSession(owner session.Owner, k *child) *clientSession {
	s := &clientSession{c: c, id: newID(), owner: owner, child: k, box: newMailbox(&c.config, true), used: time.Now()}
	s.box.unsent = k.replyGone
	s.standing = s.box.open()
	s.standing.resumable = true
	return s
}

// join lets the child know its session; false when the child is gone.
func (k *child) join(s *clientSession) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.gone {
		k.sessions[s] = struct{}{}
	}
	return !k.gone
}

// enter puts a session into the table and lets its idle time begin.
func (c *Command) enter(s *clientSession) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.closed || s.over:
		return errClosed
	case len(c.sessions) >= c.config.MaxSessions:
		return &refusal{status: http.StatusServiceUnavailable, text: "too many sessions are open; try again later", retry: limitRetry}
	case len(c.ownedSessions[s.owner]) >= c.config.MaxPerCaller:
		return errTooMany // several were opened at once
	}
	c.sessions[s.id] = s
	if c.ownedSessions[s.owner] == nil {
		c.ownedSessions[s.owner] = map[*clientSession]struct{}{}
	}
	c.ownedSessions[s.owner][s] = struct{}{}
	s.used = time.Now()
	if c.config.IdleTimeout > 0 {
		s.idle = time.AfterFunc(c.config.IdleTimeout, s.checkIdle)
	}
	return nil
}

// find is the session that a request names. A stranger's is as good as none.
func (c *Command) find(q *request) (*clientSession, error) {
	if q.session == "" {
		return nil, errSessionID
	}
	c.mu.Lock()
	s := c.sessions[q.session]
	c.mu.Unlock()
	if s == nil || s.owner != q.owner {
		return nil, errNoSession
	}
	return s, nil
}

// touch says that the client is there.
func (s *clientSession) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used, s.pinged = time.Now(), time.Time{}
}

// busy counts POSTs that wait for an answer.
func (s *clientSession) busy(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active += n
	s.used, s.pinged = time.Now(), time.Time{}
}

// checkIdle ends the session when its client has been silent for too long. One
// that listens is asked first, since a dead connection may look like a quiet one.
func (s *clientSession) checkIdle() {
	s.mu.Lock()
	now := time.Now()
	left := s.c.config.IdleTimeout - now.Sub(s.used)
	listening := s.standing.attached()
	answerTime := min(pingTime, s.c.config.IdleTimeout)
	ask := false
	switch {
	case s.over:
		s.mu.Unlock()
		return
	case left > 0:
	case s.active > 0:
		left = s.c.config.IdleTimeout
	case listening && s.pinged.IsZero():
		s.pinged, left, ask = now, answerTime, true
		s.pings++
	case listening && now.Sub(s.pinged) < answerTime:
		left = answerTime - now.Sub(s.pinged)
	default:
		s.mu.Unlock()
		s.c.log.Info("idle session ended", "since", s.used)
		s.end("the session was idle for too long")
		return
	}
	s.idle.Reset(left)
	n := s.pings
	s.mu.Unlock()
	if ask {
		s.standing.add(event{data: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"%s%d","method":"ping"}`, pingPrefix, n)})
	}
}

// end ends the session: its calls are answered with why, its streams end, its id
// answers 404 from now on, and a child of its own is ended with it.
func (s *clientSession) end(why string) {
	s.mu.Lock()
	over := s.over
	s.over = true
	if s.idle != nil {
		s.idle.Stop()
	}
	s.mu.Unlock()
	if over {
		return
	}
	s.c.mu.Lock()
	delete(s.c.sessions, s.id)
	mine := s.c.ownedSessions[s.owner]
	if delete(mine, s); len(mine) == 0 {
		delete(s.c.ownedSessions, s.owner)
	}
	s.c.mu.Unlock()
	k := s.child
	k.mu.Lock()
	delete(k.sessions, s)
	var calls []*call
	for _, x := range k.calls {
		if x.session == s {
			calls = append(calls, x)
		}
	}
	k.used = time.Now()
	k.mu.Unlock()
	for _, x := range calls {
		x.fail(http.StatusNotFound, why)
		if k.shared {
			k.cancel(x)
		} else {
			k.forget(x)
		}
	}
	s.box.closeAll()
	if k.shared {
		k.unsubscribe(s)
	} else {
		k.stop()
	}
	if n := s.box.lost(); n > 0 {
		s.c.log.Warn("messages for a slow or absent client were dropped", "count", n)
	}
}

// makeRoom ends the oldest idle session of a caller that has as many as it may. It
// returns errTooMany when none is idle.
func (c *Command) makeRoom(owner session.Owner) error {
	for {
		var (
			oldest *clientSession
			since  = time.Now().Add(-evictAge)
		)
		c.mu.Lock()
		for s := range c.ownedSessions[owner] {
			s.mu.Lock()
			if s.active == 0 && s.used.Before(since) && !s.standing.attached() {
				oldest, since = s, s.used
			}
			s.mu.Unlock()
		}
		count := len(c.ownedSessions[owner])
		if c.config.Isolation == IsolateSession {
			count = max(count, c.owned[owner])
		}
		most := c.config.MaxPerCaller
		c.mu.Unlock()
		switch {
		case count < most:
			return nil
		case oldest == nil:
			return errTooMany
		}
		c.log.Info("oldest idle session of a caller ended to make room")
		oldest.end("another session of the same caller took its place")
		if c.config.Isolation == IsolateSession {
			c.awaitGone(oldest.child)
		}
	}
}

// awaitGone waits until a child that was stopped no longer counts.
func (c *Command) awaitGone(k *child) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*c.config.StopGrace)
	defer cancel()
	select {
	case <-k.released:
	case <-ctx.Done():
	}
}
