package portaltest

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
)

// Core is a portal.Core in memory. It is safe for concurrent use.
type Core struct {
	mu      sync.Mutex // guards all
	next    portal.Request
	pending map[string]portal.Request
	grants  map[string][]portal.Grant // by subject
	log     Log
}

// Log is what a Core was told.
type Log struct {
	Allowed [][]string      // scopes of each consent
	Who     []people.Person // who gave it
	Refused int
	Revoked []string // ids of grants
}

// Since is the day on which every grant of a Core was given.
var Since = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)

// Ask says what the requests to come ask for.
func (c *Core) Ask(next portal.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = next
}

// Log returns what the Core was told so far.
func (c *Core) Log() Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	log.Allowed, log.Who, log.Revoked = slices.Clone(log.Allowed), slices.Clone(log.Who), slices.Clone(log.Revoked)
	return log
}

func (c *Core) begin(id, browser string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request := c.next
	request.Browser = browser
	c.pending[id] = request
}

// Pending returns a request, with the scopes that the person granted before.
func (c *Core) Pending(_ context.Context, id string, person people.Person) (portal.Request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, ok := c.pending[id]
	if !ok {
		return request, portal.ErrGone
	}
	request.Scopes = slices.Clone(request.Scopes)
	for _, grant := range c.grants[person.Subject] {
		for i, asked := range request.Scopes {
			if slices.ContainsFunc(grant.Scopes, func(s portal.Scope) bool { return s.Name == asked.Name }) {
				request.Scopes[i].Granted = true
			}
		}
	}
	return request, nil
}

// take ends a request. The caller holds the lock.
func (c *Core) take(id string) (portal.Request, error) {
	request, ok := c.pending[id]
	if !ok {
		return request, portal.ErrGone
	}
	delete(c.pending, id)
	return request, nil
}

// Allow gives a grant, in place of the person's earlier one.
func (c *Core) Allow(_ context.Context, id string, person people.Person, scopes []string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, err := c.take(id)
	if err != nil {
		return "", err
	}
	c.log.Allowed, c.log.Who = append(c.log.Allowed, scopes), append(c.log.Who, person)
	grant := portal.Grant{ID: rand.Text(), Client: request.Client, Server: request.Server, Since: Since}
	for _, asked := range request.Scopes {
		if slices.Contains(scopes, asked.Name) {
			grant.Scopes = append(grant.Scopes, asked)
		}
	}
	c.grants[person.Subject] = []portal.Grant{grant}
	return request.RedirectURI + "?code=c0de&state=x", nil
}

// Refuse ends a request.
func (c *Core) Refuse(_ context.Context, id string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, err := c.take(id)
	if err != nil {
		return "", err
	}
	c.log.Refused++
	return request.RedirectURI + "?error=access_denied", nil
}

// Grants returns what a person allowed.
func (c *Core) Grants(_ context.Context, subject string) ([]portal.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.grants[subject]), nil
}

// Revoke ends a grant.
func (c *Core) Revoke(_ context.Context, subject, id string) (portal.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.grants[subject], func(g portal.Grant) bool { return g.ID == id })
	if at < 0 {
		return portal.Grant{}, portal.ErrGone
	}
	grant := c.grants[subject][at]
	c.grants[subject] = slices.Delete(slices.Clone(c.grants[subject]), at, at+1)
	c.log.Revoked = append(c.log.Revoked, id)
	return grant, nil
}
