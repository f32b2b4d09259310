package authenticate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

const introspectURL = "https://idp.example/introspect"

func activeAnswer() object { return goodClaims().with("active", true) }

// timeless is an answer that is good at any time, also under a fake clock.
func timeless() object { return activeAnswer().with("exp", absent).with("iat", absent) }

// answers makes the endpoint answer with a document, whatever the token is.
func (n *network) answers(doc object) { n.json(introspectURL, doc) }

func newIntrospection(t testing.TB, n *network, change ...func(*authenticate.IntrospectionConfig)) *authenticate.Introspection {
	t.Helper()
	c := authenticate.IntrospectionConfig{Issuer: issuerURL, URL: introspectURL, ClientID: "stile", ClientSecret: "s",
		Audiences: []string{audience}, Transport: n}
	for _, f := range change {
		f(&c)
	}
	v, err := authenticate.NewIntrospection(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestIntrospectionRequest(t *testing.T) {
	for _, inBody := range []bool{false, true} {
		n := newNetwork()
		var got *http.Request
		n.on(introspectURL, func(w http.ResponseWriter, r *http.Request) {
			got = r
			r.ParseForm()
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(activeAnswer().String()))
		})
		v := newIntrospection(t, n, func(c *authenticate.IntrospectionConfig) {
			c.SecretInBody, c.ClientID, c.ClientSecret = inBody, "my client:1", "pä+ss:%"
		})
		if _, err := verify(t, v, "opaque+token/=="); err != nil {
			t.Fatal(err)
		}
		user, password, basic := got.BasicAuth()
		want := url.Values{"token": {"opaque+token/=="}, "token_type_hint": {"access_token"}}
		if inBody {
			want.Set("client_id", "my client:1")
			want.Set("client_secret", "pä+ss:%")
		} else if user != "my+client%3A1" || password != "p%C3%A4%2Bss%3A%25" {
			t.Errorf("credentials %q:%q are not form-encoded (RFC 6749 section 2.3.1)", user, password)
		}
		if diff := cmp.Diff(want, got.PostForm); diff != "" || basic == inBody {
			t.Errorf("in body %v: basic %v, form %s", inBody, basic, diff)
		}
		if got.Method != http.MethodPost || got.Header.Get("Accept") != "application/json" || got.URL.RawQuery != "" {
			t.Errorf("request %s %s %v", got.Method, got.URL, got.Header)
		}
	}
}

func TestIntrospectionAccepts(t *testing.T) {
	hour := time.Now().Add(time.Hour).Unix()
	for name, tt := range map[string]struct {
		answer object
		want   authenticate.Identity
	}{
		"everything":             {activeAnswer(), authenticate.Identity{Subject: "alice", ClientID: "app", Scopes: scope.Set{"notes:read", "notes:write"}}},
		"no scope":               {activeAnswer().with("scope", absent), authenticate.Identity{Subject: "alice", ClientID: "app"}},
		"no sub":                 {activeAnswer().with("sub", absent), authenticate.Identity{Subject: "app", ClientID: "app", Scopes: scope.Set{"notes:read", "notes:write"}}},
		"no client_id":           {activeAnswer().with("client_id", absent).with("scope", "a"), authenticate.Identity{Subject: "alice", Scopes: scope.Set{"a"}}},
		"nulls":                  {activeAnswer().with("client_id", nil).with("scope", nil).with("exp", nil), authenticate.Identity{Subject: "alice"}},
		"no exp, iat, iss":       {activeAnswer().with("exp", absent).with("iat", absent).with("iss", absent).with("scope", "a"), authenticate.Identity{Subject: "alice", ClientID: "app", Scopes: scope.Set{"a"}}},
		"scope array":            {activeAnswer().with("scope", []string{"a", "b"}), authenticate.Identity{Subject: "alice", ClientID: "app", Scopes: scope.Set{"a", "b"}}},
		"aud array":              {activeAnswer().with("aud", []string{"x", audience}).with("scope", "a"), authenticate.Identity{Subject: "alice", ClientID: "app", Scopes: scope.Set{"a"}}},
		"token_type Bearer":      {activeAnswer().with("token_type", "Bearer").with("scope", "a").with("exp", hour), authenticate.Identity{Subject: "alice", ClientID: "app", Scopes: scope.Set{"a"}}},
		"username is no subject": {activeAnswer().with("username", "bob").with("scope", "a"), authenticate.Identity{Subject: "alice", ClientID: "app", Scopes: scope.Set{"a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork()
			n.answers(tt.answer)
			id, err := verify(t, newIntrospection(t, n), "opaque")
			if err != nil {
				t.Fatal(err)
			}
			got := authenticate.Identity{Subject: id.Subject, ClientID: id.ClientID, Scopes: id.Scopes}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if id.Issuer != issuerURL || id.Profile == nil || id.Expiry.IsZero() != (tt.answer["exp"] == nil) {
				t.Errorf("identity %+v", id)
			}
		})
	}
}

func TestIntrospectionRefuses(t *testing.T) {
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		answer object
		kind   authenticate.Kind
	}{
		"inactive":               {object{"active": false}, authenticate.Unknown},
		"inactive with claims":   {activeAnswer().with("active", false), authenticate.Unknown},
		"active a string":        {activeAnswer().with("active", "true"), authenticate.Unknown},
		"active a number":        {activeAnswer().with("active", 1), authenticate.Unknown},
		"active missing":         {activeAnswer().with("active", absent), authenticate.Unknown},
		"active of other case":   {activeAnswer().with("active", absent).with("Active", true), authenticate.Unknown},
		"nothing":                {object{}, authenticate.Unknown},
		"another issuer":         {activeAnswer().with("iss", issuerURL+"/"), authenticate.Invalid},
		"no audience":            {activeAnswer().with("aud", absent), authenticate.Invalid},
		"another audience":       {activeAnswer().with("aud", "https://other.example"), authenticate.Invalid},
		"expired":                {activeAnswer().with("exp", now-31), authenticate.Invalid},
		"expiry unreadable":      {activeAnswer().with("exp", "soon"), authenticate.Invalid},
		"not yet":                {activeAnswer().with("nbf", now+60), authenticate.Invalid},
		"scope unreadable":       {activeAnswer().with("scope", 1), authenticate.Invalid},
		"DPoP-bound":             {activeAnswer().with("token_type", "DPoP"), authenticate.Invalid},
		"certificate-bound":      {activeAnswer().with("cnf", object{"x5t#S256": "x"}), authenticate.Invalid},
		"Hydra refresh token":    {activeAnswer().with("token_use", "refresh_token"), authenticate.Invalid},
		"Keycloak refresh token": {activeAnswer().with("typ", "Refresh"), authenticate.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork()
			n.answers(tt.answer)
			if id, err := verify(t, newIntrospection(t, n), "opaque"); err == nil || err.Kind != tt.kind {
				t.Errorf("got %+v, %v; want kind %d", id, err, tt.kind)
			}
		})
	}
	t.Run("duplicate members", func(t *testing.T) {
		n := newNetwork()
		n.on(introspectURL, reply(200, "application/json", `{"active":false,"active":true}`))
		if _, err := verify(t, newIntrospection(t, n), "opaque"); err == nil || err.Kind != authenticate.Invalid {
			t.Errorf("got %v", err)
		}
	})
}

