//go:build linux

package faults_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// issuerFaults are what can be between Stile and its issuer. Where serves is set
// the keys arrive all the same, only later.
var issuerFaults = []struct {
	name   string
	put    func(testing.TB, *link)
	serves bool
}{
	{"latency", puts(latency), true},
	{"one byte at a time", puts(bytewise), true},
	{"slow drip", puts(drip), false},
	{"reset", puts(reset), false},
	{"half open", puts(halfOpen), false},
	{"cut in the header", puts(cutAfter(40)), false},
	{"cut in the document", puts(cutAfter(400)), false},
	{"down", func(_ testing.TB, l *link) { l.down() }, false},
}

func puts(f fault) func(testing.TB, *link) {
	return func(t testing.TB, l *link) { l.put(t, f) }
}

// TestIssuerOutOfReach runs what waits for the time that a fetch may take side by
// side.
func TestIssuerOutOfReach(t *testing.T) {
	nothingLeft(t)
	t.Run("all", func(t *testing.T) {
		t.Run("keys never had", issuerNeverReached)
		t.Run("keys had", issuerLost)
		t.Run("many callers", unreachedIssuerHoldsNothing)
	})
}

// issuerNeverReached: without keys nobody is let in and nobody is sent to a
// login page; when the issuer comes back, so does the service, by itself.
func issuerNeverReached(t *testing.T) {
	t.Parallel()
	for _, tt := range issuerFaults {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			upstream := &counted{}
			g := newGateway(t, setup{upstream: upstream})
			tt.put(t, g.issuer.link)
			if tt.serves {
				g.call(t, g.issuer.token(stiletest.Claims{})).wantResult(t)
				return
			}
			for range 3 {
				g.call(t, g.issuer.token(stiletest.Claims{})).wantOutage(t)
			}
			g.wantNotReady(t)
			if n := upstream.calls.Load(); n != 0 {
				t.Errorf("%d calls went through without keys", n)
			}
			g.back(t)
			eventually(t, "service after the issuer came back", func() bool {
				return g.call(t, g.issuer.token(stiletest.Claims{})).isResult()
			})
			if a := g.get(t, "/readyz"); a.status != http.StatusOK {
				t.Errorf("readyz after all came back: %d %s", a.status, a.body)
			}
		})
	}
}

// back ends a fault at the issuer, whichever it is.
func (g *gateway) back(t *testing.T) {
	g.issuer.link.heal(t)
	if !g.issuer.link.proxy.Enabled {
		g.issuer.link.up(t)
	}
}

func (g *gateway) wantNotReady(t *testing.T) {
	t.Helper()
	if a := g.get(t, "/readyz"); a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), g.issuer.URL()) {
		t.Errorf("readyz without keys: %d %s; want 503 that names the issuer", a.status, a.body)
	}
	if a := g.get(t, "/healthz"); a.status != http.StatusOK {
		t.Errorf("healthz: %d", a.status)
	}
}

// issuerLost: whoever has keys goes on with them. What they cannot tell, a
// token with another key id, is an outage and not a bad token; what they can
// tell is refused as ever.
func issuerLost(t *testing.T) {
	t.Parallel()
	for _, tt := range issuerFaults {
		if tt.serves {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			upstream := &counted{}
			g := newGateway(t, setup{upstream: upstream})
			g.call(t, g.issuer.token(stiletest.Claims{})).wantResult(t)
			g.issuer.server.Load().SetKeepAlivesEnabled(false) // the next fetch needs a new connection
			tt.put(t, g.issuer.link)
			old := g.issuer.token(stiletest.Claims{})
			g.issuer.Rotate()
			rotated := g.issuer.token(stiletest.Claims{})
			for range 2 {
				g.call(t, old).wantResult(t)
				g.call(t, rotated).wantOutage(t)
				g.call(t, g.issuer.token(stiletest.Claims{Kid: "nobody's"})).wantOutage(t)
				g.call(t, old[:len(old)-8]+"AAAAAAAA").wantRefusal(t, http.StatusUnauthorized)
			}
			if n := upstream.calls.Load(); n != 3 {
				t.Errorf("%d calls reached the upstream, want 3", n)
			}
			if a := g.get(t, "/readyz"); a.status != http.StatusOK {
				t.Errorf("readyz with keys at hand: %d %s", a.status, a.body)
			}
			g.back(t)
			eventually(t, "the new key after the issuer came back", func() bool { return g.call(t, rotated).isResult() })
			g.call(t, old).wantResult(t)
		})
	}
}

// TestIssuerRestartsWhileItRotates: the process behind the issuer ends between
// the making of a key and anybody's asking for it, refuses connections, and
// comes back with both.
func TestIssuerRestartsWhileItRotates(t *testing.T) {
	nothingLeft(t)
	upstream := &counted{}
	g := newGateway(t, setup{upstream: upstream})
	old := g.issuer.token(stiletest.Claims{})
	g.call(t, old).wantResult(t)
	g.issuer.stop()
	g.issuer.Rotate()
	rotated := g.issuer.token(stiletest.Claims{})
	before := upstream.calls.Load()
	g.call(t, rotated).wantOutage(t)
	g.call(t, g.issuer.token(stiletest.Claims{Kid: "nobody"})).wantOutage(t)
	if upstream.calls.Load() != before {
		t.Fatal("a call went through on a key nobody has")
	}
	g.call(t, old).wantResult(t)
	g.issuer.start(t)
	eventually(t, "the new key", func() bool { return g.call(t, rotated).isResult() })
	g.call(t, old).wantResult(t)
}

// unreachedIssuerHoldsNothing: many callers who wait for keys that never come
// are all answered, and share one attempt.
func unreachedIssuerHoldsNothing(t *testing.T) {
	t.Parallel()
	g := newGateway(t, setup{upstream: &counted{}})
	g.issuer.link.put(t, halfOpen)
	answers := make(chan answer)
	for range 200 {
		token := g.issuer.token(stiletest.Claims{})
		go func() {
			a, err := do(g.client, callRequest(t, g.base, token, "list_notes"))
			a.cut = err
			answers <- a
		}()
	}
	for range 200 {
		a := <-answers
		a.wantOutage(t)
	}
	if n := g.issuer.Count(stiletest.EndpointMetadata) + g.issuer.Count(stiletest.EndpointJWKS); n > 2 {
		t.Errorf("200 callers made %d requests to an issuer that does not answer", n)
	}
}
