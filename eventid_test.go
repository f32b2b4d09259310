package stile_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/session"
	"github.com/stile-mcp/stile/stiletest"
)

// eventIDs are the values of the id lines of an event stream.
func eventIDs(stream string) (ids []string) {
	for line := range strings.SplitSeq(stream, "\n") {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestEventIDsBelongToTheirOwner: an event id is good for whoever got it, and for
// nobody else (GHSA-84j6-jc92-77jm). An upstream with one event store for all
// sessions would replay another one's events otherwise.
func TestEventIDsBelongToTheirOwner(t *testing.T) {
	var lastEvents []string
	f := newFixture(t, listPolicy, func(w http.ResponseWriter, r *http.Request) {
		lastEvents = append(lastEvents, r.Header.Get("Last-Event-ID"))
		stiletest.AnswerSSE("id: up-1\ndata: "+changed+"\n\n", "id: up-1\nid: up-2\ndata:\n\n", ": no id\n\n",
			"id: "+strings.Repeat("x", session.MaxUpstream+1)+"\ndata: "+changed+"\n\n", "id\ndata: {}\n\n")(w, r)
	})
	ada := f.mint(stiletest.Claims{Subject: "ada", Scope: "notes:read"})
	bob := f.mint(stiletest.Claims{Subject: "bob", Scope: "notes:read"})
	first := do(t, f.gateway, stream(ada)).Body.String()
	if strings.Contains(first, "up-") {
		t.Fatalf("ids of the upstream reached the client: %s", first)
	}
	ids := eventIDs(first)
	if len(ids) != 2 { // what is too long to be sealed has none
		t.Fatalf("%d ids, want 2: %s", len(ids), first)
	}
	for _, tt := range []struct {
		name, token, id string
		status          int
		upstream        string
	}{
		{"its owner", ada, ids[0], http.StatusOK, "up-1"},
		{"the last of two id lines", ada, ids[1], http.StatusOK, "up-2"},
		{"somebody else", bob, ids[0], http.StatusNotFound, ""},
		{"the upstream's own id", ada, "up-1", http.StatusNotFound, ""},
		{"changed", ada, ids[0][:len(ids[0])-2] + "AA", http.StatusNotFound, ""},
		{"empty", ada, "", http.StatusOK, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lastEvents = nil
			a := stream(tt.token)
			a.header["Last-Event-Id"] = []string{tt.id}
			if w := do(t, f.gateway, a); w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			want := []string{tt.upstream}
			if tt.status != http.StatusOK {
				want = nil
			}
			if !slices.Equal(lastEvents, want) {
				t.Errorf("the upstream saw %q, want %q", lastEvents, want)
			}
		})
	}
	twice := stream(ada)
	twice.header["Last-Event-Id"] = []string{ids[0], ids[1]}
	if w := do(t, f.gateway, twice); w.Code != http.StatusBadRequest {
		t.Errorf("two ids: status %d, want 400", w.Code)
	}
	withBody := tool(era2025, ada, "list_notes", `{}`).with("Last-Event-Id", ids[0])
	lastEvents = nil
	do(t, f.gateway, withBody)
	if !slices.Equal(lastEvents, []string{""}) {
		t.Errorf("a POST resumed something: the upstream saw %q", lastEvents)
	}
}