func TestDangerouslyAnyAudience(t *testing.T) {
	for _, aud := range []any{absent, "https://other.example"} {
		n := newNetwork()
		n.answers(activeAnswer().with("aud", aud))
		v := newIntrospection(t, n, func(c *authenticate.IntrospectionConfig) { c.Audiences, c.DangerouslyAnyAudience = nil, true })
		if _, err := verify(t, v, "opaque"); err != nil {
			t.Error(err)
		}
	}
}

// Where an issuer writes no aud the client may stand for it, if it is listed, and
// for nothing else (REQ-04: or otherwise verify).
func TestTokensWithoutAudience(t *testing.T) {
	listed := []string{"app"}
	for name, tt := range map[string]struct {
		claims object
		good   bool
	}{
		"listed client":             {goodClaims().with("aud", absent), true},
		"null is absent":            {goodClaims().with("aud", nil), true},
		"listed azp":                {goodClaims().with("aud", absent).with("client_id", absent).with("azp", "app"), true},
		"good aud of another":       {goodClaims().with("client_id", "other"), true},
		"another client":            {goodClaims().with("aud", absent).with("client_id", "other"), false},
		"client in another case":    {goodClaims().with("aud", absent).with("client_id", "App"), false},
		"no client":                 {goodClaims().with("aud", absent).with("client_id", absent), false},
		"empty client":              {goodClaims().with("aud", absent).with("client_id", ""), false},
		"azp beside another client": {goodClaims().with("aud", absent).with("client_id", "other").with("azp", "app"), false},
		"wrong aud":                 {goodClaims().with("aud", "https://other.example"), false},
		"empty aud":                 {goodClaims().with("aud", ""), false},
		"empty list":                {goodClaims().with("aud", []string{}), false},
		"aud a number":              {goodClaims().with("aud", 0), false},
		"Cognito ID token":          {goodClaims().with("aud", absent).with("token_use", "id"), false},
		"expired":                   {goodClaims().with("aud", absent).with("exp", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			n := goodNetwork()
			signed := newJWT(t, n, func(c *authenticate.JWTConfig) { c.DangerouslyNoAudienceClients = listed })
			_, err := verify(t, signed, sign(ecKey(), "ES256", goodHeader().String(), tt.claims.String()))
			if (err == nil) != tt.good {
				t.Errorf("signed: %v", err)
			}
			n.answers(tt.claims.with("active", true))
			asked := newIntrospection(t, n, func(c *authenticate.IntrospectionConfig) { c.DangerouslyNoAudienceClients = listed })
			if _, err := verify(t, asked, "opaque"); (err == nil) != tt.good {
				t.Errorf("introspected: %v", err)
			}
		})
	}
	_, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuerURL, Audiences: []string{audience}, DangerouslyNoAudienceClients: []string{""}})
	if err == nil || !strings.Contains(err.Error(), "dangerously_no_audience_clients") {
		t.Errorf("an empty client id: %v", err)
	}
}

