package authenticate_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

func newAuthenticator(t testing.TB, verifiers ...authenticate.Verifier) *authenticate.Authenticator {
	t.Helper()
	a, err := authenticate.New(authenticate.Options{Verifiers: verifiers})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func bearer(token string) *http.Request {
	return post("http://gw.example/mcp", "Authorization", "Bearer "+token)
}

// scripted is a caller's own Verifier.
type scripted struct {
	calls atomic.Int32
	f     func(ctx context.Context, token string) (*authenticate.Identity, error)
}

func (s *scripted) Verify(ctx context.Context, token string) (*authenticate.Identity, error) {
	s.calls.Add(1)
	return s.f(ctx, token)
}

func knows(token string, lifetime time.Duration) *scripted {
	profile := &authenticate.Profile{Issuer: "https://own.example"}
	return &scripted{f: func(_ context.Context, got string) (*authenticate.Identity, error) {
		if got != token {
			return nil, &authenticate.Error{Kind: authenticate.Unknown, Description: "not mine"}
		}
		id := &authenticate.Identity{Issuer: profile.Issuer, Subject: "s", Profile: profile}
		if lifetime > 0 {
			id.Expiry = time.Now().Add(lifetime)
		}
		return id, nil
	}}
}

func fails(kind authenticate.Kind) *scripted {
	return &scripted{f: func(context.Context, string) (*authenticate.Identity, error) {
		return nil, &authenticate.Error{Kind: kind, Description: "scripted", RetryAfter: 3 * time.Second}
	}}
}

func TestOrderOfVerifiers(t *testing.T) {
	const (
		unknown, invalid, unavailable = authenticate.Unknown, authenticate.Invalid, authenticate.Unavailable
		good                          = authenticate.Kind(0)
	)
	for _, tt := range []struct {
		verifiers []authenticate.Kind
		want      authenticate.Kind
		asked     int
	}{
		{nil, invalid, 0},
		{[]authenticate.Kind{unknown}, invalid, 1},
		{[]authenticate.Kind{unknown, unknown}, invalid, 2},
		{[]authenticate.Kind{unknown, good}, good, 2},
		{[]authenticate.Kind{good, unknown}, good, 1},
		{[]authenticate.Kind{invalid, good}, invalid, 1},
		{[]authenticate.Kind{unavailable, good}, good, 2},
		{[]authenticate.Kind{unavailable, unknown}, unavailable, 2},
		{[]authenticate.Kind{unavailable, invalid}, invalid, 2},
		{[]authenticate.Kind{unknown, unavailable}, unavailable, 2},
		{[]authenticate.Kind{unknown, unavailable, unknown}, unavailable, 3},
	} {
		var verifiers []authenticate.Verifier
		var scripts []*scripted
		for _, kind := range tt.verifiers {
			s := fails(kind)
			if kind == good {
				s = knows("abc", 0)
			}
			scripts, verifiers = append(scripts, s), append(verifiers, s)
		}
		id, err := newAuthenticator(t, verifiers...).Authenticate(bearer("abc"))
		var got authenticate.Kind
		if err != nil {
			got = err.Kind
			checkDescription(t, err)
		}
		asked := 0
		for _, s := range scripts {
			asked += int(s.calls.Load())
		}
		if got != tt.want || asked != tt.asked || (id == nil) != (err != nil) {
			t.Errorf("%v: got %+v, %v after asking %d; want kind %d after %d", tt.verifiers, id, err, asked, tt.want, tt.asked)
		}
	}
}

// What a verifier must not do is an outage, never an identity and never a crash.
func TestVerifiersThatBreakTheContract(t *testing.T) {
	var typed *authenticate.Error
	for name, f := range map[string]func(context.Context, string) (*authenticate.Identity, error){
		"nothing":     func(context.Context, string) (*authenticate.Identity, error) { return nil, nil },
		"plain error": func(context.Context, string) (*authenticate.Identity, error) { return nil, errors.New("boom") },
		"nil *Error":  func(context.Context, string) (*authenticate.Identity, error) { return nil, typed },
		"kind Missing": func(context.Context, string) (*authenticate.Identity, error) {
			return nil, &authenticate.Error{Kind: authenticate.Missing}
		},
		"no kind":         func(context.Context, string) (*authenticate.Identity, error) { return nil, &authenticate.Error{} },
		"no profile":      func(context.Context, string) (*authenticate.Identity, error) { return &authenticate.Identity{}, nil },
		"panic":           func(context.Context, string) (*authenticate.Identity, error) { panic("boom") },
		"wrapped context": func(context.Context, string) (*authenticate.Identity, error) { return nil, context.Canceled },
	} {
		s := &scripted{f: f}
		a := newAuthenticator(t, s)
		for range 2 {
			if id, err := a.Authenticate(bearer("abc")); err == nil || err.Kind != authenticate.Unavailable || id != nil {
				t.Errorf("%s: got %+v, %v", name, id, err)
			}
		}
		if s.calls.Load() != 2 {
			t.Errorf("%s: the outage was remembered", name)
		}
	}
}

func TestWrappedErrorIsFound(t *testing.T) {
	s := &scripted{f: func(context.Context, string) (*authenticate.Identity, error) {
		return nil, fmt.Errorf("own layer: %w", &authenticate.Error{Kind: authenticate.Invalid, Description: "refused"})
	}}
	if _, err := newAuthenticator(t, s).Authenticate(bearer("abc")); err == nil || err.Description != "refused" {
		t.Errorf("got %v", err)
	}
}

func TestCachedIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := knows("abc", 30*time.Second)
		a := newAuthenticator(t, s)
		first, err := a.Authenticate(bearer("abc"))
		if err != nil {
			t.Fatal(err)
		}
		if first.TokenHash != sha256.Sum256([]byte("abc")) {
			t.Error("TokenHash is not that of the token")
		}
		time.Sleep(29 * time.Second)
		if second, _ := a.Authenticate(bearer("abc")); second != first {
			t.Error("not the identity that was remembered")
		}
		if s.calls.Load() != 1 {
			t.Errorf("verified %d times, want once", s.calls.Load())
		}
		time.Sleep(time.Second)
		if _, err := a.Authenticate(bearer("abc")); err != nil || s.calls.Load() != 2 {
			t.Errorf("at its expiry it must be verified again: %d, %v", s.calls.Load(), err)
		}
		if _, err := a.Authenticate(bearer("abd")); err == nil || err.Kind != authenticate.Invalid {
			t.Errorf("another token: %v", err)
		}
		synctest.Wait()
	})
}

