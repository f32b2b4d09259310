package interop_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// TestNothingIsLostInACrash kills the gateway right after it gave out tokens. What it
// gave out is as good afterwards, and what it took back stays so.
func TestNothingIsLostInACrash(t *testing.T) {
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	config := stileConfig{upstream: notes.URL, policy: notesPolicy, dataDir: t.TempDir(), address: freeAddress(t)}
	g := serveStile(t, config).program
	somebody := newReader(t)
	somebody.makeAccount(g.line("/authserver/setup?token="))
	a := newApp(t, "http://"+config.address+"/mcp", "Agent")
	grant := func() granted {
		somebody.open(somebody.answer(a.authorize("notes:read")))
		return a.redeem(a.answer())
	}
	refresh := func(token string) (got granted) {
		a.send(a.metadata.Token, "application/x-www-form-urlencoded",
			url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {a.id}}.Encode(), &got)
		return got
	}
	kept := grant()
	for range 3 {
		used := kept.Refresh
		kept = refresh(used)
		g.kill()
		g = serveStile(t, config).program
		if status, _ := a.call(kept.Access, "list_notes", `{}`); status != http.StatusOK {
			t.Errorf("a token from before the crash: %d", status)
		}
		next := refresh(kept.Refresh) // and not the one that was used
		if status, _ := a.call(next.Access, "list_notes", `{}`); status != http.StatusOK {
			t.Errorf("a token that was refreshed after the crash: %d", status)
		}
		// What was exchanged before the crash was copied: the grant ends.
		response, err := http.PostForm(a.metadata.Token, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {used}, "client_id": {a.id}})
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusBadRequest {
			t.Errorf("a refresh token was used on both sides of a crash: %s", response.Status)
		}
		kept = grant() // somebody is still signed in, and the account is there
	}
	g.kill()
}
