package forward_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stile-mcp/stile/forward"
)

// TestTwoCallersResumeAndListen has two callers lose their connections in the middle
// of calls, at once and with the same ids, come back with event ids that the other
// has too, and follow subscriptions: nobody sees what is the other's.
func TestTwoCallersResumeAndListen(t *testing.T) {
	for _, by := range []forward.Isolation{forward.IsolateSession, forward.IsolateCaller, forward.IsolateShared} {
		t.Run(string(by), func(t *testing.T) {
			f := command(t, "listens-briefly", isolated(by))
			sessions := map[string]*client{"ada": f.open("ada"), "bob": f.open("bob")}
			var all sync.WaitGroup
			for who, c := range sessions {
				other := sessions[map[string]string{"ada": "bob", "bob": "ada"}[who]]
				for i := range 10 {
					all.Go(func() { subscribe(t, f.modern(who), who) })
					all.Go(func() { loseAndResume(t, c, other, who, i) })
				}
			}
			all.Wait()
		})
	}
}

// subscribe follows a subscription to its end, whose id the other caller has too.
func subscribe(t *testing.T, c *client, who string) {
	r, cancel := c.stream(`{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{` + modernMeta + `}}}`)
	defer cancel()
	got := r.rest()
	if len(got) != 3 {
		t.Errorf("%s got %q", who, got)
	}
	for _, e := range got {
		if strings.Count(e.data, `"sub"`) == 0 {
			t.Errorf("%s got what belongs to another subscription: %s", who, e.data)
		}
	}
}

// loseAndResume begins a call, drops the connection, lets the call end, and comes
// back for its answer.
func loseAndResume(t *testing.T, c, other *client, who string, i int) {
	name := fmt.Sprintf("%s-%d", who, i)
	r, drop := c.stream(call(fmt.Sprintf("call-%d", i), fmt.Sprintf(`"progressToken":"t%d"`, i), "hold-told", "name", name))
	begin := r.message()
	if !strings.Contains(begin.data, name) {
		t.Errorf("the call of %s was told %s", name, begin.data)
	}
	drop()
	if status, _, _ := c.post(tool(fmt.Sprintf("release-%d", i), "release", "name", name)); status != http.StatusOK {
		t.Errorf("release: %d", status)
	}
	resumed, stop := c.listen("Last-Event-ID", begin.id)
	defer stop()
	got := resumed.rest()
	if len(got) != 1 || !strings.Contains(got[0].data, `"`+name+`"`) {
		t.Errorf("%s came back to %q", who, got)
	}
	// The same event id means one of its own streams to the other, or nothing.
	stranger := *c
	stranger.owner = other.owner
	res := stranger.send(t.Context(), http.MethodGet, "", "Last-Event-ID", begin.id)
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("%s was let into the session of %s: %d", other.owner, who, res.StatusCode)
	}
}