func TestExpiredIdentityIsRefused(t *testing.T) {
	s := &scripted{f: func(context.Context, string) (*authenticate.Identity, error) {
		return &authenticate.Identity{Profile: &authenticate.Profile{}, Expiry: time.Now().Add(-time.Second)}, nil
	}}
	if _, err := newAuthenticator(t, s).Authenticate(bearer("abc")); err == nil || err.Kind != authenticate.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestNegativeCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for kind, want := range map[authenticate.Kind]int32{authenticate.Invalid: 1, authenticate.Unknown: 1, authenticate.Unavailable: 5} {
			s := fails(kind)
			a := newAuthenticator(t, s)
			for range 5 {
				a.Authenticate(bearer("bad"))
			}
			if got := s.calls.Load(); got != want {
				t.Errorf("kind %d: verified %d times, want %d", kind, got, want)
			}
			time.Sleep(10 * time.Second)
			a.Authenticate(bearer("bad"))
			if got := s.calls.Load(); got != want+1 {
				t.Errorf("kind %d: remembered beyond 10 s", kind)
			}
		}
		synctest.Wait()
	})
}

func TestOneFlightPerToken(t *testing.T) {
	n := newNetwork()
	n.answers(timeless())
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator(t, newIntrospection(t, n))
		n.set(false, time.Second)
		leaver, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := a.Authenticate(bearer("opaque").WithContext(leaver)); err == nil || err.Kind != authenticate.Unavailable || !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait() // the one who leaves has begun the work
		for range 16 {
			wg.Go(func() {
				if _, err := a.Authenticate(bearer("opaque")); err != nil {
					t.Errorf("who stayed got %v", err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if got := n.count(introspectURL); got != 1 {
			t.Errorf("%d introspections for 17 at once, want 1", got)
		}
		time.Sleep(58 * time.Second)
		a.Authenticate(bearer("opaque"))
		if got := n.count(introspectURL); got != 1 {
			t.Errorf("%d introspections within the minute, want 1", got)
		}
		time.Sleep(2 * time.Second)
		a.Authenticate(bearer("opaque"))
		if got := n.count(introspectURL); got != 2 {
			t.Errorf("%d introspections after a minute, want 2", got)
		}
		synctest.Wait()
	})
}

// A token that was revoked stops within the cache's time, and an outage refuses
// no token that is remembered.
func TestRevocation(t *testing.T) {
	n := newNetwork()
	n.answers(timeless())
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator(t, newIntrospection(t, n))
		a.Authenticate(bearer("opaque"))
		n.set(true, 0)
		time.Sleep(59 * time.Second)
		if _, err := a.Authenticate(bearer("opaque")); err != nil {
			t.Errorf("during the outage: %v", err)
		}
		if _, err := a.Authenticate(bearer("other")); err == nil || err.Kind != authenticate.Unavailable {
			t.Errorf("a new token during the outage: %v", err)
		}
		n.set(false, 0)
		n.answers(object{"active": false})
		time.Sleep(2 * time.Second)
		if _, err := a.Authenticate(bearer("opaque")); err == nil || err.Kind != authenticate.Invalid {
			t.Errorf("after revocation: %v", err)
		}
		synctest.Wait()
	})
}

func TestCacheNeverOutlivesExp(t *testing.T) {
	n := newNetwork()
	synctest.Test(t, func(t *testing.T) {
		n.answers(activeAnswer().with("exp", time.Now().Unix()+10))
		a := newAuthenticator(t, newIntrospection(t, n))
		a.Authenticate(bearer("opaque"))
		time.Sleep(41 * time.Second) // exp plus skew is 40
		if _, err := a.Authenticate(bearer("opaque")); err == nil || err.Kind != authenticate.Invalid {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
	})
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func TestAPIKeys(t *testing.T) {
	keys, err := authenticate.NewAPIKeys([]authenticate.APIKey{
		{Name: "ci", SHA256: hashOf("k-1"), Subject: "ci-bot", Scopes: "notes:read notes:write notes:read"},
		{Name: "cron", SHA256: strings.ToUpper(hashOf("k 2!"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	issuer := fails(authenticate.Unknown)
	a := newAuthenticator(t, issuer, keys)
	for name, r := range map[string]*http.Request{
		"bearer": bearer("k-1"), "header": post("http://gw.example/mcp", "X-API-Key", "k-1"),
	} {
		id, err := a.Authenticate(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if id.Issuer != authenticate.APIKeyIssuer || id.Subject != "ci-bot" || id.ClientID != "ci" || !id.Final || !id.Expiry.IsZero() ||
			id.Profile != keys.Profile() || id.TokenHash != sha256.Sum256([]byte("k-1")) {
			t.Errorf("%s: identity %+v", name, id)
		}
		if want := (scope.Set{"notes:read", "notes:write"}); fmt.Sprint(id.Scopes) != fmt.Sprint(want) {
			t.Errorf("scopes %q", id.Scopes)
		}
	}
	if id, err := a.Authenticate(post("http://gw.example/mcp", "X-API-Key", "k 2!")); err != nil || id.Subject != "cron" || len(id.Scopes) != 0 {
		t.Errorf("got %+v, %v", id, err)
	}
	if issuer.calls.Load() != 0 {
		t.Error("an API key was shown to an issuer")
	}
	for name, tt := range map[string]struct {
		r    *http.Request
		kind authenticate.Kind
	}{
		"unknown":         {post("http://gw.example/mcp", "X-API-Key", "other"), authenticate.Invalid},
		"empty":           {post("http://gw.example/mcp", "X-API-Key", ""), authenticate.Malformed},
		"twice":           {post("http://gw.example/mcp", "X-API-Key", "k-1", "X-API-Key", "k-1"), authenticate.Malformed},
		"long":            {post("http://gw.example/mcp", "X-API-Key", strings.Repeat("k", 17<<10)), authenticate.Malformed},
		"with bearer":     {post("http://gw.example/mcp", "X-API-Key", "k-1", "Authorization", "Bearer k-1"), authenticate.Malformed},
		"with basic":      {post("http://gw.example/mcp", "X-API-Key", "k-1", "Authorization", "Basic k"), authenticate.Malformed},
		"with query":      {post("http://gw.example/mcp?access_token=a", "X-API-Key", "k-1"), authenticate.Malformed},
		"nothing":         {post("http://gw.example/mcp"), authenticate.Missing},
		"hash in its own": {bearer(hashOf("k-1")), authenticate.Invalid},
	} {
		if _, err := a.Authenticate(tt.r); err == nil || err.Kind != tt.kind {
			t.Errorf("%s: got %+v, want kind %d", name, err, tt.kind)
		}
	}
	if _, err := newAuthenticator(t, issuer).Authenticate(post("http://gw.example/mcp", "X-API-Key", "k-1")); err == nil || err.Kind != authenticate.Missing {
		t.Errorf("without API keys the header is no credential: %v", err)
	}
}

// What came as X-API-Key is compared with API keys only, even where the cache
// knows it as a token.
func TestTokenInKeyHeader(t *testing.T) {
	keys := must(authenticate.NewAPIKeys([]authenticate.APIKey{{Name: "ci", SHA256: hashOf("k")}}))
	a := newAuthenticator(t, keys, knows("abc", 0))
	if _, err := a.Authenticate(bearer("abc")); err != nil {
		t.Fatal(err)
	}
	if id, err := a.Authenticate(post("http://gw.example/mcp", "X-API-Key", "abc")); err == nil {
		t.Errorf("accepted %+v", id)
	}
}

func TestAPIKeyVerify(t *testing.T) {
	keys := must(authenticate.NewAPIKeys([]authenticate.APIKey{{Name: "ci", SHA256: hashOf("k")}}))
	if id, err := verify(t, keys, "k"); err != nil || id.Subject != "ci" {
		t.Errorf("got %v, %v", id, err)
	}
	if _, err := verify(t, keys, "x"); err == nil || err.Kind != authenticate.Unknown {
		t.Errorf("got %v", err)
	}
}

func TestNewAPIKeysMistakes(t *testing.T) {
	_, err := authenticate.NewAPIKeys([]authenticate.APIKey{
		{SHA256: "my-secret-key"}, {Name: "a", SHA256: hashOf("k"), Scopes: `ok "no"`}, {Name: "a", SHA256: hashOf("k")},
		{Name: "b", SHA256: hashOf("")}, {Name: "c", SHA256: hashOf("k")[:62]},
	})
	var list problem.List
	if !errors.As(err, &list) {
		t.Fatalf("got %v", err)
	}
	var paths []string
	for _, p := range list {
		paths = append(paths, p.Path)
	}
	want := "[0].name [0].sha256 [1].scopes [2].name [2].sha256 [3].sha256 [4].sha256"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if strings.Contains(err.Error(), "my-secret-key") {
		t.Error("what may be the key itself is repeated")
	}
}

func TestNilVerifier(t *testing.T) {
	_, err := authenticate.New(authenticate.Options{Verifiers: []authenticate.Verifier{fails(authenticate.Unknown), nil}})
	var list problem.List
	if !errors.As(err, &list) || list[0].Path != "verifiers[1]" {
		t.Errorf("got %v", err)
	}
}

// A flood of bad tokens drives no good one out, and both caches stay bounded.
func TestFloodOfBadTokens(t *testing.T) {
	s := knows("abc", time.Hour)
	a := must(authenticate.New(authenticate.Options{Verifiers: []authenticate.Verifier{s}, CacheSize: 100, NegativeCache: 100}))
	a.Authenticate(bearer("abc"))
	for i := range 5000 {
		a.Authenticate(bearer(fmt.Sprint("bad", i)))
	}
	before := s.calls.Load()
	a.Authenticate(bearer("abc"))
	if s.calls.Load() != before {
		t.Error("the good token was driven out")
	}
}

// resident is the memory in use after a collection, in bytes.
func resident() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemoryPerCachedToken(t *testing.T) {
	const tokens = 20_000
	profile := &authenticate.Profile{Issuer: issuerURL}
	set := scope.Set{"notes:read"}
	s := &scripted{f: func(_ context.Context, token string) (*authenticate.Identity, error) {
		return &authenticate.Identity{Issuer: issuerURL, Subject: "user-" + token + "-0000-0000-0000-000000000000"[:20], ClientID: "app",
			Scopes: set, IssuedAt: time.Now(), Expiry: time.Now().Add(time.Hour), Profile: profile, TokenHash: sha256.Sum256([]byte(token))}, nil
	}}
	a := newAuthenticator(t, s)
	a.Authenticate(bearer("first"))
	before := resident()
	for i := range tokens {
		if _, err := a.Authenticate(bearer(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	each := (resident() - before) / tokens
	t.Logf("%d bytes for each cached token", each)
	if each > 512 {
		t.Errorf("%d bytes for each cached token, want at most 512", each)
	}
	runtime.KeepAlive(a)
}

func TestCachedHitAllocates(t *testing.T) {
	a := newAuthenticator(t, newJWT(t, goodNetwork()))
	r := bearer(goodToken())
	if _, err := a.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	if allocs := testing.AllocsPerRun(100, func() { a.Authenticate(r) }); allocs > 1 {
		t.Errorf("a cached token costs %v allocations, want at most 1", allocs)
	}
}

func BenchmarkCached(b *testing.B) {
	a := newAuthenticator(b, newJWT(b, goodNetwork()))
	r := bearer(goodToken())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyES256(b *testing.B) {
	v, token := newJWT(b, goodNetwork()), goodToken()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(context.Background(), token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefusedBeforeSignature is a flood of distinct tokens, through the
// whole Authenticator.
func BenchmarkRefusedBeforeSignature(b *testing.B) {
	for _, name := range []string{"kid unknown", "iss with a slash more", "aud wrong", "exp past"} {
		b.Run(name, func(b *testing.B) {
			var token string
			for _, tt := range hostileTokens() {
				if tt.name == name {
					token = tt.token
				}
			}
			v := newJWT(b, goodNetwork())
			v.Ready(context.Background())
			a := newAuthenticator(b, v)
			requests := make([]*http.Request, 4096) // each with a signature of its own
			for i := range requests {
				requests[i] = bearer(token[:strings.LastIndexByte(token, '.')+1] + encode(fmt.Sprintf("%064d", i)))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i%len(requests) == 0 {
					b.StopTimer()
					a = newAuthenticator(b, v)
					b.StartTimer()
				}
				if _, err := a.Authenticate(requests[i%len(requests)]); err == nil {
					b.Fatal("accepted")
				}
				i++
			}
		})
	}
}
