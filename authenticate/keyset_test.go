package authenticate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/internal/problem"
)

// signedAs is a token of the kid, signed by the other key.
func signedAs(kid string) string {
	return sign(otherKey(), "ES256", goodHeader().with("kid", kid).String(), goodClaims().String())
}

func TestRotation(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		if _, err := verify(t, v, goodToken()); err != nil {
			t.Fatal(err)
		}
		n.keys(append(goodKeys(), jwk("new", "ES256", otherKey().Public()))...)
		if _, err := verify(t, v, signedAs("new")); err != nil {
			t.Errorf("a new key is not seen at once: %v", err)
		}
		if got := n.count(jwksURL); got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
		if _, err := verify(t, v, goodToken()); err != nil {
			t.Errorf("the old key is gone: %v", err)
		}
		// A key that was withdrawn ends with the next regular fetch.
		n.keys(jwk("new", "ES256", otherKey().Public()))
		time.Sleep(authenticate.DefaultKeyMaxAge)
		verify(t, v, signedAs("new"))
		synctest.Wait()
		if _, err := verify(t, v, goodToken()); err == nil || err.Kind != authenticate.Invalid {
			t.Errorf("a withdrawn key: got %v", err)
		}
	})
}

// go-oidc fetched 93 times for 100 forged tokens (libraries.md).
func TestUnknownKidFlood(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		n.set(false, 100*time.Millisecond)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if _, err := verify(t, v, signedAs(fmt.Sprint("forged", i))); err == nil || err.Kind != authenticate.Invalid {
					t.Errorf("got %v, want Invalid", err)
				}
			})
		}
		wg.Wait()
		if got := n.count(jwksURL); got != 2 {
			t.Errorf("%d fetches for 100 at once, want 2: the first one and one more", got)
		}
		for i := range 600 {
			verify(t, v, signedAs(fmt.Sprint("later", i)))
			time.Sleep(time.Second)
		}
		// Ten minutes: one in 10 s for the sake of the ids, and the regular one.
		if got := n.count(jwksURL); got > 64 {
			t.Errorf("%d fetches in ten minutes of forged ids, want at most 64", got)
		}
		if _, err := verify(t, v, goodToken()); err != nil {
			t.Errorf("an honest client meanwhile: %v", err)
		}
	})
}

// A stray key id takes no turn from a key that is really new, and a flood of them only
// for one pause.
func TestNewKeyBehindUnknownKids(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		verify(t, v, signedAs("stray"))
		n.keys(append(goodKeys(), jwk("new", "", otherKey().Public()))...)
		if _, err := verify(t, v, signedAs("new")); err != nil {
			t.Errorf("a second after a stray id: %v", err)
		}
		n.keys(append(goodKeys(), jwk("newer", "", otherKey().Public()))...)
		verify(t, v, signedAs("forged"))
		time.Sleep(10 * time.Second)
		if _, err := verify(t, v, signedAs("newer")); err != nil {
			t.Errorf("a pause after a flood: %v", err)
		}
	})
}

// The same unknown id does not use up the turn of a new one for ever.
func TestUnknownKidIsRemembered(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		verify(t, v, signedAs("old")) // the first fetch, and one for the id
		time.Sleep(31 * time.Second)
		verify(t, v, signedAs("old")) // still remembered
		if got := n.count(jwksURL); got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
		n.keys(append(goodKeys(), jwk("new", "", otherKey().Public()))...)
		if _, err := verify(t, v, signedAs("new")); err != nil {
			t.Errorf("a real new key behind a remembered one: %v", err)
		}
	})
}

// An outage in the middle of a rotation: the new key is asked for again as soon
// as the pause after a failure allows, not when its id has been forgotten.
func TestRotationDuringAnOutage(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		verify(t, v, goodToken())
		n.keys(append(goodKeys(), jwk("new", "", otherKey().Public()))...)
		n.set(true, 0)
		_, err := verify(t, v, signedAs("new"))
		if err == nil || err.Kind != authenticate.Unavailable {
			t.Fatalf("during the outage: %v, want Unavailable", err)
		}
		n.set(false, 0)
		time.Sleep(err.RetryAfter)
		if _, err := verify(t, v, signedAs("new")); err != nil {
			t.Errorf("%v", err)
		}
	})
}

