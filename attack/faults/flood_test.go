//go:build linux

package faults_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/stiletest"
)

// forge makes a token of the issuer with a signature that nobody made, unlike
// any other by its serial number.
func (i *issuer) forge(kid string, expiry time.Time) string {
	serial := i.serial.Add(1)
	header, _ := json.Marshal(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": kid})
	claims, _ := json.Marshal(map[string]any{"iss": i.URL(), "aud": i.resource, "sub": "mallory", "scope": "notes:read",
		"exp": expiry.Unix(), "iat": time.Now().Unix(), "jti": fmt.Sprint(serial)})
	signature := make([]byte, 64)
	copy(signature, fmt.Sprintf("%064d", serial))
	encode := base64.RawURLEncoding.EncodeToString
	return encode(header) + "." + encode(claims) + "." + encode(signature)
}

// flood sends n GETs with the tokens that next makes over some connections at
// once, wants every one refused with want, and says how many were answered.
func (p *program) flood(t *testing.T, n, want int, next func(i int) string) {
	t.Helper()
	var sent, answered atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		conn := p.dial(t)
		wg.Go(func() {
			defer conn.Close()
			reader := bufio.NewReader(conn)
			for i := int(sent.Add(1)); i <= n; i = int(sent.Add(1)) {
				fmt.Fprintf(conn, "GET /mcp HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n", p.address, next(i))
				res, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Errorf("token %d: %v", i, err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				if _ = res.Body.Close(); res.StatusCode != want {
					t.Errorf("token %d was answered with %d, want %d", i, res.StatusCode, want)
					return
				}
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	if answered.Load() != int64(n) {
		t.Errorf("%d of %d answered", answered.Load(), n)
	}
}

// TestFloodOfTokens: ten thousand unknown key ids make Stile ask its issuer once
// more, and a hundred thousand distinct bad tokens of every kind leave nothing
// behind; honest clients are served all the while.
func TestFloodOfTokens(t *testing.T) {
	nothingLeft(t)
	p := start(t, serving{upstream: &counted{}, audit: "/dev/null"})
	if a, err := p.call(t, p.issuer.token(stiletest.Claims{}), "list_notes"); err != nil || !a.isResult() {
		t.Fatal(a, err)
	}
	before := residentKiB(t, p.pid(), "VmRSS")
	descriptors := openDescriptors(t, p.pid())
	done := make(chan struct{})
	honest := p.honest(t, done)
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	p.flood(t, 10_000, http.StatusUnauthorized, func(i int) string { return p.issuer.forge(fmt.Sprint("kid", i), soon) })
	if n := p.issuer.Count(stiletest.EndpointJWKS); n > 5 {
		t.Errorf("10,000 unknown key ids made %d requests for the keys, want at most the first, two turns, and one in 10 s", n)
	}
	kid := p.issuer.KeyID()
	p.flood(t, 100_000, http.StatusUnauthorized, func(i int) string {
		switch i % 8 {
		case 0: // must be verified
			return p.issuer.forge(kid, soon)
		case 1, 2:
			return p.issuer.forge(kid, past)
		case 3, 4:
			return p.issuer.forge(fmt.Sprint("other", i), soon)
		case 5:
			return fmt.Sprintf("opaque-%d", i)
		case 6:
			return strings.Replace(p.issuer.forge(kid, soon), ".", fmt.Sprintf(".%d", i), 1)
		default:
			return fmt.Sprintf("%d", i) + strings.Repeat("A", 8000)
		}
	})
	close(done)
	n := honest()
	after, peak := residentKiB(t, p.pid(), "VmRSS"), residentKiB(t, p.pid(), "VmHWM")
	t.Logf("110,000 bad tokens: %d KiB resident before, %d after, %d at most; %d requests for the keys; %d honest calls meanwhile",
		before, after, peak, p.issuer.Count(stiletest.EndpointJWKS), n)
	if peak-before > 64<<10 {
		t.Errorf("%d KiB more at the height of it, want at most 64 MiB", peak-before)
	}
	p.client.CloseIdleConnections()
	eventually(t, "the descriptors of before", func() bool { return openDescriptors(t, p.pid()) <= descriptors+4 })
}

// TestFloodOfOpaqueTokens: strangers' tokens that only the issuer can judge reach
// it 64 at a time; who cannot wait is told to come back, without a challenge;
// known tokens and signed ones are served as if nothing were.
func TestFloodOfOpaqueTokens(t *testing.T) {
	nothingLeft(t)
	// As introspect.go bounds them: under way, and with those that wait for a turn.
	const flood, asking, waiting = 3000, 64, 64 + 1024
	var under, most atomic.Int64
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	us := stiletest.ResourceServer()
	var hold atomic.Bool
	upstream := &counted{}
	idp := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{Intercept: func(e stiletest.Endpoint, w http.ResponseWriter, r *http.Request) bool {
		if e != stiletest.EndpointIntrospect || !hold.Load() {
			return false
		}
		n := under.Add(1)
		defer under.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-release
		return false
	}})
	asked, err := authenticate.NewIntrospection(authenticate.IntrospectionConfig{Issuer: idp.URL(), Audiences: []string{resource}, OpaqueOnly: true,
		URL: idp.EndpointURL(stiletest.EndpointIntrospect), ClientID: us.ID, ClientSecret: us.Secret, Timeout: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	g := newGateway(t, setup{upstream: upstream, change: func(c *stile.Config) {
		c.Servers[0].Verifiers = append(c.Servers[0].Verifiers, asked)
	}})
	opaque := func() string {
		return idp.Token(stiletest.Claims{Opaque: true, Scope: "notes:read", Audience: []string{resource}})
	}
	known, fresh := opaque(), opaque()
	g.call(t, known).wantResult(t)
	hold.Store(true)
	defer open()
	var turned, judged, limited atomic.Int64
	var wg sync.WaitGroup
	for i := range flood {
		wg.Go(func() {
			w := httptest.NewRecorder()
			r := callRequest(t, publicURL, fmt.Sprintf("stranger-%d", i), "list_notes")
			r.RemoteAddr = "192.0.2.1:1"
			g.handler.ServeHTTP(w, r)
			switch {
			case w.Code == http.StatusUnauthorized:
				judged.Add(1)
			case w.Code == http.StatusTooManyRequests && w.Header().Get("WWW-Authenticate") == "" && w.Header().Get("Retry-After") != "":
				judged.Add(1) // by the default of failed logins from one address
				limited.Add(1)
			case w.Code == http.StatusServiceUnavailable && w.Header().Get("WWW-Authenticate") == "" && w.Header().Get("Retry-After") != "":
				turned.Add(1)
			default:
				t.Errorf("a stranger got %d %s", w.Code, w.Body)
			}
		})
	}
	eventually(t, "all places taken and the rest turned away", func() bool {
		return under.Load() == asking && turned.Load() >= flood-waiting
	})
	g.call(t, known).wantResult(t)
	g.call(t, g.issuer.token(stiletest.Claims{})).wantResult(t)
	g.call(t, fresh).wantOutage(t)
	if n := turned.Load() + int64(waiting); n != flood {
		t.Errorf("%d were turned away, want all but %d", turned.Load(), waiting)
	}
	open()
	wg.Wait()
	g.call(t, fresh).wantResult(t)
	if most.Load() > asking || judged.Load() != waiting || upstream.calls.Load() != 4 {
		t.Errorf("%d at once, %d judged, %d calls upstream; want %d, %d and 4", most.Load(), judged.Load(), upstream.calls.Load(), asking, waiting)
	}
	if limited.Load() == 0 || waiting-limited.Load() < stile.DefaultFailuresPerMinute {
		t.Errorf("%d of %d judged were answered with 429, want those beyond %d a minute", limited.Load(), waiting, stile.DefaultFailuresPerMinute)
	}
	t.Logf("%d distinct opaque tokens at once: %d at the issuer, %d turned away with 503, %d of the rest with 429", flood, most.Load(), turned.Load(), limited.Load())
}
