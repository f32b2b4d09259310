package interop_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// clientV1 is the first version of the TypeScript SDK. It speaks the 2025
// revisions, overwrites its scopes with those of the challenge, and refreshes a
// token rather than asking for more where it can.
var clientV1 = nodeFlow("client-v1/flow.mjs")

// TestClientV1StepsUp: without a refresh token it goes the whole way, because
// the challenge is the union of what is needed and what is held.
func TestClientV1StepsUp(t *testing.T) {
	as := startIssuer(t, notesScopes)
	for _, op := range operations {
		t.Run(op.kind, func(t *testing.T) { stepUp(t, as, "", clientV1, era2025, op) })
	}
}

// TestClientV1RefreshTrap: with a refresh token it refreshes, gets the same
// scopes, and ends after the second challenge because that is byte for byte the
// first.
func TestClientV1RefreshTrap(t *testing.T) {
	as := startIssuer(t, notesScopes, "REFRESH=1")
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{
		upstream: notes.URL, issuer: as.url, policy: notesPolicy, options: "refusal_window: off",
	})
	r := clientV1(t, g.endpoint, era2025, operations[0])
	if r.OK || !strings.Contains(r.Error, "403 after trying upscoping") {
		t.Errorf("ended with ok %v, error %q; want the client's own loop guard", r.OK, r.Error)
	}
	refused := r.withStatus(403)
	if len(refused) != 2 {
		t.Fatalf("%d answers 403, want 2\n%s", len(refused), r)
	}
	if refused[0].WWWAuthenticate != refused[1].WWWAuthenticate {
		t.Errorf("the challenge changed:\n%s\n%s", refused[0].WWWAuthenticate, refused[1].WWWAuthenticate)
	}
	log := as.log(t)
	if got := grants(log); !slices.Equal(got, []string{"authorization_code", "refresh_token"}) {
		t.Errorf("token requests %v, want a login and a refresh", got)
	}
	if got := notes.Served("tools/call"); got != 0 {
		t.Errorf("the refused call reached the upstream %d times", got)
	}
}

// TestClientV1RefreshTrapTold: where the refresh takes its time, the newer token
// that still lacks the scope is told so in the result (DES-28), which is what a
// person gets to read.
func TestClientV1RefreshTrapTold(t *testing.T) {
	as := startIssuer(t, notesScopes, "REFRESH=1", "PAUSE=2")
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, issuer: as.url, policy: notesPolicy})
	r := clientV1(t, g.endpoint, era2025, operations[0])
	checkTold(t, r, "notes:write")
	if got := grants(as.log(t)); !slices.Equal(got, []string{"authorization_code", "refresh_token"}) {
		t.Errorf("token requests %v, want a login and a refresh", got)
	}
}

// TestConsentToLess: alice logs in again but does not consent to the scope that
// was asked. No client may send her to log in for a third time.
func TestConsentToLess(t *testing.T) {
	as := startIssuer(t, notesScopes, "DENY=notes:write", "PAUSE=2")
	for _, era := range []string{era2025, era2026} {
		t.Run("client-ts/"+era, func(t *testing.T) {
			r, logins := consentToLess(t, as, nodeFlow("client-ts/flow.mjs"), era)
			if len(logins) != 2 {
				t.Errorf("%d logins, want 2\n%s", len(logins), r)
			}
			checkTold(t, r, "notes:write")
		})
		// The go-sdk registers a new client for every login, so that what is
		// remembered for the first does not count for the second; it sends a call
		// twice at most.
		t.Run("go-sdk/"+era, func(t *testing.T) {
			r, logins := consentToLess(t, as, goFlow, era)
			if len(logins) != 2 || r.OK || len(r.withStatus(403)) != 2 {
				t.Errorf("%d logins, ok %v; want 2 logins and the second refusal\n%s", len(logins), r.OK, r)
			}
		})
	}
}

func consentToLess(t *testing.T, as *issuer, client flow, era string) (*report, []authorization) {
	t.Helper()
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, issuer: as.url, policy: notesPolicy})
	before := as.log(t)
	r := client(t, g.endpoint, era, operations[0])
	if got := notes.Served("tools/call"); got != 0 {
		t.Errorf("the refused call reached the upstream %d times", got)
	}
	return r, as.since(t, before).Authorizations
}

// checkTold wants one challenge and then a result that says which scope lacks.
func checkTold(t *testing.T, r *report, scope string) {
	t.Helper()
	var result struct {
		IsError bool
		Content []struct{ Text string }
	}
	if err := json.Unmarshal(r.Result, &result); err != nil || !r.OK {
		t.Fatalf("no result: ok %v, error %q, %v\n%s", r.OK, r.Error, err, r)
	}
	if got := len(r.withStatus(403)); got != 1 {
		t.Errorf("%d answers 403, want 1\n%s", got, r)
	}
	if !result.IsError || len(result.Content) == 0 || !strings.Contains(result.Content[0].Text, scope) {
		t.Errorf("result %s, want an error that names %s", r.Result, scope)
	}
}

// TestRegisteredScopeIsACeiling shows why oidc/server.mjs drops the scope of a
// registration: the TypeScript clients register with that of the first
// challenge, and oidc-provider refuses to go beyond it ever after.
func TestRegisteredScopeIsACeiling(t *testing.T) {
	as := startIssuer(t, "SCOPES=notes:read notes:write", "CEILING=1")
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	g := startStile(t, stileConfig{upstream: notes.URL, issuer: as.url, policy: notesPolicy})
	r := nodeFlow("client-ts/flow.mjs")(t, g.endpoint, era2025, operations[0])
	if r.OK || !strings.Contains(r.Error, "invalid_scope") {
		t.Errorf("ended with ok %v, error %q; want invalid_scope", r.OK, r.Error)
	}
	log := as.log(t)
	if len(log.Registrations) != 1 || log.Registrations[0].Scope != "notes:read" {
		t.Errorf("registrations %+v, want one with notes:read", log.Registrations)
	}
	if len(log.Authorizations) != 2 || log.Authorizations[1].Outcome != "invalid_scope" {
		t.Errorf("logins %+v, want the second to end with invalid_scope", log.Authorizations)
	}
}

func grants(log issuerLog) []string {
	var found []string
	for _, token := range log.Tokens {
		found = append(found, token.Grant)
	}
	return found
}