func TestManyUnknownKids(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n, func(c *authenticate.JWTConfig) {
			c.Keys = newKeySet(t, n, func(c *authenticate.KeySetConfig) { c.MaxAge = 100 * time.Hour })
		})
		for i := range 1100 { // more than are remembered
			verify(t, v, signedAs(fmt.Sprint(i)))
			time.Sleep(30 * time.Second)
		}
		if got := n.count(jwksURL); got != 1101 {
			t.Errorf("%d fetches, want 1101", got)
		}
	})
}

func TestOneFetchForAll(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		n.set(false, time.Second)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := verify(t, v, goodToken()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := n.count(jwksURL); got != 1 {
			t.Errorf("%d fetches, want 1", got)
		}
	})
}

func TestOneWaiterLeaves(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		n.set(false, 2*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			var e *authenticate.Error
			if _, err := v.Verify(ctx, goodToken()); !errors.As(err, &e) || e.Kind != authenticate.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		if _, err := verify(t, v, goodToken()); err != nil {
			t.Errorf("who stayed got %v", err)
		}
		wg.Wait()
	})
}

func TestNeverHadKeys(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		n.set(true, 0)
		if err := v.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), issuerURL) || !errors.Is(err, errDown) {
			t.Errorf("Ready: %v", err)
		}
		for range 100 {
			_, err := verify(t, v, goodToken())
			if err == nil || err.Kind != authenticate.Unavailable || err.RetryAfter < time.Second || err.RetryAfter > 30*time.Second {
				t.Fatalf("got %+v, want Unavailable", err)
			}
		}
		if got := n.count(jwksURL); got != 1 {
			t.Errorf("an endpoint that is down was asked %d times at once, want 1", got)
		}
		for range 600 {
			verify(t, v, goodToken())
			time.Sleep(time.Second)
		}
		if got := n.count(jwksURL); got > 26 {
			t.Errorf("asked %d times in ten minutes, want a growing pause", got)
		}
		n.set(false, 0)
		time.Sleep(30 * time.Second)
		if _, err := verify(t, v, goodToken()); err != nil {
			t.Errorf("back again: %v", err)
		}
		if err := v.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v", err)
		}
	})
}

func TestStaleWhileError(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		if err := v.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		n.set(true, 0)
		for time.Since(start) < 24*time.Hour-time.Minute {
			time.Sleep(47 * time.Minute)
			if time.Since(start) >= 24*time.Hour {
				break
			}
			if _, err := verify(t, v, goodToken()); err != nil {
				t.Fatalf("%v after the outage began: %v", time.Since(start), err)
			}
		}
		// A key id that is not known cannot be judged now.
		if _, err := verify(t, v, signedAs("new")); err == nil || err.Kind != authenticate.Unavailable {
			t.Errorf("an unknown key during an outage: %v", err)
		}
		time.Sleep(time.Until(start.Add(24*time.Hour + time.Second)))
		if _, err := verify(t, v, goodToken()); err == nil || err.Kind != authenticate.Unavailable {
			t.Errorf("past the bound: %v", err)
		}
		if err := v.Ready(t.Context()); err == nil {
			t.Error("ready past the bound")
		}
		n.set(false, 0)
		time.Sleep(31 * time.Second)
		if _, err := verify(t, v, goodToken()); err != nil {
			t.Errorf("back again: %v", err)
		}
	})
}

// Keys just past their age are used while new ones are fetched; after a long
// idle time the new ones are waited for.
func TestRefreshBesideRequests(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		verify(t, v, goodToken())
		n.set(false, 3*time.Second)
		time.Sleep(11 * time.Minute)
		start := time.Now()
		if _, err := verify(t, v, goodToken()); err != nil || time.Since(start) != 0 {
			t.Errorf("waited %v, %v", time.Since(start), err)
		}
		verify(t, v, goodToken())
		time.Sleep(4 * time.Second)
		if got := n.count(jwksURL); got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
		n.keys(jwk("other", "", otherKey().Public()))
		time.Sleep(time.Hour)
		if _, err := verify(t, v, goodToken()); err == nil {
			t.Error("a key that was withdrawn an hour ago was used without asking")
		}
	})
}

