package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/stile-mcp/stile/stepup"
)

// badWays are how a client may misbehave, so that it shows that the suite sees it.
var badWays = map[string]func(g given, c *stepup.Config){
	"no-pkce":           spoilAddress(func(q url.Values, _ stepup.Request) { q.Del("code_challenge"); q.Del("code_challenge_method") }),
	"no-resource":       spoilAddress(func(q url.Values, _ stepup.Request) { q.Del("resource") }),
	"ignores-scopes":    spoilAddress(func(q url.Values, _ stepup.Request) { q.Del("scope") }),
	"invents-scopes":    spoilAddress(func(q url.Values, _ stepup.Request) { q.Set("scope", "everything") }),
	"forgets-scopes":    spoilAddress(func(q url.Values, r stepup.Request) { q.Set("scope", strings.Join(r.New, " ")) }),
	"believes-any-iss":  believeAnyIssuer,
	"ignores-403":       wrap(func(w *wrapped, r *http.Request) (*http.Response, error) { return w.withoutChallenge(r) }),
	"bound-as-bearer":   wrap(func(w *wrapped, r *http.Request) (*http.Response, error) { return w.asBearer(r) }),
	"replays-proofs":    wrap(func(w *wrapped, r *http.Request) (*http.Response, error) { return w.withOldProof(r) }),
	"no-document":       func(_ given, c *stepup.Config) { c.ClientMetadataURL = "" },
	"unknown-client":    func(_ given, c *stepup.Config) { c.Client.Secret = "guessed" },
	"shares-clients":    func(_ given, c *stepup.Config) { c.Store = &oneClient{Memory: stepup.NewMemory()} },
	"expired-assertion": func(g given, c *stepup.Config) { c.Grant = &stepup.JWTBearer{Assertion: told(g.ExpiredToken)} },
	"foreign-assertion": func(g given, c *stepup.Config) { c.Grant = &stepup.JWTBearer{Assertion: told(g.ForeignToken)} },
	neverTires:          func(given, *stepup.Config) {},
}

// neverTires is a client that begins anew whenever it was refused.
const neverTires = "never-tires"

func misbehave(how string, g given, c *stepup.Config) error {
	way, known := badWays[how]
	if !known {
		return fmt.Errorf("no way to misbehave as %q", how)
	}
	way(g, c)
	return nil
}

// spoiled is a person whose browser changes what it was given.
type spoiled struct {
	stepup.Person
	address func(url.Values, stepup.Request)
	answer  func(url.Values, stepup.Request)
}

func spoilAddress(change func(url.Values, stepup.Request)) func(given, *stepup.Config) {
	return func(_ given, c *stepup.Config) {
		c.Person = spoiled{Person: c.Person, address: change, answer: func(url.Values, stepup.Request) {}}
	}
}

func believeAnyIssuer(_ given, c *stepup.Config) {
	c.Person = spoiled{Person: c.Person, address: func(url.Values, stepup.Request) {},
		answer: func(q url.Values, r stepup.Request) { q.Set("iss", r.Issuer) }}
}

func (s spoiled) Begin(ctx context.Context, preferred string) (stepup.Visit, error) {
	v, err := s.Person.Begin(ctx, preferred)
	return spoiledVisit{v, s}, err
}

type spoiledVisit struct {
	stepup.Visit
	by spoiled
}

func (v spoiledVisit) Authorize(ctx context.Context, r stepup.Request) (url.Values, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	v.by.address(q, r)
	u.RawQuery = q.Encode()
	r.URL = u.String()
	answer, err := v.Visit.Authorize(ctx, r)
	if err == nil {
		v.by.answer(answer, r)
	}
	return answer, err
}

// wrapped changes what the transport sends or sees.
type wrapped struct {
	next http.RoundTripper
	act  func(*wrapped, *http.Request) (*http.Response, error)

	mu    sync.Mutex
	proof string
}

func wrap(act func(*wrapped, *http.Request) (*http.Response, error)) func(given, *stepup.Config) {
	return func(_ given, c *stepup.Config) { c.Base = &wrapped{next: http.DefaultTransport, act: act} }
}

func (w *wrapped) RoundTrip(r *http.Request) (*http.Response, error) { return w.act(w, r) }

func (w *wrapped) withoutChallenge(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusForbidden {
		resp.Header.Del("WWW-Authenticate")
	}
	return resp, err
}

func (w *wrapped) asBearer(r *http.Request) (*http.Response, error) {
	if token, bound := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP "); bound {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return w.next.RoundTrip(r)
}

func (w *wrapped) withOldProof(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	if w.proof == "" {
		w.proof = r.Header.Get("DPoP")
	}
	if w.proof != "" {
		r.Header.Set("DPoP", w.proof)
	}
	w.mu.Unlock()
	return w.next.RoundTrip(r)
}

// oneClient gives the registration at one issuer out for those of all others.
type oneClient struct {
	*stepup.Memory
	mu   sync.Mutex
	made []byte
}

func (s *oneClient) Get(ctx context.Context, name string) ([]byte, error) {
	if strings.HasPrefix(name, "client ") {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(s.made), nil
	}
	return s.Memory.Get(ctx, name)
}

func (s *oneClient) Put(ctx context.Context, name string, value []byte) error {
	if strings.HasPrefix(name, "client ") {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.made = slices.Clone(value)
		return nil
	}
	return s.Memory.Put(ctx, name, value)
}
