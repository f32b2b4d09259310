package stile_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

// forwardTo is a forwarder to a URL.
func forwardTo(t testing.TB, url string) http.Handler {
	t.Helper()
	proxy, err := forward.NewHTTP(forward.HTTPConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy
}

// initialize opens a session as a client does, and returns its id.
func initialize(t testing.TB, h http.Handler, token string) string {
	t.Helper()
	id := begin(t, h, token)
	w := do(t, h, ask{token: token, body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`}.
		with("Accept", "application/json, text/event-stream").with("MCP-Protocol-Version", era2025).inSession(id))
	if w.Code != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %d: %s", w.Code, w.Body)
	}
	return id
}

// inSession adds a session id, where there is one.
func (a ask) inSession(id string) ask {
	if id == "" {
		return a
	}
	return a.with("Mcp-Session-Id", id)
}

// numbered is an upstream that gives out the session ids upstream-1, upstream-2
// and so on, on initialize, and repeats what it is sent.
func numbered() http.HandlerFunc {
	var last atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Session-Id") == "" && r.Method == http.MethodPost {
			w.Header().Set("Mcp-Session-Id", fmt.Sprintf("upstream-%d", last.Add(1)))
		}
		answerTool(w, r)
	}
}

// lastSession is the session id of the last request that reached the upstream.
func (f *fixture) lastSession() string {
	all := f.upstream.Recorded()
	return strings.Join(all[len(all)-1].Header.Values("Mcp-Session-Id"), ",")
}

// The client never sees the upstream's id and the upstream never ours.
func TestSessionIDsAreSealed(t *testing.T) {
	f := newFixture(t, notesPolicy, numbered())
	token := f.token("notes:read")
	seen := map[string]string{}
	for n := 1; n <= 3; n++ {
		id := begin(t, f.gateway, token)
		if strings.Contains(id, "upstream") || len(id) < 60 {
			t.Errorf("id %q", id)
		}
		seen[fmt.Sprintf("upstream-%d", n)] = id
	}
	for upstream, id := range seen {
		for _, a := range []ask{
			tool(era2025, token, "list_notes", `{}`).inSession(id),
			stream(token).inSession(id),
			{method: http.MethodDelete, token: token, header: http.Header{"Mcp-Session-Id": {id}}},
		} {
			w := do(t, f.gateway, a)
			if w.Code != http.StatusOK || f.lastSession() != upstream {
				t.Errorf("%s: %d, the upstream saw the session %q, want %q", a.method, w.Code, f.lastSession(), upstream)
			}
			if got := fmt.Sprint(w.Header(), w.Body); strings.Contains(got, "upstream-") {
				t.Errorf("the client sees the upstream's id: %s", got)
			}
		}
	}
}

// begin sends initialize and returns the session's id as the client sees it.
func begin(t testing.TB, h http.Handler, token string) string {
	t.Helper()
	w := do(t, h, rpc(era2025, token, "initialize", `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}`))
	id := w.Header().Get("Mcp-Session-Id")
	if w.Code != http.StatusOK || id == "" {
		t.Fatalf("initialize: %d, session %q: %s", w.Code, id, w.Body)
	}
	return id
}

// Only the answer to initialize begins a session: an id that an upstream puts
// elsewhere is not passed on, in either era, unless it is that of the request.
func TestSessionBeginsWithInitializeOnly(t *testing.T) {
	upstreamID := "stray"
	f := newFixture(t, notesPolicy, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Mcp-Session-Id", upstreamID)
		answerTool(w, r)
	})
	token := f.token("notes:read")
	id := begin(t, f.gateway, token)
	if got := do(t, f.gateway, tool(era2025, token, "list_notes", `{}`).inSession(id)).Header().Get("Mcp-Session-Id"); got != id {
		t.Errorf("the upstream repeats the session, the client sees %q, want %q", got, id)
	}
	upstreamID = "another"
	for name, a := range map[string]ask{
		"call in the session":      tool(era2025, token, "list_notes", `{}`).inSession(id),
		"call without a session":   tool(era2025, token, "list_notes", `{}`),
		"stream":                   stream(token).inSession(id),
		"call of 2026":             tool(era2026, token, "list_notes", `{}`),
		"server/discover of 2026":  rpc(era2026, token, "server/discover", ""),
		"call of 2026 with its id": tool(era2026, token, "list_notes", `{}`).inSession(id),
	} {
		w := do(t, f.gateway, a)
		if got := w.Header().Values("Mcp-Session-Id"); w.Code != http.StatusOK || len(got) > 0 {
			t.Errorf("%s: %d, session %q", name, w.Code, got)
		}
	}
}

// 2026-07-28 knows no sessions: the header is not read, whatever it says, and not
// sent on (REQ-23).
func TestModernRequestsHaveNoSession(t *testing.T) {
	f := newFixture(t, notesPolicy, numbered())
	token := f.token("notes:read")
	bobs := begin(t, f.gateway, f.mint(stiletest.Claims{Subject: "bob", Scope: "notes:read"}))
	for _, id := range []string{"made up", bobs} {
		w := do(t, f.gateway, tool(era2026, token, "list_notes", `{}`).inSession(id).with("Mcp-Session-Id", "twice"))
		if w.Code != http.StatusOK || f.lastSession() != "" {
			t.Errorf("session %q: %d, the upstream saw %q: %s", id, w.Code, f.lastSession(), w.Body)
		}
	}
}

// A session of one endpoint is none at another, though the key is the same.
func TestSessionOfAnotherEndpoint(t *testing.T) {
	f := newFixture(t, notesPolicy, numbered(), func(c *stile.Config) {
		other := c.Servers[0]
		other.Name, other.Path = "other", "/other"
		c.Servers = append(c.Servers, other)
	})
	token := f.token("notes:read") // the verifier of both takes it
	id := begin(t, f.gateway, token)
	before := f.reached()
	for _, a := range []ask{
		tool(era2025, token, "list_notes", `{}`), stream(token), {method: http.MethodDelete, token: token},
	} {
		a.path = "/other"
		want := "null"
		if a.body != "" {
			want = "7"
		}
		w := do(t, f.gateway, a.inSession(id))
		checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusNotFound, want)
	}
	if f.reached() != before {
		t.Error("a request reached the upstream")
	}
}

// A session ends SessionMaxAge after it began, whatever is done with it.
func TestSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, numbered(), func(c *stile.Config) { c.SessionMaxAge = time.Hour })
		id := begin(t, g, "r.0")
		for _, tc := range []struct {
			pause time.Duration
			want  int
		}{{30 * time.Minute, 200}, {30*time.Minute - time.Second, 200}, {time.Second, 404}, {24 * time.Hour, 404}} {
			time.Sleep(tc.pause)
			w := do(t, g, tool(era2025, "r.0", "list_notes", `{}`).inSession(id))
			if w.Code != tc.want {
				t.Errorf("%d, want %d: %s", w.Code, tc.want, w.Body)
			}
		}
	})
}

// Keys rotate without ending sessions: the first seals, all open. A gateway with
// other keys, such as the same one after a restart without any, knows none.
func TestSessionKeysRotate(t *testing.T) {
	key := func(c byte) []byte { return []byte(strings.Repeat(string(c), 32)) }
	f := newFixture(t, notesPolicy, numbered())
	token := f.token("notes:read")
	with := func(keys ...[]byte) *stile.Gateway {
		c := f.config
		c.SessionKeys = keys
		g, err := stile.New(c)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	ids := map[string]string{
		"old":  begin(t, with(key('o')), token),
		"both": begin(t, with(key('n'), key('o')), token),
		"new":  begin(t, with(key('n')), token),
		"none": begin(t, with(), token),
	}
	for _, tc := range []struct {
		name  string
		keys  [][]byte
		opens string
	}{
		{"old", [][]byte{key('o')}, "old"},
		{"new before old", [][]byte{key('n'), key('o')}, "old both new"},
		{"new", [][]byte{key('n')}, "both new"},
		{"none", nil, ""},
	} {
		g := with(tc.keys...)
		for made, id := range ids {
			want := http.StatusNotFound
			if slices.Contains(strings.Fields(tc.opens), made) {
				want = http.StatusOK
			}
			if w := do(t, g, tool(era2025, token, "list_notes", `{}`).inSession(id)); w.Code != want {
				t.Errorf("keys %s, session made with %s: %d, want %d", tc.name, made, w.Code, want)
			}
		}
	}
}

// An upstream's id that cannot be sealed is not passed on in the clear.
func TestSessionIDTooLong(t *testing.T) {
	f := newFixture(t, notesPolicy, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Mcp-Session-Id", strings.Repeat("u", 10_000))
		answerTool(w, r)
	})
	w := do(t, f.gateway, rpc(era2025, f.token("notes:read"), "initialize", `"protocolVersion":"2025-11-25"`))
	if got := w.Header().Get("Mcp-Session-Id"); got != "" {
		t.Errorf("session of %d bytes", len(got))
	}
	if !strings.Contains(f.log.String(), "session id not sealed") {
		t.Errorf("the log says nothing: %s", f.log)
	}
}

// A session opened without a token belongs to nobody: with a token its id is
// unknown, and the other way round it is a 401 (DES-41).
func TestAnonymousSession(t *testing.T) {
	f := newFixture(t, anonymousPolicy, numbered())
	token := f.token("notes:read")
	nobodys, alices := begin(t, f.gateway, ""), begin(t, f.gateway, token)
	for _, tc := range []struct {
		name, token, id, tool string
		want                  int
	}{
		{"nobody in nobody's", "", nobodys, "ping", http.StatusOK},
		{"alice in nobody's", token, nobodys, "ping", http.StatusNotFound},
		{"nobody in alice's", "", alices, "ping", http.StatusNotFound},
		{"alice in her own", token, alices, "ping", http.StatusOK},
		{"nobody calls more", "", nobodys, "list_notes", http.StatusUnauthorized},
	} {
		if w := do(t, f.gateway, tool(era2025, tc.token, tc.tool, `{}`).inSession(tc.id)); w.Code != tc.want {
			t.Errorf("%s: %d, want %d: %s", tc.name, w.Code, tc.want, w.Body)
		}
	}
}