func TestCacheControl(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                            10 * time.Minute,
		"public":                      10 * time.Minute,
		"max-age=300":                 5 * time.Minute,
		"public, Max-Age=7200":        2 * time.Hour,
		`max-age="120"`:               2 * time.Minute,
		"max-age=1":                   time.Minute,
		"max-age=99999999":            24 * time.Hour,
		"max-age=-1":                  10 * time.Minute,
		"max-age=99999999999999999":   10 * time.Minute,
		"no-store":                    time.Minute,
		"max-age=7200, no-cache":      time.Minute,
		"s-maxage=5, stale-if-error=": 10 * time.Minute,
	} {
		t.Run(header, func(t *testing.T) {
			n := newNetwork()
			body := must(json.Marshal(jose.JSONWebKeySet{Keys: goodKeys()}))
			n.on(jwksURL, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/jwk-set+json")
				w.Header().Set("Cache-Control", header)
				w.Write(body)
			})
			synctest.Test(t, func(t *testing.T) {
				s := newKeySet(t, n)
				s.Ready(t.Context())
				time.Sleep(want - time.Second)
				s.Ready(t.Context())
				synctest.Wait()
				if n.count(jwksURL) != 1 {
					t.Errorf("fetched again before %v", want)
				}
				time.Sleep(2 * time.Second)
				s.Ready(t.Context())
				synctest.Wait()
				if n.count(jwksURL) != 2 {
					t.Errorf("not fetched again after %v", want)
				}
			})
		})
	}
}

// A key that must not be used is as good as not there.
func TestUnfitKeys(t *testing.T) {
	public := func(change func(object)) object {
		raw := must(jwk("ec", "ES256", ecKey().Public()).MarshalJSON())
		var o object
		must(0, json.Unmarshal(raw, &o))
		change(o)
		return o
	}
	tests := map[string]object{
		"for encryption":     public(func(o object) { o["use"] = "enc" }),
		"ops without verify": public(func(o object) { o["key_ops"] = []string{"sign"} }),
		"ops not an array":   public(func(o object) { o["key_ops"] = 1 }),
		"other algorithm":    public(func(o object) { o["alg"] = "ES384" }),
		"not on the curve":   public(func(o object) { o["y"] = o["x"] }),
		"private":            must(jsonObject(jose.JSONWebKey{Key: ecKey(), KeyID: "ec", Algorithm: "ES256"})),
		"symmetric":          {"kty": "oct", "kid": "ec", "k": encode("secret")},
		"unknown kind":       {"kty": "XYZ", "kid": "ec"},
		"other id":           public(func(o object) { o["kid"] = "x" }),
		"null":               nil,
	}
	for name, key := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNetwork()
			other := must(jsonObject(jwk("other", "", rsaKey().Public())))
			n.json(jwksURL, object{"keys": []any{key, other}})
			v := newJWT(t, n)
			if _, err := verify(t, v, goodToken()); err == nil || err.Kind != authenticate.Invalid {
				t.Errorf("got %v, want Invalid", err)
			}
			if err := v.Ready(t.Context()); err != nil {
				t.Errorf("the good key beside it: %v", err)
			}
		})
	}
	t.Run("verify among ops", func(t *testing.T) {
		n := newNetwork()
		n.json(jwksURL, object{"keys": []any{public(func(o object) { o["key_ops"] = []string{"verify", "sign"}; delete(o, "use") })}})
		if _, err := verify(t, newJWT(t, n), goodToken()); err != nil {
			t.Error(err)
		}
	})
}

func jsonObject(key jose.JSONWebKey) (o object, err error) {
	return o, json.Unmarshal(must(key.MarshalJSON()), &o)
}

func TestSmallRSAKey(t *testing.T) {
	n := newNetwork()
	// 1024 bits: 128 bytes with the top bit set, odd.
	modulus := append([]byte{0x80}, make([]byte, 127)...)
	modulus[127] = 1
	n.json(jwksURL, object{"keys": []any{object{"kty": "RSA", "kid": "rsa", "n": encode(string(modulus)), "e": "AQAB"}}})
	_, err := verify(t, newJWT(t, n), sign(rsaKey(), "RS256", `{"alg":"RS256","kid":"rsa"}`, goodClaims().String()))
	if err == nil || err.Kind != authenticate.Unavailable || !strings.Contains(err.Error(), "no key that can verify") {
		t.Errorf("got %v", err)
	}
}

