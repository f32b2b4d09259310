package protocol

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/luikyv/go-oidc/pkg/goidc"

	"github.com/stile-mcp/stile/store"
)

// storage is what the library keeps its things in.
type storage struct {
	store  store.Store
	config *Config
}

var (
	_ goidc.GrantManager        = (*storage)(nil)
	_ goidc.AuthManager         = (*storage)(nil)
	_ goidc.RefreshTokenManager = (*storage)(nil)
	_ goidc.DCRManager          = (*storage)(nil)
)

// Keys in the store. Codes and refresh tokens are found by their hashes, and stand
// nowhere in clear once they were given out.
func grantKey(id string) string      { return "grant/" + id }
func sessionKey(id string) string    { return "request/" + id }
func codeKey(code string) string     { return "code/" + HashSecret(code) }
func refreshKey(token string) string { return "refresh/" + HashSecret(token) }

// HashSecret is the hash of a random secret.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func verifySecret(_ context.Context, stored, presented string) error {
	if stored == "" || subtle.ConstantTimeCompare([]byte(stored), []byte(HashSecret(presented))) != 1 {
		return errors.New("the secret does not match")
	}
	return nil
}

// revisionKey is where a grant keeps the revision it was loaded with, for the
// compare-and-swap that the library does not have. It is never stored.
const revisionKey = "revision"

// saved is the revision of a grant that was stored by whoever holds it: what it may
// still change is that the grant is revoked.
const saved = "saved"

// record is how a grant is stored.
type record struct {
	Grant goidc.Grant `json:"grant"`
	// Refresh is the hash of the refresh token that is good now.
	Refresh string `json:"refresh,omitempty"`
}

// end is when nothing of a grant can be used any more.
func (s *storage) end() time.Time {
	longest := max(s.config.RefreshLifetime, s.config.CodeLifetime) + s.config.AccessLifetime
	return time.Now().Add(longest)
}

// SaveGrant stores a grant that nobody else has changed since it was loaded.
func (s *storage) SaveGrant(ctx context.Context, g *goidc.Grant) error {
	revision, _ := g.Store[revisionKey].(string)
	if revision == saved {
		if g.RevokedAt != 0 {
			return s.revoke(ctx, g.ID)
		}
		return store.ErrConflict
	}
	end := s.end()
	if err := s.index(ctx, g, end); err != nil {
		return err
	}
	data, err := json.Marshal(recordOf(g))
	if err != nil {
		return err
	}
	swapped, err := s.store.Swap(ctx, grantKey(g.ID), revision, data, end)
	if err != nil {
		return err
	}
	if !swapped {
		// Somebody else redeems the same code or token at this moment.
		return goidc.NewError(goidc.ErrorCodeInvalidGrant, "invalid grant")
	}
	if g.Store == nil {
		g.Store = map[string]any{}
	}
	g.Store[revisionKey] = saved
	return nil
}

// recordOf is a grant as it is stored: without its code, and without its refresh
// token unless that is still to be given out together with the code's redemption.
func recordOf(g *goidc.Grant) record {
	r := record{Grant: *g}
	if g.RefreshToken != "" {
		r.Refresh = HashSecret(g.RefreshToken)
	} else if old, ok := g.Store[refreshHashKey].(string); ok {
		r.Refresh = old
	}
	r.Grant.Store, r.Grant.AuthCode = nil, ""
	if g.AuthCode == "" || g.AuthCodeConsumedAt != 0 {
		r.Grant.RefreshToken = ""
	}
	return r
}

// refreshHashKey is where a loaded grant keeps the hash of its refresh token.
const refreshHashKey = "refresh"

// index makes a grant be found by its code and its refresh token.
func (s *storage) index(ctx context.Context, g *goidc.Grant, end time.Time) error {
	if g.AuthCode != "" && g.AuthCodeConsumedAt == 0 {
		if err := s.point(ctx, codeKey(g.AuthCode), g.ID, end); err != nil {
			return err
		}
	}
	if g.RefreshToken != "" {
		return s.point(ctx, refreshKey(g.RefreshToken), g.ID, end)
	}
	return nil
}

func (s *storage) point(ctx context.Context, key, id string, end time.Time) error {
	return store.Update(ctx, s.store, key, func([]byte) ([]byte, time.Time, error) { return []byte(id), end, nil })
}

// loadGrant loads a grant with its revision, and the hash of its refresh token.
func (s *storage) loadGrant(ctx context.Context, id string) (*goidc.Grant, string, error) {
	data, revision, err := s.store.Load(ctx, grantKey(id))
	if err != nil {
		return nil, "", err
	}
	if data == nil {
		return nil, "", goidc.ErrNotFound
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, "", fmt.Errorf("grant %s: %w", id, err)
	}
	r.Grant.Store = map[string]any{revisionKey: revision, refreshHashKey: r.Refresh}
	return &r.Grant, r.Refresh, nil
}

// Grant loads a grant.
func (s *storage) Grant(ctx context.Context, id string) (*goidc.Grant, error) {
	g, _, err := s.loadGrant(ctx, id)
	return g, err
}

// found loads the grant that a key points to.
func (s *storage) found(ctx context.Context, key string) (*goidc.Grant, string, error) {
	id, _, err := s.store.Load(ctx, key)
	if err != nil {
		return nil, "", err
	}
	if id == nil {
		return nil, "", goidc.ErrNotFound
	}
	return s.loadGrant(ctx, string(id))
}

