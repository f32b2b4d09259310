package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

const (
	era2025 = "2025-11-25"
	era2026 = "2026-07-28"
)

// notesPolicy has one rule for each kind of operation. Reading one note takes a
// scope of its own, made from the variable of the URI template.
const notesPolicy = `
baseline: notes:read
implies:
  notes:write: [notes:read]
rules:
  - tools: [list_notes]
    scopes: notes:read
  - tools: [create_note]
    scopes: notes:write
  - resources: ["note://index"]
    scopes: "notes:read notes:index"
  - resources: ["note://{id}"]
    when: uri != "note://index"
    scopes: "notes:read notes:item:{id}"
  - prompts: [summarise]
    scopes: "notes:read notes:summarise"
`

// notesScopes is what the issuer knows for the notes server.
const notesScopes = "SCOPES=notes:* notes:item:*"

// operations are the kinds of operation that a policy covers.
var operations = []operation{
	{kind: "tool", method: "tools/call", asks: "notes:read notes:write",
		target: target{Name: "create_note", Arguments: map[string]string{"title": "buy milk"}}},
	{kind: "resource", method: "resources/read", asks: "notes:read notes:index",
		target: target{URI: "note://index"}},
	{kind: "template", method: "resources/read", asks: "notes:read notes:item:1",
		target: target{URI: "note://1"}},
	{kind: "prompt", method: "prompts/get", asks: "notes:read notes:summarise",
		target: target{Name: "summarise", Arguments: map[string]string{"id": "1"}}},
}

// TestClientsStepUp drives every client that accumulates scopes, in both eras,
// through every kind of operation: the first login asks for the baseline only,
// there is one 403 and one login for the union, and the call that is sent again
// succeeds on the same session.
func TestClientsStepUp(t *testing.T) {
	clients := []struct {
		name string
		flow flow
	}{
		{"@modelcontextprotocol/client 2.4.0", nodeFlow("client-ts/flow.mjs")},
		{"go-sdk v1.8.0", goFlow},
	}
	as := startIssuer(t, notesScopes)
	table := newTable("client", "era", "operation", "first login", "challenges", "second login", "call", "session")
	for _, client := range clients {
		for _, era := range []string{era2025, era2026} {
			for _, op := range operations {
				t.Run(client.name+"/"+era+"/"+op.kind, func(t *testing.T) {
					row := stepUp(t, as, "", client.flow, era, op)
					table.add(append([]string{client.name, era, op.method + " (" + op.kind + ")"}, row...)...)
				})
			}
		}
	}
	table.publish(t, "clients.md")
}

// stepUp drives one client through one operation and answers its row. asking is
// how Stile asks the issuer about tokens; empty where they are JSON Web Tokens.
func stepUp(t *testing.T, as *issuer, asking string, client flow, era string, op operation) []string {
	t.Helper()
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, issuer: as.url, asking: asking, policy: notesPolicy})
	before := as.log(t)
	r := client(t, g.endpoint, era, op)
	log := as.since(t, before)
	if !r.OK {
		t.Errorf("flow failed: %s", r.Error)
	}
	checkLogins(t, log.Authorizations, g.endpoint, op)
	checkExchanges(t, r, era, op)
	checkSession(t, r, era)
	checkUpstream(t, notes, op)
	if t.Failed() {
		t.Logf("exchanges:\n%s\nstile:\n%s", r, g.program.stderr)
	}
	return r.row(log.Authorizations, era)
}

// checkLogins wants a login for the baseline and one for the union, both for
// the endpoint's own resource.
func checkLogins(t *testing.T, logins []authorization, endpoint string, op operation) {
	t.Helper()
	checkLoginsFrom(t, "notes:read", logins, endpoint, op)
}

func checkLoginsFrom(t *testing.T, baseline string, logins []authorization, endpoint string, op operation) {
	t.Helper()
	wanted := []string{baseline, op.asks}
	if len(logins) != len(wanted) {
		t.Errorf("%d logins %v, want %d", len(logins), logins, len(wanted))
		return
	}
	for i, login := range logins {
		if login.Outcome != "granted" || login.Resource != endpoint || login.Challenge != "S256" {
			t.Errorf("login %d: %+v, want granted with S256 for %s", i, login, endpoint)
		}
		if !sameScopes(login.Scope, wanted[i]) {
			t.Errorf("login %d asked for %q, want %q", i, login.Scope, wanted[i])
		}
	}
}

