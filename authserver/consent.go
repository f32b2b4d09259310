package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/authserver/internal/protocol"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/store"
)

// consent is what a person allowed a client at a resource, in all its grants. There
// is one for each of the three, and none is taken for another's.
type consent struct {
	Subject  string    `json:"subject"`
	Local    bool      `json:"local"` // the subject is a local account
	ClientID string    `json:"client_id"`
	Name     string    `json:"name"`
	Verified string    `json:"verified,omitempty"`
	Resource string    `json:"resource"`
	Scopes   []string  `json:"scopes"`
	Since    time.Time `json:"since"`
	Used     time.Time `json:"used,omitzero"` // of a refresh, to the day
	Grants   []string  `json:"grants"`        // the newest last
}

// maxGrants is how many grants of one consent are good at once: older ones are
// revoked. A person has that many devices.
const maxGrants = 20

// maxConsents bounds the list of one person's consents.
const maxConsents = 1000

// consentLife is how long a consent is remembered without being used.
const consentLife = usedLife

// consentPrefix begins the keys of a person's consents; the rest is the id that
// portal.Grant has.
func consentPrefix(subject string) string { return "consent/" + short(subject) + "/" }

func consentID(client, resource string) string { return short(client) + "." + short(resource) }

// short stands for a text of any length in a key.
func short(s string) string { return protocol.HashSecret(s)[:22] }

func (s *Server) loadConsent(ctx context.Context, key string) (consent, bool, error) {
	data, _, err := s.config.Store.Load(ctx, key)
	if err != nil || data == nil {
		return consent{}, false, err
	}
	var c consent
	return c, true, json.Unmarshal(data, &c)
}

// Pending returns a request that waits for somebody.
func (s *Server) Pending(ctx context.Context, id string, person people.Person) (portal.Request, error) {
	request, resource, err := s.request(ctx, id)
	if err != nil {
		return portal.Request{}, err
	}
	client, err := s.client(ctx, request.ClientID)
	if errors.Is(err, protocol.ErrUnknown) {
		return portal.Request{}, portal.ErrGone
	}
	if err != nil {
		return portal.Request{}, err
	}
	var before consent
	needed := resource.Baseline
	out := portal.Request{Browser: request.Browser, Client: client.shown(), RedirectURI: request.RedirectURI, Server: resource.Name}
	if person.Subject != "" {
		if before, _, err = s.loadConsent(ctx, consentPrefix(person.Subject)+consentID(client.ID, resource.URL)); err != nil {
			return portal.Request{}, err
		}
		var asked []string
		out.Operation, asked = s.pending.operation(person.Subject, client.ID, request.Scopes)
		needed = append(slices.Clone(needed), asked...)
	}
	for _, one := range request.Scopes {
		out.Scopes = append(out.Scopes, portal.Scope{Name: one, Description: s.config.Describe(one),
			Granted: slices.Contains(before.Scopes, one), Needed: slices.Contains(needed, one)})
	}
	return out, nil
}

// request is a request that waits, and what it is for.
func (s *Server) request(ctx context.Context, id string) (protocol.Request, Resource, error) {
	request, err := s.protocol.Request(ctx, id)
	if errors.Is(err, protocol.ErrUnknown) {
		err = portal.ErrGone
	}
	if err != nil {
		return request, Resource{}, err
	}
	resource, ok := s.resource(request.Resources)
	if !ok {
		err = portal.ErrGone // it was taken out of the configuration
	}
	return request, resource, err
}

// Allow answers a request with the scopes that a person grants.
func (s *Server) Allow(ctx context.Context, id string, person people.Person, scopes []string) (string, error) {
	request, _, err := s.request(ctx, id)
	if err != nil {
		return "", err
	}
	mayGrant := func(one string) bool { return person.Scopes == nil || slices.Contains(person.Scopes, one) }
	if person.Subject == "" || len(scopes) == 0 || !includes(request.Scopes, scopes) || slices.ContainsFunc(scopes, func(s string) bool { return !mayGrant(s) }) {
		return "", fmt.Errorf("authserver: %q of %q cannot be granted", scopes, request.Scopes)
	}
	// In the order in which they were asked for.
	granted := slices.DeleteFunc(slices.Clone(request.Scopes), func(one string) bool { return !slices.Contains(scopes, one) })
	return s.decide(ctx, id, person.Subject, request.ClientID, granted)
}

// Refuse answers a request with access_denied.
func (s *Server) Refuse(ctx context.Context, id string) (string, error) {
	return s.decide(ctx, id, "", "", nil)
}

func (s *Server) decide(ctx context.Context, id, subject, client string, scopes []string) (string, error) {
	to, err := s.protocol.Decide(ctx, id, subject, scopes)
	if errors.Is(err, protocol.ErrUnknown) {
		return "", portal.ErrGone
	}
	if err == nil && subject != "" {
		s.pending.answered(subject, client)
	}
	return to, err
}

