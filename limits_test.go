package stile_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
)

// A caller that is challenged over and over is told to wait; nobody else is, and
// neither is what needs no challenge (DES-28).
func TestChallengesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, answerTool, func(c *stile.Config) { c.ChallengesPerMinute = 3 })
		asks := func(token string, want ...int) {
			t.Helper()
			for i, status := range want {
				w := do(t, g, tool(era2026, token, "delete_note", `{}`))
				if w.Code != status {
					t.Errorf("call %d: %d, want %d", i, w.Code, status)
				}
				if retry := w.Header().Get("Retry-After"); (status == http.StatusTooManyRequests) != (retry == "20") {
					t.Errorf("call %d: Retry-After %q", i, retry)
				}
				if status == http.StatusTooManyRequests && w.Header().Get("WWW-Authenticate") != "" {
					t.Error("a challenge beside 429")
				}
			}
		}
		asks("r", 403, 403, 403, 429, 429)
		if w := do(t, g, tool(era2026, "r", "list_notes", `{}`)); w.Code != http.StatusOK {
			t.Errorf("an allowed call meanwhile: %d", w.Code)
		}
		time.Sleep(20 * time.Second)
		asks("r", 403, 429)
		if w := do(t, g, tool(era2026, "", "list_notes", `{}`)); w.Code != http.StatusUnauthorized {
			t.Errorf("no token: %d", w.Code)
		}
	})
}

// Bad tokens of one address are answered with 429 in the end, good ones never, and
// those of other addresses neither.
func TestFailuresAreLimited(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool, func(c *stile.Config) { c.FailuresPerMinute = 2 })
	from := func(address, token string) int {
		r := tool(era2026, token, "list_notes", `{}`).request(t, publicURL)
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		f.gateway.ServeHTTP(w, r)
		return w.Code
	}
	for i, want := range []int{401, 401, 429} {
		if got := from("198.51.100.7:1", fmt.Sprint("bad", i)); got != want {
			t.Errorf("bad token %d: %d, want %d", i, got, want)
		}
	}
	for _, c := range []struct {
		address, token string
		want           int
	}{
		{"198.51.100.7:2", f.token("notes:read"), 200}, {"198.51.100.7:2", "", 401}, {"198.51.100.8:1", "bad", 401},
		{"[2001:db8::1]:1", "bad", 401}, {"[2001:db8::2]:1", "bad", 401}, {"[2001:db8::3]:1", "bad", 429},
		{"[2001:db8:0:1::1]:1", "bad", 401}, {"[::ffff:198.51.100.7]:3", "bad", 429},
	} {
		if got := from(c.address, c.token); got != c.want {
			t.Errorf("%s with %q: %d, want %d", c.address, c.token, got, c.want)
		}
	}
}

func TestStreamsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, silent(changed), func(c *stile.Config) { c.StreamsPerCaller = 2 })
		first, second := open(t, g, stream("r.60")), open(t, g, stream("r.90"))
		synctest.Wait()
		if w := do(t, g, stream("r.100")); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("a third stream: %d %v", w.Code, w.Header())
		}
		<-first.done
		third := open(t, g, stream("r.100"))
		<-second.done
		<-third.done
		if got := third.got(); len(got) != 1 {
			t.Errorf("after one has ended: %q", got)
		}
	})
}

// A stream whose token has no end of its own ends with its age (DES-43).
func TestStreamsHaveAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, silent(changed), func(c *stile.Config) { c.StreamMaxAge = time.Hour })
		w := open(t, g, stream("r"))
		<-w.done
		if got := time.Since(w.begin); got != time.Hour {
			t.Errorf("ended after %v, want 1h", got)
		}
	})
}

// revocable is a verifier whose tokens can be revoked, as those of introspection.
type revocable struct {
	state atomic.Int32 // 0 active, 1 revoked, 2 cannot be told
	asked atomic.Int32
}

func (v *revocable) Lifetimes() (positive, negative time.Duration) { return time.Minute, time.Second }

func (v *revocable) Verify(ctx context.Context, token string) (*authenticate.Identity, error) {
	v.asked.Add(1)
	switch v.state.Load() {
	case 1:
		return nil, &authenticate.Error{Kind: authenticate.Unknown, Description: "the token is not active"}
	case 2:
		return nil, &authenticate.Error{Kind: authenticate.Unavailable, Description: "out of reach", RetryAfter: time.Second}
	}
	return &authenticate.Identity{Issuer: plainProfile.Issuer, Subject: "alice", Profile: plainProfile,
		Scopes: []string{"notes:read"}, Recheck: time.Minute}, nil
}

// The stream of a token that can be revoked ends when it is, and when that cannot be
// told for long (DES-43).
func TestStreamsEndWhenTheTokenIsRevoked(t *testing.T) {
	for _, tc := range []struct {
		name  string
		state int32
		after time.Duration // of the change at 150 s
		most  time.Duration
	}{
		{"revoked", 1, 0, 2 * time.Minute},
		{"cannot be told", 2, 2 * time.Minute, 5 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &revocable{}
				g := clock(t, silent(changed), func(c *stile.Config) { c.Servers[0].Verifiers = []authenticate.Verifier{v} })
				w := open(t, g, stream("opaque"))
				time.Sleep(150 * time.Second)
				synctest.Wait()
				select {
				case <-w.done:
					t.Fatal("ended while the token was good")
				default:
				}
				v.state.Store(tc.state)
				<-w.done
				if got := time.Since(w.begin) - 150*time.Second; got < tc.after || got > tc.most {
					t.Errorf("ended %v after the change, want %v to %v", got, tc.after, tc.most)
				}
			})
		})
	}
}
