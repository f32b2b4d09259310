package stile_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/stiletest"
)

// switchable is an upstream or a verifier that can say that it is down.
type switchable struct {
	http.Handler
	authenticate.Verifier
	err  error
	wait bool
}

func (s *switchable) Ready(ctx context.Context) error {
	if s.wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.err
}

// health asks both probes and wants the process to be alive.
func health(t *testing.T, g http.Handler) (status int, problems []string) {
	t.Helper()
	if w := do(t, g, ask{method: http.MethodGet, path: "/healthz"}); w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"status":"ok"}` {
		t.Errorf("/healthz: %d %s", w.Code, w.Body)
	}
	w := do(t, g, ask{method: http.MethodGet, path: "/readyz"})
	var answer struct {
		Status   string
		Problems []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("/readyz: %s: %v", w.Body, err)
	}
	if (answer.Status == "ok") != (w.Code == http.StatusOK) || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("/readyz: %d %s %v", w.Code, w.Body, w.Header())
	}
	return w.Code, answer.Problems
}

// What no exchange answers has a request id too: probes, documents, preflights and
// paths where nothing is.
func TestEveryAnswerHasARequestID(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool)
	page := func(a ask) ask { return a.with("Origin", publicURL) }
	seen := map[string]bool{}
	for name, a := range map[string]ask{
		"alive":              {method: http.MethodGet, path: "/healthz"},
		"ping":               {method: http.MethodGet, path: "/ping"},
		"ready":              {method: http.MethodGet, path: "/readyz"},
		"document":           page(ask{method: http.MethodGet, path: "/.well-known/oauth-protected-resource/mcp"}),
		"document, HEAD":     page(ask{method: http.MethodHead, path: "/.well-known/oauth-protected-resource/mcp"}),
		"document, PUT":      page(ask{method: http.MethodPut, path: "/.well-known/oauth-protected-resource/mcp"}),
		"document, OPTIONS":  {method: http.MethodOptions, path: "/.well-known/oauth-protected-resource/mcp"},
		"preflight":          page(ask{method: http.MethodOptions}).with("Access-Control-Request-Method", "POST"),
		"preflight of PUT":   page(ask{method: http.MethodOptions}).with("Access-Control-Request-Method", "PUT"),
		"OPTIONS":            {method: http.MethodOptions},
		"OPTIONS of another": ask{method: http.MethodOptions}.with("Origin", "https://evil.example"),
		"nowhere":            {method: http.MethodGet, path: "/nowhere"},
		"nowhere, POST":      {path: "/nowhere", body: "{}"},
		"PUT":                page(ask{method: http.MethodPut}),
		"HEAD":               page(ask{method: http.MethodHead}),
	} {
		h := do(t, f.gateway, a).Header()
		ids := h.Values("X-Request-Id")
		if len(ids) != 1 || seen[ids[0]] || ids[0] == "" {
			t.Errorf("%s: %q", name, ids)
			continue
		}
		seen[ids[0]] = true
		if (name == "PUT" || name == "HEAD" || strings.HasPrefix(name, "document, ") && name != "document, OPTIONS") && h.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%s: the page cannot read the answer: %v", name, h)
		}
	}
}

// /readyz names what is down, sorted and once, and nothing of the cause; /healthz
// stays as it is.
func TestReadiness(t *testing.T) {
	notes, other, verifier := &switchable{Handler: answerTool}, &switchable{Handler: answerTool}, &switchable{Verifier: outage{}}
	c := goodConfig(t)
	var log lockedBuffer
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	c.Servers[0].Upstream, c.Servers[0].Verifiers = notes, []authenticate.Verifier{verifier}
	second := c.Servers[0]
	second.Name, second.Path, second.Upstream = "archive", "/archive", other
	c.Servers = append(c.Servers, second)
	g, err := stile.New(c)
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("secret-host refused")
	for _, tc := range []struct {
		name            string
		notes, other, v error
		want            []string
	}{
		{"all is well", nil, nil, nil, nil},
		{"an upstream", down, nil, nil, []string{"upstream of server notes"}},
		{"both upstreams", down, down, nil, []string{"upstream of server archive", "upstream of server notes"}},
		{"the verifier of both", nil, nil, down, []string{"a verifier of server archive", "a verifier of server notes"}},
		{"well again", nil, nil, nil, nil},
	} {
		notes.err, other.err, verifier.err = tc.notes, tc.other, tc.v
		status, problems := health(t, g)
		want := http.StatusOK
		if tc.want != nil {
			want = http.StatusServiceUnavailable
		}
		if status != want || !slices.Equal(problems, tc.want) {
			t.Errorf("%s: %d %q, want %d %q", tc.name, status, problems, want, tc.want)
		}
		if strings.Contains(strings.Join(problems, " "), "secret") {
			t.Errorf("%s: tells the cause", tc.name)
		}
	}
	if !strings.Contains(log.String(), "secret-host") {
		t.Error("the log does not tell the cause")
	}
}

// A part that does not answer does not hold the probe for ever.
func TestReadinessIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, nil, func(c *stile.Config) { c.Servers[0].Upstream = &switchable{Handler: answerTool, wait: true} })
		begin := time.Now()
		status, problems := health(t, g)
		if status != http.StatusServiceUnavailable || !slices.Equal(problems, []string{"upstream of server notes"}) {
			t.Errorf("%d %q", status, problems)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// With a real issuer and a real upstream: keys that were never had, and an upstream
// that stops and comes back.
func TestReadinessOfRealParts(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool)
	f.issuer.Down(true)
	keys := "keys of issuer " + f.issuer.URL()
	if status, problems := health(t, f.gateway); status != http.StatusServiceUnavailable || !slices.Equal(problems, []string{keys}) {
		t.Errorf("issuer down: %d %q", status, problems)
	}
	other := newFixture(t, notesPolicy, answerTool)
	if status, problems := health(t, other.gateway); status != http.StatusOK {
		t.Errorf("all is well: %d %q", status, problems)
	}
	// Keys that were had once are good while the issuer is away.
	other.issuer.Down(true)
	if status, problems := health(t, other.gateway); status != http.StatusOK {
		t.Errorf("issuer down later: %d %q", status, problems)
	}

	server := httptest.NewServer(stiletest.NewScripted(nil))
	gone := newFixture(t, notesPolicy, answerTool, direct(forwardTo(t, server.URL)))
	server.Close()
	if status, problems := health(t, gone.gateway); status != http.StatusServiceUnavailable || !slices.Equal(problems, []string{"upstream of server notes"}) {
		t.Errorf("upstream gone: %d %q", status, problems)
	}
}

// The probes answer without a token, by GET and HEAD, on any host name: what asks
// is a machine beside this one.
func TestProbesAreOpen(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool)
	for _, path := range []string{"/healthz", "/readyz"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := ask{method: method, path: path}.request(t, publicURL)
			r.Host = "10.1.2.3:8080"
			w := httptest.NewRecorder()
			f.gateway.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}
