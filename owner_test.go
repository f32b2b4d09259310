package stile_test

import (
	"net/http"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/session"
	"github.com/stile-mcp/stile/stiletest"
)

// TestUpstreamsLearnTheOwner: an upstream in this process, which gets no
// credentials, can still keep callers apart.
func TestUpstreamsLearnTheOwner(t *testing.T) {
	var got []session.Owner
	f := newFixture(t, anonymousPolicy, nil, func(c *stile.Config) {
		c.Servers[0].Upstream = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			owner, ok := session.OwnerFrom(r.Context())
			if !ok {
				t.Error("no owner")
			}
			got = append(got, owner)
			w.WriteHeader(http.StatusAccepted)
		})
	})
	note := ask{body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`}.with("Accept", "application/json, text/event-stream")
	for _, token := range []string{f.token("notes:read"), ""} {
		note.token = token
		if w := do(t, f.gateway, note); w.Code != http.StatusAccepted {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if len(got) != 2 || got[0].Issuer != f.issuer.URL() || got[0].Subject == "" {
		t.Errorf("with a token: %+v", got)
	}
	if got[1] != (session.Owner{}) {
		t.Errorf("without a token: %+v", got[1])
	}
}

// TestClientsAreNotPeople: a token without a subject is owned by its client, and a
// person may be called like one.
func TestClientsAreNotPeople(t *testing.T) {
	f := newFixture(t, listPolicy, stiletest.AnswerSSE("id: 1\ndata: "+changed+"\n\n"))
	person := f.mint(stiletest.Claims{Subject: "job", Scope: "notes:read"})
	client := f.mint(stiletest.Claims{ClientID: "job", Omit: []string{"sub"}, Scope: "notes:read"})
	id := eventIDs(do(t, f.gateway, stream(person)).Body.String())[0]
	for token, want := range map[string]int{person: http.StatusOK, client: http.StatusNotFound} {
		if w := do(t, f.gateway, stream(token).with("Last-Event-Id", id)); w.Code != want {
			t.Errorf("%d, want %d: %s", w.Code, want, w.Body)
		}
	}
}
