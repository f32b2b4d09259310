package stile_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

// The tests in this file prove rows of docs/spec.md and docs/features.md that no
// transcript shows.

// TestClaimRootMetadata: the root form of the document is there when asked for,
// the same as the path-inserted one, and only for a single server (DES-30).
func TestClaimRootMetadata(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) { c.RootMetadata = true })
	inserted := f.ask("GET", "/.well-known/oauth-protected-resource/mcp", "", "")
	root := f.ask("GET", "/.well-known/oauth-protected-resource", "", "")
	if root.Code != http.StatusOK || root.Body.String() != inserted.Body.String() || root.Body.Len() == 0 {
		t.Errorf("root form: %d %s, want %s", root.Code, root.Body, inserted.Body)
	}
	c := f.config
	second := c.Servers[0]
	second.Name, second.Path = "other", "/other"
	c.Servers = append(slices.Clone(c.Servers), second)
	if _, err := stile.New(c); err == nil || !strings.Contains(err.Error(), "root_metadata") {
		t.Errorf("with two servers: %v, want a mistake at root_metadata", err)
	}
}

// TestClaimTwoServers: two servers in one process have each its own path, policy,
// metadata and audience.
func TestClaimTwoServers(t *testing.T) {
	other := stiletest.NewScripted(stiletest.AnswerJSON(http.StatusOK, `{"jsonrpc":"2.0","id":1,"result":{}}`))
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) {
		second := c.Servers[0]
		second.Name, second.Path, second.Upstream = "other", "/other", other
		second.Policy = compile(t, "baseline: other\nrules:\n  - tools: [delete_note]\n    scopes: other")
		c.Servers = append(c.Servers, second)
	})
	if w := f.ask("POST", "/mcp", f.token("other"), deleteNote); w.Code != http.StatusForbidden {
		t.Errorf("/mcp with the scope of /other: %d, want 403", w.Code)
	}
	if w := f.ask("POST", "/other", f.token("other"), deleteNote); w.Code != http.StatusOK {
		t.Errorf("/other: %d %s", w.Code, w.Body)
	}
	if n, m := f.notes.Calls("delete_note"), len(other.Recorded()); n != 0 || m != 1 {
		t.Errorf("the servers saw %d and %d calls, want 0 and 1", n, m)
	}
	if w := f.ask("POST", "/other", "", deleteNote); !strings.Contains(w.Header().Get("WWW-Authenticate"),
		`resource_metadata="`+publicURL+`/.well-known/oauth-protected-resource/other", scope="other"`) {
		t.Errorf("401 of /other: %s", w.Header().Get("WWW-Authenticate"))
	}
}

// TestClaimExpiredBeforeNarrow: a token that is both expired and too narrow is
// expired; only a valid one is asked for more.
func TestClaimExpiredBeforeNarrow(t *testing.T) {
	f := newFixture(t, notesPolicy, nil)
	hourAgo := time.Now().Add(-time.Hour)
	for want, expiry := range map[int]time.Time{
		http.StatusUnauthorized: hourAgo.Add(time.Minute),
		http.StatusForbidden:    time.Now().Add(time.Minute),
	} {
		token := f.issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{resource}, IssuedAt: hourAgo, Expiry: expiry})
		w := f.ask("POST", "/mcp", token, deleteNote)
		if w.Code != want || strings.Contains(w.Header().Get("WWW-Authenticate"), "insufficient_scope") != (want == http.StatusForbidden) {
			t.Errorf("expiry %v: %d %s, want %d", expiry, w.Code, w.Header().Get("WWW-Authenticate"), want)
		}
	}
}

// claimRecord is what these tests read of an audit line.
type claimRecord struct {
	RequestID string `json:"request_id"`
	Server, Outcome, Issuer, Subject,
	Method, Name string
	Status                       int
	Needed, Held, Missing, Rules []string
	ElevatedFrom                 string `json:"elevated_from"`
}