func TestNoKidNeedsOneKey(t *testing.T) {
	n := newNetwork()
	token := sign(ecKey(), "ES256", goodHeader().with("kid", absent).String(), goodClaims().String())
	n.keys(jwk("", "", ecKey().Public()), jwk("a", "", rsaKey().Public()))
	if _, err := verify(t, newJWT(t, n), token); err != nil {
		t.Errorf("one key fits: %v", err)
	}
	n.keys(jwk("a", "", ecKey().Public()), jwk("b", "", otherKey().Public()))
	if _, err := verify(t, newJWT(t, n), token); err == nil || err.Kind != authenticate.Invalid {
		t.Errorf("two keys fit: %v", err)
	}
	n.keys(jwk("ec", "", otherKey().Public()), jwk("ec", "", ecKey().Public()))
	if _, err := verify(t, newJWT(t, n), goodToken()); err != nil {
		t.Errorf("two keys of one id: %v", err)
	}
}

// Bad documents never replace good keys.
func TestBadKeyDocuments(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "HTML": "<html>", "no keys": `{}`, "empty set": `{"keys":[]}`, "not an array": `{"keys":{}}`, "two values": `{"keys":[]}{}`,
		"duplicate": `{"keys":[],"keys":[]}`, "huge": `{"keys":["` + strings.Repeat("x", 1<<20) + `"]}`, "strings": `{"keys":["a",1,null]}`,
	} {
		t.Run(name, func(t *testing.T) {
			n := goodNetwork()
			synctest.Test(t, func(t *testing.T) {
				v := newJWT(t, n)
				v.Ready(t.Context())
				n.on(jwksURL, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.Write([]byte(body))
				})
				time.Sleep(time.Hour)
				if _, err := verify(t, v, goodToken()); err != nil {
					t.Errorf("with keys of an hour ago: %v", err)
				}
				if n.count(jwksURL) != 2 {
					t.Error("not asked again")
				}
				fresh := newJWT(t, n)
				if err := fresh.Ready(t.Context()); err == nil {
					t.Error("ready without keys")
				}
			})
		})
	}
}

const (
	oauthInserted = "https://idp.example/.well-known/oauth-authorization-server/realms/acme"
	oidcInserted  = "https://idp.example/.well-known/openid-configuration/realms/acme"
	oidcAppended  = issuerURL + "/.well-known/openid-configuration"
	oauthAppended = issuerURL + "/.well-known/oauth-authorization-server"
)

func metadata() object { return object{"issuer": issuerURL, "jwks_uri": jwksURL} }

func discovering(c *authenticate.KeySetConfig) { c.JWKSURI = "" }

func TestDiscovery(t *testing.T) {
	forms := []string{oauthInserted, oidcInserted, oidcAppended, oauthAppended}
	for i, form := range forms {
		t.Run(form, func(t *testing.T) {
			n := goodNetwork()
			n.json(form, metadata())
			s := newKeySet(t, n, discovering)
			if s.Metadata() != nil {
				t.Error("metadata before it was asked for")
			}
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			for j, other := range forms {
				if want := j <= i; (n.count(other) == 1) != want {
					t.Errorf("%s asked: %d", other, n.count(other))
				}
			}
			if got := string(s.Metadata()); got != metadata().String() {
				t.Errorf("metadata %s", got)
			}
		})
	}
}

func TestDiscoveryPlaces(t *testing.T) {
	for issuer, place := range map[string]string{
		"https://idp.example":      "https://idp.example/.well-known/oauth-authorization-server",
		"https://idp.example/":     "https://idp.example/.well-known/openid-configuration",
		"https://idp.example/a/":   "https://idp.example/.well-known/oauth-authorization-server/a",
		"https://idp.example/a/b":  "https://idp.example/a/b/.well-known/openid-configuration",
		"https://idp.example/a%2F": "https://idp.example/.well-known/openid-configuration/a%2F",
	} {
		n := goodNetwork()
		n.json(place, object{"issuer": issuer, "jwks_uri": jwksURL})
		s := newKeySet(t, n, discovering, func(c *authenticate.KeySetConfig) { c.Issuer = issuer })
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("%s at %s: %v", issuer, place, err)
		}
	}
}

func TestDiscoveryRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		doc  object
		want string
	}{
		"another issuer":       {metadata().with("issuer", "https://evil.example"), "expected issuer"},
		"a slash more":         {metadata().with("issuer", issuerURL+"/"), "expected issuer"},
		"no issuer":            {metadata().with("issuer", absent), "expected issuer"},
		"issuer not a string":  {metadata().with("issuer", 1), "expected a string"},
		"no keys":              {metadata().with("jwks_uri", absent), "expected jwks_uri"},
		"keys over http":       {metadata().with("jwks_uri", "http://idp.example/keys"), "https"},
		"keys in a file":       {metadata().with("jwks_uri", "file:///etc/passwd"), "jwks_uri"},
		"keys behind a secret": {metadata().with("jwks_uri", "https://u:p@idp.example/"), "user information"},
	} {
		t.Run(name, func(t *testing.T) {
			n := goodNetwork()
			n.json(oauthInserted, tt.doc)
			s := newKeySet(t, n, discovering)
			if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if n.count(jwksURL) != 0 || s.Metadata() != nil {
				t.Error("a refused document was used")
			}
			n.json(oidcAppended, metadata())
			if err := newKeySet(t, n, discovering).Ready(t.Context()); err != nil {
				t.Errorf("a good one behind it: %v", err)
			}
		})
	}
}

func TestDiscoveryStopsWithoutAnswer(t *testing.T) {
	n := goodNetwork()
	n.set(true, 0)
	if err := newKeySet(t, n, discovering).Ready(t.Context()); err == nil {
		t.Error("ready")
	}
	if n.count(oauthInserted) != 1 || n.count(oidcInserted) != 0 {
		t.Error("a host that does not answer was asked again in another form")
	}
}

func TestMetadataURL(t *testing.T) {
	n := goodNetwork()
	n.json("https://elsewhere.example/meta", metadata())
	s := newKeySet(t, n, discovering, func(c *authenticate.KeySetConfig) { c.MetadataURL = "https://elsewhere.example/meta" })
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if n.count(oauthInserted) != 0 {
		t.Error("looked elsewhere too")
	}
}

// When the keys have moved the metadata is read again.
func TestKeysMove(t *testing.T) {
	n := goodNetwork()
	n.json(oauthInserted, metadata())
	synctest.Test(t, func(t *testing.T) {
		s := newKeySet(t, n, discovering)
		s.Ready(t.Context())
		n.on(jwksURL, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
		n.json("https://idp.example/new", jose.JSONWebKeySet{Keys: goodKeys()})
		n.json(oauthInserted, metadata().with("jwks_uri", "https://idp.example/new"))
		time.Sleep(30 * time.Minute)
		s.Ready(t.Context()) // finds the old place gone
		time.Sleep(2 * time.Second)
		s.Ready(t.Context())
		synctest.Wait()
		if n.count("https://idp.example/new") != 1 {
			t.Error("the new place was not found")
		}
	})
}

func TestSlowIssuer(t *testing.T) {
	n := goodNetwork()
	synctest.Test(t, func(t *testing.T) {
		v := newJWT(t, n)
		n.set(false, time.Hour)
		start := time.Now()
		if _, err := verify(t, v, goodToken()); err == nil || err.Kind != authenticate.Unavailable {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestNewKeySetMistakes(t *testing.T) {
	_, err := authenticate.NewKeySet(authenticate.KeySetConfig{Issuer: "idp", JWKSURI: "http://idp.example/k", MetadataURL: "/m"})
	var list problem.List
	if !errors.As(err, &list) || len(list) != 3 {
		t.Errorf("got %v, want three mistakes", err)
	}
	if _, err := authenticate.NewKeySet(authenticate.KeySetConfig{Issuer: "http://127.0.0.1:8080/x", JWKSURI: "http://[::1]/k"}); err != nil {
		t.Errorf("loopback: %v", err)
	}
}
