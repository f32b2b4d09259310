package stepup_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stile-mcp/stile/stepup"
)

// A server that refuses every operation for a scope of its own cannot have a window
// opened for each of them, whether the person allows or refuses.
func TestWindowsForManyOperationsEnd(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		t.Run(fmt.Sprintf("refuses %v", refuses), func(t *testing.T) {
			g := newRogue(t)
			var mu sync.Mutex
			n := 0
			g.parts["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					g.challenge(w, 401, "Bearer "+g.told())
					return
				}
				mu.Lock()
				n++
				scope := n
				mu.Unlock()
				g.challenge(w, 403, fmt.Sprintf(`Bearer error="insufficient_scope", scope="s%d"`, scope))
			}
			tr := g.transport(stepup.Config{})
			if refuses {
				if _, err := g.call(tr, "first"); err != nil {
					t.Fatal(err)
				}
				g.parts["/authorize"] = func(w http.ResponseWriter, r *http.Request) {
					q := r.URL.Query()
					http.Redirect(w, r, q.Get("redirect_uri")+"?error=access_denied&state="+q.Get("state"), http.StatusFound)
				}
			}
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() { _, _ = g.call(tr, fmt.Sprint("op", i)) })
			}
			all.Wait()
			for i := range 20 {
				_, _ = g.call(tr, fmt.Sprint("op", 20+i))
			}
			if asked := len(g.person.requests()); asked > 1+10 {
				t.Errorf("%d windows for forty operations", asked)
			}
			resp, err := g.call(tr, "another")
			if err != nil {
				wantError(t, err, "did not help: try again in")
				return
			}
			wantExplanation(t, resp, err, 403, "did not help: try again in")
		})
	}
}
