package authserver_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/store"
)

// inside runs a test whose time is its own, with a server that has no network.
func inside(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newInnerFixture(t, store.NewMemory())) })
}

// newInnerFixture is a server without a network. Its address is always the same, so
// that one may take over the store of another.
func newInnerFixture(t *testing.T, kept store.Store) *fixture {
	t.Helper()
	f := &fixture{t: t, url: "https://stile.example", resource: "https://stile.example/mcp"}
	server, err := authserver.New(authserver.Config{
		Issuer: f.url, Resources: []authserver.Resource{{URL: f.resource, Name: "Notes", Baseline: []string{"notes:read"}}},
		Scopes: known, Known: func(s string) bool { return slices.Contains(known, s) }, Store: kept,
		Clients: []authserver.Client{
			{ID: "app", Name: "App", RedirectURIs: []string{"https://app.example.com/cb"}},
			{ID: "resource", SecretHash: authserver.HashSecret("s3cret"), Introspects: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Server, f.client = server, &http.Client{Transport: inner{server, "192.0.2.1:1234"}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return f
}

// inner answers requests by a handler, in the same goroutine, as if they came from an
// address.
type inner struct {
	handler http.Handler
	from    string
}

// RoundTrip answers a request.
func (i inner) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.RemoteAddr = i.from
	w := httptest.NewRecorder()
	i.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestCodesLiveAMinute(t *testing.T) {
	for age, status := range map[time.Duration]int{0: 200, 58 * time.Second: 200, 62 * time.Second: 400, time.Hour: 400} {
		inside(t, func(t *testing.T, f *fixture) {
			code := f.allowed(f.request(), ada, "notes:read")
			time.Sleep(age)
			if got := f.redeem(code); got.status != status || status != 200 && got.text("error") != "invalid_grant" {
				t.Errorf("after %s: %d %s", age, got.status, got.body)
			}
		})
	}
}

func TestRequestsWaitAQuarterOfAnHour(t *testing.T) {
	inside(t, func(t *testing.T, f *fixture) {
		id, late := f.waiting(f.request()), f.waiting(f.request())
		time.Sleep(authserver.RequestLifetime - 2*time.Second)
		if _, err := f.Allow(t.Context(), id, ada, []string{"notes:read"}); err != nil {
			t.Errorf("in time: %v", err)
		}
		time.Sleep(4 * time.Second)
		if _, err := f.Pending(t.Context(), late, ada); !errors.Is(err, portal.ErrGone) {
			t.Errorf("shown too late: %v", err)
		}
		if to, err := f.Allow(t.Context(), late, ada, []string{"notes:read"}); !errors.Is(err, portal.ErrGone) {
			t.Errorf("allowed too late: %s %v", to, err)
		}
	})
}

// TestTokensEnd: an access token is good for five to fifteen minutes, a refresh token
// for a month from its last use, and a grant that is used never ends by itself.
func TestTokensEnd(t *testing.T) {
	inside(t, func(t *testing.T, f *fixture) {
		got := f.redeem(f.allowed(f.request(), ada, "notes:read"))
		introspect := func() bool {
			return f.form("/introspect", url.Values{"token": {got.text("access_token")}}, "Authorization", "Basic cmVzb3VyY2U6czNjcmV0").json()["active"] == true
		}
		time.Sleep(5 * time.Minute)
		if !introspect() {
			t.Error("over after five minutes")
		}
		time.Sleep(10*time.Minute + time.Second)
		if introspect() {
			t.Error("good after fifteen minutes")
		}
		for month := range 12 {
			time.Sleep(authserver.RefreshLifetime - time.Hour)
			if got = f.refresh(got.text("refresh_token")); got.status != 200 {
				t.Fatalf("month %d: %s", month, got.body)
			}
		}
		time.Sleep(authserver.RefreshLifetime + time.Minute)
		if got := f.refresh(got.text("refresh_token")); got.text("error") != "invalid_grant" {
			t.Errorf("after a month of silence: %s", got.body)
		}
	})
}

// TestConsentOutlivesTokens: who comes back after all tokens have ended is asked for
// what is new only.
func TestConsentOutlivesTokens(t *testing.T) {
	inside(t, func(t *testing.T, f *fixture) {
		f.redeem(f.allowed(f.request(), ada, "notes:read"))
		time.Sleep(200 * 24 * time.Hour)
		p, err := f.Pending(t.Context(), f.waiting(f.request("scope", "notes:read notes:write")), ada)
		if err != nil || !p.Scopes[0].Granted || p.Scopes[1].Granted {
			t.Errorf("%+v %v", p.Scopes, err)
		}
	})
}

// TestUnusedRegistrationsEnd: anybody can register, so what is registered and never
// used does not stay.
func TestUnusedRegistrationsEnd(t *testing.T) {
	inside(t, func(t *testing.T, f *fixture) {
		metadata := map[string]any{"redirect_uris": []string{"https://app.example.com/cb"}, "token_endpoint_auth_method": "none"}
		used, unused := f.registered(metadata).text("client_id"), f.registered(metadata).text("client_id")
		f.redeem(f.allowed(f.request("client_id", used), ada, "notes:read"), "client_id", used)
		time.Sleep(100 * 24 * time.Hour)
		f.waiting(f.request("client_id", used))
		if got := f.get("/authorize?" + f.request("client_id", unused).Encode()); got.status != http.StatusBadRequest {
			t.Errorf("still there: %d", got.status)
		}
	})
}

// TestRegistrationsGoOnLater: a limit is for a while.
func TestRegistrationsGoOnLater(t *testing.T) {
	inside(t, func(t *testing.T, f *fixture) {
		metadata := map[string]any{"redirect_uris": []string{"https://app.example.com/cb"}, "token_endpoint_auth_method": "none"}
		made := 0
		for f.registered(metadata).status == http.StatusCreated {
			if made++; made > 1000 {
				t.Fatal("no limit")
			}
		}
		time.Sleep(time.Minute)
		if got := f.registered(metadata); got.status != http.StatusCreated {
			t.Errorf("a minute later: %d %s", got.status, got.body)
		}
	})
}

// TestChallengesAreForgotten: a refresh is refused for a challenge of now, not of long
// ago (DES-34 ii).
func TestChallengesAreForgotten(t *testing.T) {
	inside(t, func(t *testing.T, f *fixture) {
		got := f.redeem(f.allowed(f.request(), ada, "notes:read"))
		f.Challenged("ada", "app", []string{"notes:write"}, "create_note")
		time.Sleep(time.Hour)
		if got = f.refresh(got.text("refresh_token")); got.status != 200 {
			t.Errorf("an hour later: %s", got.body)
		}
		f.Challenged("ada", "app", []string{"notes:write"}, "create_note")
		if got := f.refresh(got.text("refresh_token")); got.text("error") != "invalid_grant" {
			t.Errorf("at once: %s", got.body)
		}
		time.Sleep(time.Minute)
		if got := f.refresh(got.text("refresh_token")); got.status != 200 {
			t.Errorf("refused again a minute later: %s", got.body)
		}
	})
}

// TestKeysRotate watches the keys for half a year as a resource server does that
// fetches them once a day: each token is signed by a key that it knows.
func TestKeysRotate(t *testing.T) {
	inside(t, func(t *testing.T, f *fixture) {
		signed := map[string]bool{}
		var fetched jose.JSONWebKeySet
		for hour := 0; hour < 180*24; hour += 5 {
			if hour%24 < 5 {
				fetched = jose.JSONWebKeySet{}
				if err := json.Unmarshal([]byte(f.get("/authserver/jwks.json").body), &fetched); err != nil {
					t.Fatal(err)
				}
				if len(fetched.Keys) > 3 {
					t.Errorf("%d keys are published", len(fetched.Keys))
				}
			}
			header, _ := claims(t, f.redeem(f.allowed(f.request(), ada, "notes:read")).text("access_token"))
			kid, _ := header["kid"].(string)
			if signed[kid] = true; len(fetched.Key(kid)) != 1 {
				t.Fatalf("hour %d: signed by a key that was not published a day ago", hour)
			}
			time.Sleep(5 * time.Hour)
		}
		if len(signed) < 5 || len(signed) > 8 {
			t.Errorf("%d keys signed in half a year", len(signed))
		}
	})
}
