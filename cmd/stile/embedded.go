package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/control"
	"github.com/stile-mcp/stile/authserver/provider"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/store"
)

// embedded reports whether the embedded authorization server issues tokens: where
// nobody else does, or where it is said who signs people in, unless it is said
// otherwise.
func (f *File) embedded() bool {
	if f.AuthServer.Enabled != nil {
		return *f.AuthServer.Enabled
	}
	return len(f.Issuers) == 0 && (len(f.APIKeys) == 0 || f.Login != nil) && !f.OpenToEveryone
}

// stateDir is where accounts and keys are kept when nobody says where: a folder of
// its own for each name, as the XDG Base Directory Specification has it.
func stateDir(around surroundings, name string) string {
	base, ok := around.lookup("XDG_STATE_HOME")
	if !ok || !filepath.IsAbs(base) {
		home, _ := around.lookup("HOME")
		if home == "" {
			home = os.TempDir()
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "stile", name)
}

// checkAuthServer looks at what is said of the embedded authorization server.
func (f *File) checkAuthServer(list *problem.List) {
	if !f.embedded() {
		if f.Login != nil {
			list.Add("login", "", "expected with the embedded authorization server only; issuers sign people in themselves")
		}
		return
	}
	for _, server := range f.Servers {
		if authserver.Reserved(server.Value.Path) {
			list.Add(join(join("servers", server.Name), "path"), server.Value.Path, "expected a path that the embedded authorization server does not use itself")
		}
	}
	for i, c := range f.AuthServer.Clients {
		at := index("authserver.clients", i)
		if c.ID == "" {
			list.Add(at+".id", "", "expected the id of the client")
		}
		if sum, err := hex.DecodeString(c.SecretSHA256); err != nil || len(sum) != 0 && len(sum) != sha256.Size {
			list.Add(at+".secret_sha256", "", "expected 64 hex digits, as sha256sum prints them")
		}
		if c.Scopes != "" {
			if bad := badScope(c.Scopes); bad != "" {
				list.Add(at+".scopes", bad, wantScope)
			}
			if c.SecretSHA256 == "" {
				list.Add(at+".scopes", c.Scopes, "expected with secret_sha256: who acts without a person has to prove who it is")
			}
		}
		if len(c.RedirectURIs) == 0 && c.Scopes == "" && !c.Introspect {
			list.Add(at+".redirect_uris", "", "expected the places that answers may go to")
		}
	}
}

// client is a client as the authorization server takes it; it was checked.
func (c *AuthClient) client() authserver.Client {
	client := authserver.Client{ID: c.ID, Name: c.Name, RedirectURIs: c.RedirectURIs, Introspects: c.Introspect}
	setDefault(&client.Name, c.ID)
	client.Scopes, _ = scope.Parse(c.Scopes)
	if sum, err := hex.DecodeString(c.SecretSHA256); err == nil && len(sum) > 0 {
		client.SecretHash = base64.RawURLEncoding.EncodeToString(sum)
	}
	return client
}

// newAuthServer makes the embedded authorization server on a store.
func (f *File) newAuthServer(s store.Store, log *slog.Logger) (*authserver.Server, mistakes) {
	c := authserver.Config{Issuer: f.PublicURL, Store: s, Log: log, Known: f.knowsScope, Schemes: f.AuthServer.Schemes,
		Describe:       func(token string) string { return f.Scopes.Descriptions[token] },
		NoRegistration: f.AuthServer.NoRegistration, NoRefusedRefresh: f.AuthServer.NoRefusedRefresh}
	for _, server := range f.Servers {
		p := f.policies[server.Name].compiled
		c.Resources = append(c.Resources, authserver.Resource{URL: f.resource(&server.Value), Name: server.Name, Baseline: p.Baseline()})
		for _, token := range p.Catalogue() {
			if !slices.Contains(c.Scopes, token) {
				c.Scopes = append(c.Scopes, token)
			}
		}
	}
	for _, one := range f.AuthServer.Clients {
		c.Clients = append(c.Clients, one.client())
	}
	if f.Login != nil {
		signIn, err := provider.New(f.providerConfig())
		if err != nil {
			return nil, f.foundBy(err, "login")
		}
		c.Provider, c.NoAccounts = signIn, !f.Login.Accounts
	}
	server, err := authserver.New(c)
	if err != nil {
		return nil, f.foundBy(err, "authserver")
	}
	return server, nil
}

// embed puts the authorization server into a configuration: with its store, which
// outlives a reload, and the hook that tells it of challenges.
func (f *File) embed(config *stile.Config, log *slog.Logger) (io.Closer, mistakes) {
	f.authServer = nil
	if !f.embedded() {
		return nil, nil
	}
	kept, closer, err := f.stores.get(f.source.within(f.DataDir))
	if err != nil {
		return nil, f.foundBy(err, "data_dir")
	}
	server, wrong := f.newAuthServer(kept, log)
	if len(wrong) > 0 {
		return closer, wrong
	}
	f.authServer = server
	issuer := f.PublicURL
	config.OnChallenge = func(id *authenticate.Identity, call *message.Call, c challenge.Challenge) {
		if id.Issuer == issuer {
			server.Challenged(id.Subject, id.ClientID, c.Scope, call.Name+call.URI)
		}
	}
	return closer, nil
}

// ownTokens verifies tokens of the embedded authorization server without a network,
// and asks it whether their grants are good. A revocation is noticed within Lifetimes.
type ownTokens struct {
	*authenticate.JWT
	server *authserver.Server
}

// newOwnTokens makes what verifies them at one endpoint.
func (f *File) newOwnTokens(keys *authenticate.KeySet, resource string) (authenticate.Verifier, mistakes) {
	signed, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: f.PublicURL, Audiences: []string{resource}, Keys: keys,
		Algorithms: []string{"ES256"}, RequireAccessTokenType: true, KeepClaims: true})
	if err != nil {
		return nil, f.foundBy(err, "authserver")
	}
	return ownTokens{JWT: signed, server: f.authServer}, nil
}

