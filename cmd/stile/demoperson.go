package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/oauth2"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/authserver/portal"
)

// demoPerson is the person of the demo and their browser: a transport that stops
// where a person would be asked, looks at what is shown, and allows it.
type demoPerson struct {
	server *authserver.Server

	mu   sync.Mutex // guards seen
	seen portal.Request
}

// RoundTrip sends a request. The answer that leads to the consent page is replaced by
// the one that leads back from it.
func (p *demoPerson) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusSeeOther {
		return answer, err
	}
	to, err := r.URL.Parse(answer.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(to.Path, portal.Prefix) {
		return answer, err
	}
	back, err := p.allow(r.Context(), to.Query().Get("request"))
	if err != nil {
		return nil, errors.Join(err, answer.Body.Close())
	}
	answer.Header.Set("Location", back)
	return answer, nil
}

// allow allows all that a request asks for.
func (p *demoPerson) allow(ctx context.Context, id string) (string, error) {
	somebody := people.Person{Subject: "you", Name: "you"}
	shown, err := p.server.Pending(ctx, id, somebody)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	p.seen = shown
	p.mu.Unlock()
	var scopes []string
	for _, one := range shown.Scopes {
		scopes = append(scopes, one.Name)
	}
	return p.server.Allow(ctx, id, somebody, scopes)
}

// shown is what the person saw last.
func (p *demoPerson) shown() portal.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// token gets an access token for scopes, as a program of the person's would.
func (p *demoPerson) token(ctx context.Context, d *demo, scopes string) (string, error) {
	config := oauth2.Config{ClientID: demoClient, RedirectURL: demoCallback, Scopes: strings.Fields(scopes),
		Endpoint: oauth2.Endpoint{AuthURL: d.public + "/authorize", TokenURL: d.public + "/token", AuthStyle: oauth2.AuthStyleInParams}}
	verifier, resource := oauth2.GenerateVerifier(), oauth2.SetAuthURLParam("resource", d.url)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, config.AuthCodeURL(rand.Text(), oauth2.S256ChallengeOption(verifier), resource), nil)
	if err != nil {
		return "", err
	}
	answer, err := p.RoundTrip(r)
	if err != nil {
		return "", err
	}
	back, err := url.Parse(answer.Header.Get("Location"))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return "", err
	}
	got, err := config.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier), resource)
	if err != nil {
		return "", err
	}
	return got.AccessToken, nil
}