// GrantByAuthCode finds the grant of a code. A revoked one is as good as none.
func (s *storage) GrantByAuthCode(ctx context.Context, code string) (*goidc.Grant, error) {
	g, _, err := s.found(ctx, codeKey(code))
	if err != nil {
		return nil, err
	}
	if g.RevokedAt != 0 {
		return nil, goidc.ErrNotFound
	}
	if ctx.Value(noRedirectKey{}) != nil {
		g.AuthParams.RedirectURI = ""
	}
	return g, nil
}

// GrantByRefreshToken finds the grant of a refresh token. One that was exchanged for
// another before was copied by somebody: the grant ends (RFC 9700 §4.14.2).
func (s *storage) GrantByRefreshToken(ctx context.Context, token string) (*goidc.Grant, error) {
	g, current, err := s.found(ctx, refreshKey(token))
	if err != nil {
		return nil, err
	}
	if current != HashSecret(token) {
		if err := s.revoke(ctx, g.ID); err != nil {
			return nil, err
		}
		return nil, goidc.ErrNotFound
	}
	return g, nil
}

// revoke marks a grant as revoked, whatever else becomes of it.
func (s *storage) revoke(ctx context.Context, id string) error {
	err := store.Update(ctx, s.store, grantKey(id), func(data []byte) ([]byte, time.Time, error) {
		var r record
		if data == nil {
			return nil, time.Time{}, ErrUnknown
		}
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, time.Time{}, err
		}
		if r.Grant.RevokedAt == 0 {
			r.Grant.RevokedAt = int(time.Now().Unix())
		}
		data, err := json.Marshal(r)
		return data, s.end(), err
	})
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// SaveSession stores an authorization request.
func (s *storage) SaveSession(ctx context.Context, a *goidc.AuthnSession) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return store.Update(ctx, s.store, sessionKey(a.ID), func([]byte) ([]byte, time.Time, error) {
		return data, time.Unix(int64(a.ExpiresAt), 0), nil
	})
}

// Session loads an authorization request.
func (s *storage) Session(ctx context.Context, id string) (*goidc.AuthnSession, error) {
	a, _, err := s.session(ctx, id)
	return a, err
}

func (s *storage) session(ctx context.Context, id string) (*goidc.AuthnSession, string, error) {
	if id == "" || len(id) > store.MaxKey/2 {
		return nil, "", goidc.ErrNotFound
	}
	data, revision, err := s.store.Load(ctx, sessionKey(id))
	if err != nil {
		return nil, "", err
	}
	if data == nil {
		return nil, "", goidc.ErrNotFound
	}
	a := new(goidc.AuthnSession)
	return a, revision, json.Unmarshal(data, a)
}

// waiting loads a request that nobody has answered.
func (s *storage) waiting(ctx context.Context, id string) (*goidc.AuthnSession, string, error) {
	a, revision, err := s.session(ctx, id)
	if errors.Is(err, goidc.ErrNotFound) || err == nil && a.Status != goidc.StatusPending {
		return nil, "", ErrUnknown
	}
	return a, revision, err
}

// claim takes a request for whoever answers it, so that nobody else can.
func (s *storage) claim(ctx context.Context, id string) error {
	a, revision, err := s.waiting(ctx, id)
	if err != nil {
		return err
	}
	a.Status = goidc.StatusFailure // until the library says otherwise
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	swapped, err := s.store.Swap(ctx, sessionKey(id), revision, data, time.Unix(int64(a.ExpiresAt), 0))
	if err == nil && !swapped {
		err = ErrUnknown
	}
	return err
}

// Client finds a client, as the library wants it: every scope is its own, since the
// scope a client registered with is no ceiling, and its redirect URI is the one that
// was found good.
func (s *storage) Client(ctx context.Context, id string) (*goidc.Client, error) {
	c, err := s.config.Client(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return nil, goidc.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	redirect, _ := ctx.Value(redirectKey{}).(string)
	grants := []goidc.GrantType{goidc.GrantAuthorizationCode, goidc.GrantRefreshToken}
	if c.Alone {
		grants = append(grants, goidc.GrantClientCredentials)
	}
	meta := goidc.ClientMeta{ApplicationType: goidc.ApplicationTypeWeb, GrantTypes: grants, ScopeIDs: anyScope,
		ResponseTypes: []goidc.ResponseType{goidc.ResponseTypeCode}, TokenAuthnMethod: goidc.AuthnMethod(c.Method),
		CustomAttributes: map[string]any{introspects: c.Introspects}}
	if redirect != "" {
		meta.RedirectURIs = []string{redirect}
	}
	return &goidc.Client{ID: c.ID, Secret: c.SecretHash, ClientMeta: meta}, nil
}

const introspects = "introspects"

// mayIntrospect lets the clients ask about tokens that were made for it.
func mayIntrospect(_ context.Context, c *goidc.Client, _ goidc.TokenInfo) bool {
	may, _ := c.CustomAttributes[introspects].(bool)
	return may && !strings.EqualFold(string(c.TokenAuthnMethod), "none")
}

// SaveClient is not used: registration is not the library's.
func (s *storage) SaveClient(context.Context, *goidc.Client) error { return errNotHere }

// DeleteClient is not used.
func (s *storage) DeleteClient(context.Context, string) error { return errNotHere }

var errNotHere = errors.New("clients are registered elsewhere")
