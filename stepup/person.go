package stepup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Request is what a person is asked to authorise.
type Request struct {
	// URL is to be opened in a browser: https, or http to loopback.
	URL       string
	Resource  string
	Issuer    string
	Operation string   // what needs it, such as "tools/call delete_note"; empty at a first login
	Scopes    []string // all that is asked for
	New       []string // those of Scopes that the last login had not asked for
}

// Person authorises in a browser.
type Person interface {
	// Begin makes ready to receive the answer. Preferred is the redirect URI of an
	// earlier registration, to be used again if that is possible; it may be empty.
	Begin(ctx context.Context, preferred string) (Visit, error)
}

// Visit is one authorization by a person.
type Visit interface {
	// RedirectURI is where the answer will come.
	RedirectURI() string
	// Authorize has the person open the URL, and returns the parameters of the
	// redirect that answers. An error ends the login.
	Authorize(ctx context.Context, r Request) (url.Values, error)
	// Close stops waiting.
	Close() error
}

// Teller is a Visit that tells the person how it ended, once it has: with nil, a
// *DeniedError or another error. Told is called before Close.
type Teller interface{ Told(err error) }

// DeniedError is an authorization that the person or the issuer refused (RFC 6749
// §4.1.2.1).
type DeniedError struct{ Code, Description string }

func (e *DeniedError) Error() string {
	if e.Description == "" {
		return "the authorization was refused: " + e.Code
	}
	return "the authorization was refused: " + e.Code + " (" + e.Description + ")"
}

// askPerson runs the authorization code flow.
func (a *account) askPerson(ctx context.Context, d demand, found *discovery, scopes []string) (login *Login, err error) {
	m := &found.issuer
	if err := m.checkPKCE(); err != nil {
		return nil, err
	}
	if m.AuthorizationEndpoint == "" {
		return nil, fmt.Errorf("%s has no authorization endpoint", m.Issuer)
	}
	saved, err := a.savedRegistration(ctx, m.Issuer)
	if err != nil {
		return nil, err
	}
	preferred := ""
	if saved != nil {
		preferred = saved.RedirectURI
	}
	visit, err := a.t.config.Person.Begin(ctx, preferred)
	if err != nil {
		return nil, err
	}
	defer func() {
		if t, ok := visit.(Teller); ok {
			t.Told(err)
		}
		_ = visit.Close()
	}()
	client, err := a.register(ctx, m, visit.RedirectURI())
	if err != nil {
		return nil, err
	}
	if slices.Contains(m.ScopesSupported, "offline_access") {
		scopes = union(scopes, []string{"offline_access"}) // REQ-60
	}
	a.count(d)
	return a.redeemCode(ctx, visit, found, client, a.request(d, found, scopes))
}

// redeemCode has the person authorise, and redeems the code that answers.
func (a *account) redeemCode(ctx context.Context, visit Visit, found *discovery, client registration, r Request) (*Login, error) {
	flow := codeFlow{found: found, client: client, scopes: r.Scopes, state: rand.Text(), verifier: rand.Text() + rand.Text()}
	code, err := flow.code(ctx, visit, r)
	if err != nil {
		if ctx.Err() != nil {
			// An issuer that has forgotten the client shows a page and redirects
			// nowhere, so that silence is all there is to see of it.
			a.forgetClient(context.WithoutCancel(ctx), client, found.issuer.Issuer, &TokenError{Code: "invalid_client"})
		}
		return nil, err
	}
	return a.redeem(ctx, found, client, r.Scopes, url.Values{"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {client.RedirectURI}, "code_verifier": {flow.verifier}})
}

// request says what the person is asked.
func (a *account) request(d demand, found *discovery, scopes []string) Request {
	r := Request{Resource: a.resource, Issuer: found.issuer.Issuer, Operation: a.failure(d, nil, nil).Operation, Scopes: scopes}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range scopes {
		if a.login == nil || !slices.Contains(a.login.Asked, s) {
			r.New = append(r.New, s)
		}
	}
	return r
}

// codeFlow is one authorization request and the answer to it.
type codeFlow struct {
	found    *discovery
	client   registration
	scopes   []string
	state    string
	verifier string
}

// address is the authorization request (RFC 6749 §4.1.1, RFC 7636, RFC 8707).
func (f *codeFlow) address() (string, error) {
	u, err := url.Parse(f.found.issuer.AuthorizationEndpoint)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(f.verifier))
	q := u.Query()
	q.Set("response_type", "code")
	q.Set("client_id", f.client.ID)
	q.Set("redirect_uri", f.client.RedirectURI)
	q.Set("state", f.state)
	q.Set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
	q.Set("code_challenge_method", "S256")
	q.Set("resource", f.found.resource.Resource)
	if len(f.scopes) > 0 {
		q.Set("scope", strings.Join(f.scopes, " "))
	}
	if slices.Contains(f.scopes, "offline_access") {
		q.Set("prompt", "consent") // OpenID Connect Core §11
	}
	u.RawQuery = q.Encode()
	u.RawPath = shellSigns.Replace(u.EscapedPath())
	return u.String(), nil
}

// shellSigns are what a path may have and a shell might act on. No shell should see it
// (CVE-2025-6514); escaped, it means the same to a server.
var shellSigns = strings.NewReplacer("!", "%21", "$", "%24", "&", "%26", "'", "%27", "(", "%28", ")", "%29", "*", "%2A", ";", "%3B")

// code has the person authorise, and looks at the answer.
func (f *codeFlow) code(ctx context.Context, visit Visit, r Request) (string, error) {
	var err error
	if r.URL, err = f.address(); err != nil {
		return "", err
	}
	answer, err := visit.Authorize(ctx, r)
	if err != nil {
		return "", err
	}
	return f.check(answer)
}

// check holds the answer against the request. State and iss are looked at first: an
// error of somebody else is no answer either (REQ-57, RFC 9207 §2.4).
func (f *codeFlow) check(answer url.Values) (string, error) {
	for _, name := range []string{"state", "iss", "code", "error"} {
		if len(answer[name]) > 1 {
			return "", fmt.Errorf("the answer has %s more than once", name)
		}
	}
	m := &f.found.issuer
	iss := answer.Get("iss")
	switch {
	case answer.Get("state") != f.state:
		return "", errors.New("the answer belongs to another login: its state is not ours")
	case answer.Has("iss") && iss != m.Issuer:
		return "", fmt.Errorf("the answer is of another issuer: %q, not %q", plain(iss), m.Issuer)
	case !answer.Has("iss") && m.AuthorizationResponseIssParameterSupported:
		return "", fmt.Errorf("the answer does not say that it is of %s, which promised to", m.Issuer)
	case answer.Get("error") != "":
		return "", &DeniedError{Code: plain(answer.Get("error")), Description: plain(answer.Get("error_description"))}
	case answer.Get("code") == "":
		return "", errors.New("the answer has no code")
	}
	return answer.Get("code"), nil
}

// plain makes a stranger's text safe to show: printable ASCII, at most 200
// characters.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}
