package authserver

import (
	"slices"
	"sync"
	"time"

	"github.com/stile-mcp/stile/scope"
)

// challenge is what the gateway asked a client for last, and of which the
// authorization server has not heard yet.
type challenge struct {
	scopes    []string
	operation string
	until     time.Time
	refused   int       // how many refreshes were refused for it
	first     time.Time // when the first was
}

// challengeLife is how long a challenge is pending, and maxChallenges how many are
// remembered. againWithin is how soon a client that holds on to its tokens tries the
// refused refresh again.
const (
	challengeLife = 10 * time.Minute
	maxChallenges = 10_000
	againWithin   = 10 * time.Second
)

// challenges are the pending ones, by person and client. They live in memory: after
// a restart a client that refreshes is challenged again.
type challenges struct {
	mu sync.Mutex
	by map[subjectClient]*challenge
}

type subjectClient struct{ subject, client string }

// Challenged says that a client was answered with 403 insufficient_scope: what it
// needs, and for which operation. The consent page tells the operation, and the next
// refresh of the client's grant is refused, so that clients that refresh first go and
// ask (DES-34 ii).
func (s *Server) Challenged(subject, client string, scopes []string, operation string) {
	c := &s.pending
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	key := subjectClient{subject, client}
	if old := c.by[key]; old != nil && slices.Equal(old.scopes, scopes) && now.Before(old.until) {
		old.until, old.operation = now.Add(challengeLife), operation
		return // the same again does not refuse twice
	}
	if c.by == nil {
		c.by = map[subjectClient]*challenge{}
	}
	if len(c.by) >= maxChallenges {
		c.forgetOld(now)
	}
	c.by[key] = &challenge{scopes: slices.Clone(scopes), operation: operation, until: now.Add(challengeLife)}
}

// forgetOld makes room: for what is over, or for all if nothing is.
func (c *challenges) forgetOld(now time.Time) {
	for key, one := range c.by {
		if now.After(one.until) {
			delete(c.by, key)
		}
	}
	if len(c.by) >= maxChallenges {
		clear(c.by)
	}
}

// refuseRefresh returns the error that a refresh is to be refused with, or "": a
// challenge is pending that the grant does not fulfil. The first time it is
// invalid_grant, upon which a client drops its tokens and asks the person. One whose
// host does not drop them tries again at once, and is told server_error then, which
// it takes for a refresh that does not work, and asks (decision 15). After that the
// refresh is granted.
func (c *challenges) refuseRefresh(subject, client string, granted []string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	one := c.by[subjectClient{subject, client}]
	if one == nil || now.After(one.until) || includes(granted, one.scopes) {
		return ""
	}
	one.refused++
	switch {
	case one.refused == 1:
		one.first = now
		return "invalid_grant"
	case one.refused == 2 && now.Sub(one.first) < againWithin:
		return "server_error"
	}
	return ""
}

// operation is what a request for scopes is probably for, and what that needs.
func (c *challenges) operation(subject, client string, asked []string) (operation string, needs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.by[subjectClient{subject, client}]
	if one == nil || time.Now().After(one.until) || !slices.ContainsFunc(one.scopes, func(s string) bool { return slices.Contains(asked, s) }) {
		return "", nil
	}
	return one.operation, one.scopes
}

// answered forgets a challenge when its person has decided.
func (c *challenges) answered(subject, client string) {
	c.mu.Lock()
	delete(c.by, subjectClient{subject, client})
	c.mu.Unlock()
}

// includes reports whether all of some are in all.
func includes(all, some []string) bool { return len(scope.Set(some).Without(all)) == 0 }
