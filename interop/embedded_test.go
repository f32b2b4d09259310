package interop_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// allower is somebody with an account at the embedded authorization server, who
// allows what every program asks for, on its pages.
type allower struct {
	mu     sync.Mutex // guards all
	reader *reader
	asked  []string // the scopes of each request
	shown  []string // each consent page
}

// visit answers an authorization request, as the browser of a go-sdk client does.
func (a *allower) visit(_ context.Context, authorizationURL string) (url.Values, error) {
	back, err := url.Parse(a.allow(authorizationURL))
	if err != nil {
		return nil, err
	}
	return back.Query(), nil
}

func (a *allower) allow(authorizationURL string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u, err := url.Parse(authorizationURL); err == nil {
		a.asked = append(a.asked, u.Query().Get("scope"))
	}
	a.reader.open(authorizationURL)
	a.shown = append(a.shown, a.reader.page)
	return a.reader.answer(authorizationURL)
}

// listen lets Node programs ask, and returns where.
func (a *allower) listen(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, a.allow(string(address)))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestClientsStepUpAtTheEmbeddedServer drives every client through every kind of
// operation, with no other authorization server than Stile's own and somebody who
// signs in and consents on its pages. The first version of the TypeScript SDK, which
// refreshes rather than asks, steps up too, whether its host lets it drop tokens or
// not (DES-34 ii, decision 15).
func TestClientsStepUpAtTheEmbeddedServer(t *testing.T) {
	table := newTable("client", "era", "operation", "first login", "challenges", "second login", "call", "session")
	for _, client := range []struct {
		name string
		eras []string
		flow func(t *testing.T, a *allower) flow
	}{
		{"@modelcontextprotocol/client 2.4.0", []string{era2025, era2026}, func(t *testing.T, a *allower) flow {
			return nodeFlow("client-ts/flow.mjs", "PERSON="+a.listen(t))
		}},
		{"@modelcontextprotocol/sdk 1.32.2", []string{era2025}, func(t *testing.T, a *allower) flow {
			return nodeFlow("client-v1/flow.mjs", "PERSON="+a.listen(t))
		}},
		{"@modelcontextprotocol/sdk 1.32.2, invalidating", []string{era2025}, func(t *testing.T, a *allower) flow {
			return nodeFlow("client-v1/flow.mjs", "PERSON="+a.listen(t), "INVALIDATE=1")
		}},
		{"go-sdk v1.8.0", []string{era2025, era2026}, func(_ *testing.T, a *allower) flow { return goFlowOf(a.visit) }},
		{"stepup.Transport", []string{era2025, era2026}, func(_ *testing.T, a *allower) flow { return stepUpFlow(a.visit) }},
	} {
		for _, era := range client.eras {
			for _, op := range operations {
				t.Run(client.name+"/"+era+"/"+op.kind, func(t *testing.T) {
					row := stepUpEmbedded(t, client.flow, era, op)
					table.add(append([]string{client.name, era, op.method + " (" + op.kind + ")"}, row...)...)
				})
			}
		}
	}
	table.publish(t, "embedded.md")
}

func stepUpEmbedded(t *testing.T, client func(*testing.T, *allower) flow, era string, op operation) []string {
	t.Helper()
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, policy: notesPolicy})
	a := &allower{reader: newReader(t)}
	a.reader.makeAccount(g.program.line("/authserver/setup?token="))
	r := client(t, a)(t, g.endpoint, era, op)
	if !r.OK {
		t.Errorf("flow failed: %s", r.Error)
	}
	var logins []authorization
	for i, scopes := range a.asked {
		logins = append(logins, authorization{Scope: scopes})
		if want := []string{"notes:read", op.asks}; i >= len(want) || !sameScopes(scopes, want[i]) {
			t.Errorf("login %d asked for %q", i, scopes)
		}
	}
	if len(a.asked) != 2 || !strings.Contains(a.shown[len(a.shown)-1], slices.Max(strings.Fields(op.asks))) {
		t.Errorf("%d logins, want 2, the second for %s", len(a.asked), op.asks)
	}
	checkExchanges(t, r, era, op)
	checkSession(t, r, era)
	checkUpstream(t, notes, op)
	if t.Failed() {
		t.Logf("exchanges:\n%s\nstile:\n%s", r, g.program.stderr)
	}
	return r.row(logins, era)
}