// checkExchanges wants one 401 on the opening request, one 403 on the operation
// and the same operation once more, answered 200.
func checkExchanges(t *testing.T, r *report, era string, op operation) {
	t.Helper()
	opening := map[string]string{era2025: "initialize", era2026: "server/discover"}[era]
	if got := r.withStatus(401); len(got) != 1 || got[0].RPC != opening {
		t.Errorf("401 answers: %v, want one to %s", got, opening)
	}
	if got := r.withStatus(403); len(got) != 1 || got[0].RPC != op.method {
		t.Errorf("403 answers: %v, want one to %s", got, op.method)
	}
	var statuses []int
	for _, e := range r.Exchanges {
		if e.RPC != op.method {
			continue
		}
		statuses = append(statuses, e.Status)
		if e.Version != era {
			t.Errorf("%s was sent with MCP-Protocol-Version %q, want %q", op.method, e.Version, era)
		}
	}
	if !slices.Equal(statuses, []int{403, 200}) {
		t.Errorf("answers to %s: %v, want 403 and 200", op.method, statuses)
	}
}

// checkSession wants the session to go on through the step-up where there are
// sessions, and none where there are not.
func checkSession(t *testing.T, r *report, era string) {
	t.Helper()
	if r.SessionBefore != r.SessionAfter {
		t.Errorf("session %q became %q", r.SessionBefore, r.SessionAfter)
	}
	if (r.SessionAfter != "") != (era == era2025) {
		t.Errorf("session %q in %s", r.SessionAfter, era)
	}
}

// checkUpstream wants the operation to have reached the upstream once, and no
// credential of the caller at all.
func checkUpstream(t *testing.T, notes *stiletest.Notes, op operation) {
	t.Helper()
	if got := notes.Served(op.method); got != 1 {
		t.Errorf("%s reached the upstream %d times, want once", op.method, got)
	}
	if notes.Saw("Authorization") {
		t.Error("the upstream was sent an Authorization header")
	}
}

// row is what the table tells about a flow.
func (r *report) row(logins []authorization, era string) []string {
	asked := make([]string, 2)
	for i := range min(len(logins), len(asked)) {
		asked[i] = "`" + sorted(logins[i].Scope) + "`"
	}
	session := "none"
	if era == era2025 {
		session = "another"
		if r.SessionBefore == r.SessionAfter {
			session = "the same"
		}
	}
	call := "failed"
	if r.OK {
		call = "succeeded"
	}
	return []string{asked[0], fmt.Sprintf("%d × 403", len(r.withStatus(403))), asked[1], call, session}
}

// String is the flow as a person would tell it, for failures.
func (r *report) String() string {
	var b strings.Builder
	for _, e := range r.Exchanges {
		fmt.Fprintf(&b, "%s %s %s%s → %d %s\n", e.Method, e.Path, e.RPC, e.Grant, e.Status, e.WWWAuthenticate)
	}
	return b.String()
}

func (e *exchange) String() string { return fmt.Sprintf("%s %s", e.Method, e.RPC) }

func sameScopes(a, b string) bool { return sorted(a) == sorted(b) }

// sorted is a scope in an order that does not depend on the client.
func sorted(scope string) string {
	names := strings.Fields(scope)
	slices.Sort(names)
	return strings.Join(names, " ")
}

// table is a Markdown table of results.
type table struct {
	lines []string
}

func newTable(columns ...string) *table {
	t := &table{}
	t.add(columns...)
	t.lines = append(t.lines, strings.Repeat("|---", len(columns))+"|")
	return t
}

func (tb *table) add(cells ...string) {
	tb.lines = append(tb.lines, "| "+strings.Join(cells, " | ")+" |")
}

// publish logs the table and, where INTEROP_RESULTS names a folder, writes it
// there.
func (tb *table) publish(t *testing.T, name string) {
	t.Helper()
	text := strings.Join(tb.lines, "\n") + "\n"
	t.Log("\n" + text)
	folder := os.Getenv("INTEROP_RESULTS")
	if folder == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}