func reply(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

// Whatever is no answer is Unavailable: users must not be sent to log in again
// because an endpoint is down (DES-26).
func TestIntrospectionUnavailable(t *testing.T) {
	active := activeAnswer().String()
	for name, h := range map[string]http.HandlerFunc{
		"500":             reply(500, "application/json", active),
		"503":             reply(503, "text/plain", "down"),
		"404":             reply(404, "application/json", active),
		"400":             reply(400, "application/json", active),
		"201":             reply(201, "application/json", active),
		"redirect":        reply(302, "application/json", active),
		"our credentials": reply(401, "application/json", `{"error":"invalid_client"}`),
		"forbidden":       reply(403, "application/json", active),
		"HTML":            reply(200, "text/html", active),
		"a JWT":           reply(200, "application/token-introspection+jwt", active),
		"huge":            reply(200, "application/json", `{"active":true,"x":"`+strings.Repeat("x", 300<<10)+`"}`),
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork()
			n.on(introspectURL, h)
			v := newIntrospection(t, n)
			_, err := verify(t, v, "opaque")
			if err == nil || err.Kind != authenticate.Unavailable {
				t.Fatalf("got %v, want Unavailable", err)
			}
			if err.RetryAfter != 7*time.Second && name != "huge" {
				t.Errorf("RetryAfter %v, want what the answer said", err.RetryAfter)
			}
			if strings.Contains(err.Error(), "opaque") || strings.Contains(err.Description, "idp") {
				t.Errorf("error tells too much: %v", err)
			}
		})
	}
}

func TestWrongCredentialsAreSaid(t *testing.T) {
	n := newNetwork()
	n.on(introspectURL, reply(401, "application/json", "{}"))
	v := newIntrospection(t, n)
	if _, err := verify(t, v, "opaque"); !strings.Contains(err.Err.Error(), "client credentials") || strings.Contains(err.Description, "credentials") {
		t.Errorf("got %v: the log must know, the client must not", err)
	}
	if err := v.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "client credentials") || !strings.Contains(err.Error(), issuerURL) {
		t.Errorf("Ready: %v", err)
	}
}

func TestIntrospectionOutage(t *testing.T) {
	n := newNetwork()
	n.answers(timeless())
	synctest.Test(t, func(t *testing.T) {
		v := newIntrospection(t, n)
		if err := v.Ready(t.Context()); err != nil {
			t.Errorf("Ready before anything: %v", err)
		}
		n.set(true, 0)
		for range 100 {
			if _, err := verify(t, v, "opaque"); err == nil || err.Kind != authenticate.Unavailable || err.RetryAfter > 5*time.Second {
				t.Fatalf("got %+v", err)
			}
		}
		if got := n.count(introspectURL); got != 1 {
			t.Errorf("an endpoint that is down was asked %d times at once, want 1", got)
		}
		for range 60 * 10 {
			verify(t, v, "opaque")
			time.Sleep(100 * time.Millisecond)
		}
		if got := n.count(introspectURL); got < 10 || got > 15 {
			t.Errorf("asked %d times in a minute, want one in 5 s and a few in the beginning", got)
		}
		if err := v.Ready(t.Context()); err == nil {
			t.Error("ready during the outage")
		}
		n.set(false, 0)
		time.Sleep(5 * time.Second)
		if _, err := verify(t, v, "opaque"); err != nil {
			t.Errorf("back again: %v", err)
		}
		if err := v.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v", err)
		}
	})
}

// One request finds out whether the endpoint is back; the rest does not wait.
func TestIntrospectionProbe(t *testing.T) {
	n := newNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newIntrospection(t, n)
		n.set(false, time.Hour)
		start := time.Now()
		verify(t, v, "opaque")
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("waited %v, want the timeout", waited)
		}
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { verify(t, v, "opaque") })
		}
		wg.Wait()
		if got := n.count(introspectURL); got != 2 {
			t.Errorf("%d requests, want the first and one probe", got)
		}
	})
}