// consented adds a new grant to its consent.
func (s *Server) consented(ctx context.Context, g protocol.Grant) error {
	client, err := s.client(ctx, g.ClientID)
	if err != nil {
		return err
	}
	if len(g.Resources) != 1 {
		return fmt.Errorf("authserver: a grant for %d resources", len(g.Resources))
	}
	local := false
	if s.accounts != nil {
		_, err := s.accounts.Subject(ctx, g.Subject)
		if err != nil && !errors.Is(err, people.ErrUnknown) {
			return err
		}
		local = err == nil
	}
	if client.Verified == "" {
		if err := s.keepClient(ctx, client.ID); err != nil {
			return err
		}
	}
	var old []string
	err = s.updateConsent(ctx, g, func(c *consent) error {
		now := time.Now().UTC()
		if c.Since.IsZero() {
			c.Since = now
		}
		c.Subject, c.Local, c.ClientID, c.Resource = g.Subject, local, g.ClientID, g.Resources[0]
		c.Name, c.Verified = client.shown().Name, client.Verified
		for _, one := range g.Scopes {
			if !slices.Contains(c.Scopes, one) {
				c.Scopes = append(c.Scopes, one)
			}
		}
		c.Grants = append(c.Grants, g.ID)
		cut := max(0, len(c.Grants)-maxGrants)
		old, c.Grants = slices.Clone(c.Grants[:cut]), c.Grants[cut:]
		return nil
	})
	if err != nil {
		return err
	}
	return s.revokeAll(ctx, old)
}

func (s *Server) updateConsent(ctx context.Context, g protocol.Grant, change func(*consent) error) error {
	key := consentPrefix(g.Subject) + consentID(g.ClientID, g.Resources[0])
	return store.Update(ctx, s.config.Store, key, func(value []byte) ([]byte, time.Time, error) {
		var c consent
		if value != nil {
			if err := json.Unmarshal(value, &c); err != nil {
				return nil, time.Time{}, err
			}
		}
		if err := change(&c); err != nil {
			return nil, time.Time{}, err
		}
		value, err := json.Marshal(c)
		return value, time.Now().Add(consentLife), err
	})
}

// errTakenBack is a grant that its person does not have any more.
var errTakenBack = &protocol.Refusal{Code: "invalid_grant", Description: "the person has taken this grant back"}

// used looks at the consent behind a refresh, and notes that it was used.
func (s *Server) used(ctx context.Context, g protocol.Grant) error {
	if len(g.Resources) != 1 {
		return fmt.Errorf("authserver: a grant for %d resources", len(g.Resources))
	}
	c, ok, err := s.loadConsent(ctx, consentPrefix(g.Subject)+consentID(g.ClientID, g.Resources[0]))
	switch {
	case err != nil:
		return err
	case !ok || !slices.Contains(c.Grants, g.ID) || !includes(c.Scopes, g.Scopes):
		return errTakenBack
	}
	if c.Local && s.accounts != nil {
		_, err := s.accounts.Subject(ctx, g.Subject)
		if errors.Is(err, people.ErrUnknown) {
			return &protocol.Refusal{Code: "invalid_grant", Description: "the account is gone"}
		}
		if err != nil {
			return err
		}
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	if c.Used.Equal(today) {
		return nil
	}
	return s.updateConsent(ctx, g, func(c *consent) error {
		if !slices.Contains(c.Grants, g.ID) {
			return errTakenBack // in this moment
		}
		c.Used = today
		return nil
	})
}

// Grants are what a person allowed, newest first.
func (s *Server) Grants(ctx context.Context, subject string) ([]portal.Grant, error) {
	prefix := consentPrefix(subject)
	keys, err := s.config.Store.Keys(ctx, prefix, maxConsents)
	if err != nil {
		return nil, err
	}
	var out []portal.Grant
	for _, key := range keys {
		c, ok, err := s.loadConsent(ctx, key)
		if err != nil {
			return nil, err
		}
		if ok && c.Subject == subject {
			out = append(out, s.shown(strings.TrimPrefix(key, prefix), c))
		}
	}
	slices.SortFunc(out, func(a, b portal.Grant) int { return b.Since.Compare(a.Since) })
	return out, nil
}

func (s *Server) shown(id string, c consent) portal.Grant {
	g := portal.Grant{ID: id, Client: portal.Client{Name: c.Name, Verified: c.Verified}, Server: c.Resource, Since: c.Since, Used: c.Used}
	for _, r := range s.config.Resources {
		if r.URL == c.Resource {
			g.Server = r.Name
		}
	}
	for _, one := range c.Scopes {
		g.Scopes = append(g.Scopes, portal.Scope{Name: one, Description: s.config.Describe(one), Granted: true})
	}
	return g
}

// Revoke takes back what a person allowed a client: the consent is forgotten, and
// every grant of it ends.
func (s *Server) Revoke(ctx context.Context, subject, grant string) (portal.Grant, error) {
	key := consentPrefix(subject) + grant
	if len(key) > store.MaxKey {
		return portal.Grant{}, portal.ErrGone
	}
	var c consent
	err := store.Update(ctx, s.config.Store, key, func(value []byte) ([]byte, time.Time, error) {
		c = consent{}
		if value == nil {
			return nil, time.Time{}, portal.ErrGone
		}
		err := json.Unmarshal(value, &c)
		if err == nil && c.Subject != subject {
			err = portal.ErrGone
		}
		return nil, time.Time{}, err // nothing stays
	})
	if err != nil {
		return portal.Grant{}, err
	}
	return s.shown(grant, c), s.revokeAll(ctx, c.Grants)
}

// RevokeAll takes back whatever a person allowed.
func (s *Server) RevokeAll(ctx context.Context, subject string) error {
	for {
		grants, err := s.Grants(ctx, subject)
		for _, g := range grants {
			if _, failed := s.Revoke(ctx, subject, g.ID); !errors.Is(failed, portal.ErrGone) {
				err = errors.Join(err, failed)
			}
		}
		if err != nil || len(grants) == 0 {
			return err
		}
	}
}

func (s *Server) revokeAll(ctx context.Context, grants []string) error {
	var all error
	for _, id := range grants {
		all = errors.Join(all, s.protocol.Revoke(ctx, id))
	}
	return all
}