// recheck is how long after a revocation a token may still be taken for good.
const recheck = 5 * time.Second

// Lifetimes says for how long answers may be remembered.
func (o ownTokens) Lifetimes() (positive, negative time.Duration) { return recheck, recheck }

// Verify verifies the token and then asks about its grant.
func (o ownTokens) Verify(ctx context.Context, token string) (*authenticate.Identity, error) {
	id, err := o.JWT.Verify(ctx, token)
	if err != nil {
		return id, err
	}
	var claims struct {
		Grant string `json:"grant_id"`
	}
	if err := json.Unmarshal(id.Claims, &claims); err != nil {
		return nil, err
	}
	active, err := o.server.Active(ctx, claims.Grant)
	switch {
	case err != nil:
		return nil, err
	case !active:
		return nil, &authenticate.Error{Kind: authenticate.Invalid, Description: "the token was revoked", Err: errors.New("its grant is revoked or unknown")}
	}
	id.Recheck = recheck
	return id, nil
}

// inProcess reaches the authorization server without a network.
type inProcess struct{ server *authserver.Server }

// RoundTrip answers one request.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	t.server.ServeHTTP(w, r)
	return w.Result(), nil
}

// storePool keeps the store open over a reload, since only one can have it open. A
// nil pool has stores in memory.
type storePool struct {
	mu   sync.Mutex
	used map[string]*usedStore // by folder
}

type usedStore struct {
	*store.Bolt
	uses int
}

// get opens the store of a folder, or returns the open one. The closer closes it
// after its last use.
func (p *storePool) get(folder string) (store.Store, io.Closer, error) {
	if p == nil {
		m := store.NewMemory()
		return m, m, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.used[folder]
	if one == nil {
		opened, err := store.OpenBolt(folder)
		if err != nil {
			return nil, nil, err
		}
		one = &usedStore{Bolt: opened}
		if p.used == nil {
			p.used = map[string]*usedStore{}
		}
		p.used[folder] = one
	}
	one.uses++
	return one.Bolt, errorCloser(func() error { return p.release(folder) }), nil
}

func (p *storePool) release(folder string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.used[folder]
	if one.uses--; one.uses > 0 {
		return nil
	}
	delete(p.used, folder)
	return one.Close()
}

// errorCloser is a function as an io.Closer.
type errorCloser func() error

// Close calls the function.
func (f errorCloser) Close() error { return f() }

// withAuthServer sends the requests that are for it to the authorization server. A
// host name that is not served is the gateway's to refuse.
func (f *File) withAuthServer(gateway *stile.Gateway) http.Handler {
	server := f.authServer
	if server == nil {
		return gateway
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if server.Serves(r) && gateway.ServesHost(r.Host) {
			server.ServeHTTP(w, r)
			return
		}
		gateway.ServeHTTP(w, r)
	})
}

// invite begins what accounts need besides: the socket of "stile user", and the link
// for the first account, which is returned as text for the terminal. Stop ends it.
func (s *server) invite(ctx context.Context) (text string, stop func() error, err error) {
	stop = func() error { return nil }
	now := s.current.Load().file
	if now.authServer == nil || now.authServer.Accounts() == nil {
		return "", stop, nil
	}
	local := &control.Local{Accounts: now.authServer.Accounts(), RevokeAll: func(ctx context.Context, subject string) error {
		if server := s.current.Load().file.authServer; server != nil {
			return server.RevokeAll(ctx, subject)
		}
		return now.authServer.RevokeAll(ctx, subject)
	}}
	serving, err := control.Serve(now.source.within(now.DataDir), local)
	if err == nil {
		stop = serving
	}
	// Without the socket there still is the link.
	link, failed := now.authServer.SetupLink(ctx)
	if err = errors.Join(err, failed); link == "" {
		return "", stop, err
	}
	return "Nobody can sign in yet. Make the first account, with this link that works once:\n  " + link + "\n", stop, err
}