// A token that the endpoint chokes on shuts nobody else out.
func TestOneOddTokenTripsNothing(t *testing.T) {
	n := newNetwork()
	n.on(introspectURL, func(w http.ResponseWriter, r *http.Request) {
		switch r.ParseForm(); r.PostForm.Get("token") {
		case "odd":
			w.WriteHeader(400)
		case "worse":
			w.WriteHeader(500)
		default:
			reply(200, "application/json", activeAnswer().String())(w, r)
		}
	})
	v := newIntrospection(t, n)
	for range 20 {
		verify(t, v, "odd")
	}
	verify(t, v, "worse")
	verify(t, v, "worse")
	if _, err := verify(t, v, "good"); err != nil {
		t.Errorf("a good token behind odd ones: %v", err)
	}
}

// Many waiting callers are bounded, and who waits in line may leave.
func TestIntrospectionQueue(t *testing.T) {
	n := newNetwork()
	n.answers(timeless())
	synctest.Test(t, func(t *testing.T) {
		v := newIntrospection(t, n)
		n.set(false, 3*time.Second)
		var mu sync.Mutex
		kinds := map[authenticate.Kind]int{}
		var wg sync.WaitGroup
		for i := range 1200 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				kind := authenticate.Kind(0)
				var e *authenticate.Error
				if _, err := v.Verify(ctx, fmt.Sprint("token", i)); errors.As(err, &e) {
					kind = e.Kind
				}
				mu.Lock()
				defer mu.Unlock()
				kinds[kind]++
			})
		}
		wg.Wait()
		if kinds[0] != 64 || kinds[authenticate.Unavailable] != 1200-64 {
			t.Errorf("outcomes %v, want 64 good ones and the rest Unavailable", kinds)
		}
		n.set(false, 0)
		if _, err := verify(t, v, "later"); err != nil {
			t.Errorf("after the rush: %v", err)
		}
	})
}

// Tokens that say they are somebody else's are not shown to this issuer.
func TestIntrospectionLeavesJWTsAlone(t *testing.T) {
	own, foreign := goodToken(), sign(otherKey(), "ES256", goodHeader().String(), goodClaims().with("iss", "https://other.example").String())
	for _, tt := range []struct {
		token      string
		opaqueOnly bool
		asked      int
	}{
		{own, false, 1}, {own, true, 0}, {foreign, false, 0}, {foreign, true, 0}, {"opaque", true, 1}, {"a.b.c", true, 1}, {"a.b.c.d.e", true, 1},
	} {
		n := newNetwork()
		n.answers(activeAnswer())
		v := newIntrospection(t, n, func(c *authenticate.IntrospectionConfig) { c.OpaqueOnly = tt.opaqueOnly })
		_, err := verify(t, v, tt.token)
		if got := n.count(introspectURL); got != tt.asked {
			t.Errorf("%.10s, OpaqueOnly %v: asked %d times, want %d", tt.token, tt.opaqueOnly, got, tt.asked)
		}
		if tt.asked == 0 && (err == nil || err.Kind != authenticate.Unknown) {
			t.Errorf("got %v, want Unknown", err)
		}
	}
}

func TestIntrospectionKeepsClaims(t *testing.T) {
	n := newNetwork()
	n.answers(activeAnswer().with("tenant", "acme"))
	v := newIntrospection(t, n, func(c *authenticate.IntrospectionConfig) {
		c.KeepClaims, c.ScopePrefix, c.NonInteractiveClients = true, "p/", []string{"app"}
	})
	id, err := verify(t, v, "opaque")
	var kept map[string]any
	if err != nil || json.Unmarshal(id.Claims, &kept) != nil || kept["tenant"] != "acme" || !id.Final || id.Profile.ScopePrefix != "p/" {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestNewIntrospectionMistakes(t *testing.T) {
	_, err := authenticate.NewIntrospection(authenticate.IntrospectionConfig{Issuer: "x", ScopePrefix: `"`, ClientSecret: "hush"})
	var list problem.List
	if !errors.As(err, &list) {
		t.Fatalf("got %v", err)
	}
	var paths []string
	for _, p := range list {
		paths = append(paths, p.Path)
	}
	if want := []string{"issuer", "url", "client_id", "audiences", "scope_prefix"}; !slices.Equal(paths, want) {
		t.Errorf("got %q, want %q", paths, want)
	}
	if strings.Contains(err.Error(), "hush") {
		t.Error("the secret is told")
	}
}