// claimRecords decodes the audit log.
func claimRecords(t *testing.T, f *fixture) []claimRecord {
	t.Helper()
	var all []claimRecord
	for line := range strings.Lines(f.audit.String()) {
		var r claimRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

// TestClaimAudit: a refusal and the step-up after it are two records that say who,
// what, needed, held and by which rule, with the id that the client was told; the
// second tells what was held before (DES-46). Neither has the token.
func TestClaimAudit(t *testing.T) {
	f := newFixture(t, notesPolicy, nil)
	narrow, wide := f.token("notes:read"), f.token("notes:read notes:write")
	refused := f.ask("POST", "/mcp", narrow, deleteNote)
	f.ask("POST", "/mcp", wide, deleteNote)
	records := claimRecords(t, f)
	if len(records) != 2 {
		t.Fatalf("%d records, want 2:\n%s", len(records), f.audit)
	}
	first, second := records[0], records[1]
	if first.RequestID == "" || first.RequestID != refused.Header().Get("X-Request-Id") || first.RequestID == second.RequestID {
		t.Errorf("request ids %q and %q, the client was told %q", first.RequestID, second.RequestID, refused.Header().Get("X-Request-Id"))
	}
	if first.Outcome != "challenge" || first.Status != http.StatusForbidden || second.Outcome != "allow" {
		t.Errorf("outcomes %s (%d) and %s", first.Outcome, first.Status, second.Outcome)
	}
	for _, r := range records {
		if r.Server != "notes" || r.Issuer != f.issuer.URL() || r.Subject != "alice" || r.Method != "tools/call" || r.Name != "delete_note" {
			t.Errorf("who and what: %+v", r)
		}
		if !slices.Equal(r.Needed, []string{"notes:read", "notes:write"}) || !slices.Equal(r.Rules, []string{"rules[1]"}) {
			t.Errorf("needed %v by %v", r.Needed, r.Rules)
		}
	}
	if !slices.Equal(first.Held, []string{"notes:read"}) || !slices.Equal(first.Missing, []string{"notes:write"}) || second.ElevatedFrom != "notes:read" {
		t.Errorf("held %v, missing %v, elevated from %q", first.Held, first.Missing, second.ElevatedFrom)
	}
	for _, token := range []string{narrow, wide} {
		if strings.Contains(f.audit.String(), token) {
			t.Error("the audit log has a token in it")
		}
	}
}

// fullDisk is an audit log that cannot be written.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestClaimNoRecordNoCall: without an audit record there is no call, and what the
// client is told says nothing of the cause.
func TestClaimNoRecordNoCall(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) { c.Audit = fullDisk{} })
	w := f.ask("POST", "/mcp", f.token("notes:read notes:write"), deleteNote)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "space") {
		t.Errorf("%d %s, want an opaque 500", w.Code, w.Body)
	}
	if f.notes.Calls("delete_note") != 0 {
		t.Error("the call reached the server")
	}
}

// TestClaimPolicyErrorDenies: a condition that cannot be evaluated is a 500 whose
// cause only the log tells, and nothing reaches the server (DES-26).
func TestClaimPolicyErrorDenies(t *testing.T) {
	f := newFixture(t, "baseline: notes:read\nrules:\n  - tools: [delete_note]\n    when: args.id > 3\n    scopes: notes:read", nil)
	w := f.ask("POST", "/mcp", f.token("notes:read"), deleteNote)
	if w.Code != http.StatusInternalServerError || w.Header().Get("WWW-Authenticate") != "" || strings.Contains(w.Body.String(), "args") {
		t.Errorf("%d %s, want an opaque 500 without a challenge", w.Code, w.Body)
	}
	if r := claimRecords(t, f); len(r) != 1 || r[0].Outcome != "fail" {
		t.Errorf("records %+v, want one that failed", r)
	}
	if f.notes.Calls("delete_note") != 0 {
		t.Error("the call reached the server")
	}
}

// TestClaimIssuerDown: while an issuer's keys have never been had, tokens meet 503
// with Retry-After and no challenge, and readiness says whose; liveness does not
// care (DES-26).
func TestClaimIssuerDown(t *testing.T) {
	f := newFixture(t, notesPolicy, nil)
	f.issuer.Down(true)
	w := f.ask("POST", "/mcp", f.token("notes:read notes:write"), deleteNote)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("%d %v, want 503 with Retry-After and no challenge", w.Code, w.Header())
	}
	checkProbes(t, f, http.StatusServiceUnavailable, "keys of issuer "+f.issuer.URL())
}

// TestClaimUpstreamDown: a server that refuses connections is a 502 and not ready.
func TestClaimUpstreamDown(t *testing.T) {
	const gone = "http://127.0.0.1:1" // the port of a server that was closed may be another test's by now
	f := newFixture(t, notesPolicy, nil, func(c *stile.Config) { c.Servers[0].Upstream = claimForwarder(t, gone) })
	if w := f.ask("POST", "/mcp", f.token("notes:read notes:write"), deleteNote); w.Code != http.StatusBadGateway {
		t.Errorf("%d %s, want 502", w.Code, w.Body)
	}
	checkProbes(t, f, http.StatusServiceUnavailable, "upstream of server notes")
}

// checkProbes wants readiness to say what is missing and liveness to be fine.
func checkProbes(t *testing.T, f *fixture, status int, problem string) {
	t.Helper()
	if w := f.ask("GET", "/readyz", "", ""); w.Code != status || !strings.Contains(w.Body.String(), problem) {
		t.Errorf("/readyz: %d %s, want %d with %q", w.Code, w.Body, status, problem)
	}
	if w := f.ask("GET", "/healthz", "", ""); w.Code != http.StatusOK {
		t.Errorf("/healthz: %d", w.Code)
	}
}

func claimForwarder(t *testing.T, url string) http.Handler {
	t.Helper()
	proxy, err := forward.NewHTTP(forward.HTTPConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy
}
