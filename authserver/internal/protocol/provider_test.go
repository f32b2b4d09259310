package protocol_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/authserver/internal/protocol"
	"github.com/stile-mcp/stile/store"
)

const (
	issuer   = "https://stile.example"
	resource = "https://stile.example/mcp"
	redirect = "https://app.example/cb"
	verifier = "a-verifier-that-is-long-enough-to-be-one-of-rfc-7636"
)

var errBroken = errors.New("broken")

// provider is a Provider with one public client, app, and what it asked.
type provider struct {
	*protocol.Provider
	t     *testing.T
	began string // the id of the last request
}

func newProvider(t *testing.T, kept store.Store, change func(*protocol.Config)) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t}
	c := protocol.Config{
		Issuer: issuer, Resources: []string{resource}, Store: kept,
		Keys: func(context.Context) ([]jose.JSONWebKey, error) {
			return []jose.JSONWebKey{{Key: key, Algorithm: "ES256", Use: "sig", KeyID: "k"}}, nil
		},
		Client: func(_ context.Context, id string) (protocol.Client, error) {
			if id != "app" {
				return protocol.Client{}, protocol.ErrUnknown
			}
			return protocol.Client{ID: "app", Method: "none"}, nil
		},
		Begin: func(w http.ResponseWriter, _ *http.Request, id string) (string, error) {
			p.began = id
			w.WriteHeader(http.StatusAccepted)
			return "a browser", nil
		},
		Granting:       func(context.Context, protocol.Grant, bool) error { return nil },
		AccessLifetime: time.Minute, RefreshLifetime: time.Hour, CodeLifetime: time.Minute, RequestLifetime: time.Minute,
	}
	if change != nil {
		change(&c)
	}
	if p.Provider, err = protocol.New(c); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends an authorization request, and returns its id, empty when it does not wait.
func (p *provider) ask() (id string, w *httptest.ResponseRecorder) {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {redirect}, "scope": {"a b"}, "resource": {resource},
		"state": {"s"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	r := httptest.NewRequest(http.MethodGet, issuer+protocol.PathAuthorize+"?"+q.Encode(), nil)
	p.began, w = "", httptest.NewRecorder()
	p.ServeHTTP(w, r.WithContext(protocol.WithRedirect(p.t.Context(), redirect)))
	return p.began, w
}

// decide answers a request and returns what the client is told.
func (p *provider) decide(id string, scopes ...string) (url.Values, error) {
	to, err := p.Decide(p.t.Context(), id, "ada", scopes)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(to, redirect) {
		p.t.Fatalf("sent to %s, %v", to, err)
	}
	return u.Query(), nil
}

type tokens struct {
	Error   string `json:"error"`
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Scope   string `json:"scope"`
}

func (p *provider) token(form url.Values) tokens {
	p.t.Helper()
	form.Set("client_id", "app")
	r := httptest.NewRequest(http.MethodPost, issuer+protocol.PathToken, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	var got tokens
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		p.t.Fatalf("%d %s", w.Code, w.Body)
	}
	if (w.Code == http.StatusOK) != (got.Access != "") || (w.Code == http.StatusOK) == (got.Error != "") {
		p.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return got
}

func (p *provider) redeem(code string) tokens {
	return p.token(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}})
}

func (p *provider) refresh(token string) tokens {
	return p.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func TestRequestsWaitAndAreDecidedOnce(t *testing.T) {
	p := newProvider(t, store.NewMemory(), nil)
	id, _ := p.ask()
	got, err := p.Request(t.Context(), id)
	if err != nil || got.Browser != "a browser" || got.ClientID != "app" || got.RedirectURI != redirect || strings.Join(got.Scopes, " ") != "a b" ||
		len(got.Resources) != 1 || got.Resources[0] != resource {
		t.Errorf("%+v %v", got, err)
	}
	answer, err := p.decide(id, "b")
	if err != nil || answer.Get("code") == "" || answer.Get("iss") != issuer || answer.Get("state") != "s" {
		t.Errorf("%v %v", answer, err)
	}
	if got := p.redeem(answer.Get("code")); got.Scope != "b" {
		t.Errorf("%+v", got)
	}
	refused, _ := p.ask()
	if answer, err := p.decide(refused); err != nil || answer.Get("error") != "access_denied" || answer.Get("iss") != issuer || answer.Has("code") {
		t.Errorf("refused: %v %v", answer, err)
	}
	for name, id := range map[string]string{"decided": id, "refused": refused, "unknown": "x", "empty": "", "long": strings.Repeat("x", 2000)} {
		if _, err := p.Request(t.Context(), id); !errors.Is(err, protocol.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if answer, err := p.decide(id, "a"); !errors.Is(err, protocol.ErrUnknown) {
			t.Errorf("%s decided: %v %v", name, answer, err)
		}
	}
}

func TestWhoIsNotLetBegin(t *testing.T) {
	p := newProvider(t, store.NewMemory(), func(c *protocol.Config) {
		c.Begin = func(http.ResponseWriter, *http.Request, string) (string, error) { return "", errBroken }
	})
	_, w := p.ask()
	if strings.Contains(w.Header().Get("Location"), "code=") || strings.Contains(w.Body.String(), errBroken.Error()) {
		t.Errorf("%d %s %s", w.Code, w.Header().Get("Location"), w.Body)
	}
}

// TestGrantingIsAsked: no code and no token without its leave, and the client is told
// a Refusal but nothing of another error.
func TestGrantingIsAsked(t *testing.T) {
	var no error
	var asked []protocol.Grant
	p := newProvider(t, store.NewMemory(), func(c *protocol.Config) {
		c.Granting = func(_ context.Context, g protocol.Grant, refresh bool) error {
			if refresh == (len(asked) == 0) {
				t.Errorf("refresh is %v at the call %d", refresh, len(asked))
			}
			asked = append(asked, g)
			return no
		}
	})
	id, _ := p.ask()
	answer, err := p.decide(id, "a")
	if err != nil {
		t.Fatal(err)
	}
	got := p.redeem(answer.Get("code"))
	if len(asked) != 1 || asked[0].Subject != "ada" || asked[0].ClientID != "app" || strings.Join(asked[0].Scopes, " ") != "a" || asked[0].ID == "" {
		t.Errorf("asked %+v", asked)
	}
	no = &protocol.Refusal{Code: "invalid_grant", Description: "not now"}
	if got := p.refresh(got.Refresh); got.Error != "invalid_grant" {
		t.Errorf("%+v", got)
	}
	no = errBroken
	if got := p.refresh(got.Refresh); got.Error == "" {
		t.Errorf("%+v", got)
	}
	no = nil
	if again := p.refresh(got.Refresh); again.Access == "" || again.Refresh == got.Refresh {
		t.Errorf("after what was refused: %+v", again)
	}
}

func TestRevoke(t *testing.T) {
	var last protocol.Grant
	p := newProvider(t, store.NewMemory(), func(c *protocol.Config) {
		c.Granting = func(_ context.Context, g protocol.Grant, _ bool) error { last = g; return nil }
	})
	if err := p.Revoke(t.Context(), "nothing"); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	if active, err := p.Active(t.Context(), "nothing"); active || err != nil {
		t.Errorf("what is not there is active: %v %v", active, err)
	}
	id, _ := p.ask()
	answer, _ := p.decide(id, "a")
	got := p.redeem(answer.Get("code"))
	if active, err := p.Active(t.Context(), last.ID); !active || err != nil {
		t.Errorf("%v %v", active, err)
	}
	for range 2 {
		if err := p.Revoke(t.Context(), last.ID); err != nil {
			t.Fatal(err)
		}
	}
	if active, err := p.Active(t.Context(), last.ID); active || err != nil {
		t.Errorf("revoked: %v %v", active, err)
	}
	if got := p.refresh(got.Refresh); got.Error != "invalid_grant" {
		t.Errorf("%+v", got)
	}
}

// faulty is a store one of whose operations fails.
type faulty struct {
	store.Store
	left atomic.Int64 // operations until then
}

func (f *faulty) broken() error {
	if f.left.Add(-1) == 0 {
		return errBroken
	}
	return nil
}

// Load loads, or fails.
func (f *faulty) Load(ctx context.Context, key string) ([]byte, string, error) {
	if err := f.broken(); err != nil {
		return nil, "", err
	}
	return f.Store.Load(ctx, key)
}

// Swap stores, or fails.
func (f *faulty) Swap(ctx context.Context, key, revision string, value []byte, expires time.Time) (bool, error) {
	if err := f.broken(); err != nil {
		return false, err
	}
	return f.Store.Swap(ctx, key, revision, value, expires)
}

// TestStoreThatFails has each operation of the store fail in turn. Whatever step that
// hits ends with an error, and no code or refresh token is good twice for it.
func TestStoreThatFails(t *testing.T) {
	for at := int64(1); ; at++ {
		kept := &faulty{Store: store.NewMemory()}
		p := newProvider(t, kept, nil)
		kept.left.Store(at)
		done := walk(t, p)
		if kept.left.Load() > 0 {
			if !done {
				t.Error("without a failure it does not work")
			}
			if at < 10 {
				t.Errorf("the store was used %d times only", at)
			}
			return
		}
		if done {
			t.Errorf("operation %d failed, and nobody noticed", at)
		}
	}
}

// walk goes from the request to the refresh, tries each step twice, and reports
// whether each succeeded at the first try.
func walk(t *testing.T, p *provider) (smooth bool) {
	t.Helper()
	id, _ := p.ask()
	answer, err := p.decide(id, "a")
	if err != nil || answer.Get("code") == "" {
		return false
	}
	first := p.redeem(answer.Get("code"))
	if first.Access == "" {
		second := p.redeem(answer.Get("code"))
		if third := p.redeem(answer.Get("code")); second.Access != "" && third.Access != "" {
			t.Error("a code was redeemed twice")
		}
		return false
	}
	next := p.refresh(first.Refresh)
	if next.Access == "" {
		second := p.refresh(first.Refresh)
		if third := p.refresh(first.Refresh); second.Access != "" && third.Access != "" {
			t.Error("a refresh token was used twice")
		}
		return false
	}
	return true
}
