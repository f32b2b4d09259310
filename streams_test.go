package stile_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/stiletest"
)

// timedWriter is a client that notes when each piece of the answer came.
type timedWriter struct {
	begin  time.Time
	header http.Header
	done   chan struct{} // closed when the answer is complete
	cut    bool          // the connection was cut; to be read after done

	mu     sync.Mutex
	status int
	pieces []string
}

func (w *timedWriter) Header() http.Header { return w.header }
func (w *timedWriter) Flush()              {}

func (w *timedWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

func (w *timedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pieces = append(w.pieces, fmt.Sprintf("%v %s", time.Since(w.begin), strings.TrimSpace(string(p))))
	return len(p), nil
}

// got is what came so far, each piece behind the time it took.
func (w *timedWriter) got() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pieces)
}

// open sends a request whose answer takes time.
func open(t *testing.T, h http.Handler, a ask) *timedWriter {
	t.Helper()
	w := &timedWriter{begin: time.Now(), header: http.Header{}, done: make(chan struct{})}
	r := a.request(t, publicURL)
	go func() {
		defer close(w.done)
		defer func() { w.cut = recover() != nil }()
		h.ServeHTTP(w, r)
	}()
	return w
}

// clock is a gateway in the time of a bubble, whose tokens are those of
// plainTokens.
func clock(t *testing.T, upstream http.HandlerFunc, change ...func(*stile.Config)) *stile.Gateway {
	t.Helper()
	c := stile.Config{
		PublicURL: publicURL, KeepAlive: -1, Audit: io.Discard, Log: slog.New(slog.DiscardHandler),
		Servers: []stile.Server{{Name: "notes", Path: "/mcp", Upstream: upstream, Policy: compile(t, notesPolicy),
			Verifiers: []authenticate.Verifier{plainTokens{time.Now()}}}},
	}
	for _, f := range change {
		f(&c)
	}
	g, err := stile.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// plainTokens knows tokens of up to four fields with dots between them: the
// scopes r, w, a and i, how many seconds the token is good (0: for ever), how many
// seconds after the beginning of the test it was issued (n: not told), and the
// client. The rest is alice's.
type plainTokens struct{ begin time.Time }

var plainProfile = &authenticate.Profile{Issuer: "https://idp.example.com"}

// Verify reads a token such as "rw.60".
func (p plainTokens) Verify(_ context.Context, token string) (*authenticate.Identity, error) {
	fields := append(strings.Split(token, "."), "", "", "")
	id := &authenticate.Identity{Issuer: plainProfile.Issuer, Subject: "alice", ClientID: "client" + fields[3], Profile: plainProfile}
	for _, letter := range fields[0] {
		id.Scopes = id.Scopes.Union(scope.Set{map[rune]string{'r': "notes:read", 'w': "notes:write", 'a': "notes:admin", 'i': "notes:index"}[letter]})
	}
	if lifetime, _ := strconv.Atoi(fields[1]); lifetime > 0 {
		id.Expiry = time.Now().Add(time.Duration(lifetime) * time.Second)
	}
	if issued, err := strconv.Atoi(fields[2]); err == nil {
		id.IssuedAt = p.begin.Add(time.Duration(issued) * time.Second)
	}
	return id, nil
}

// silent is an upstream whose stream begins with one event and then waits.
func silent(event string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		chunks := []string{}
		if event != "" {
			chunks = append(chunks, "data: "+event+"\n\n")
		}
		stiletest.AnswerSSE(chunks...)(w, r)
		<-r.Context().Done()
	}
}

// more goes on with a stream.
func more(w http.ResponseWriter, chunk string) {
	io.WriteString(w, chunk)
	_ = http.NewResponseController(w).Flush()
}

const changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`

// A stream ends when the token that opened it does: a call is told so, a stream
// that waits for news ends in silence, and the upstream's request ends too
// (DES-43).
func TestStreamEndsWithItsToken(t *testing.T) {
	listen := rpc(era2026, "ri.60", "subscriptions/listen", `"notifications":{"toolsListChanged":true}`)
	for _, tc := range []struct {
		name string
		ask  ask
		last string // the error of a call
	}{
		{"GET stream", stream("ri.60"), ""},
		{"call of 2025", tool(era2025, "ri.60", "list_notes", `{}`), "the access token has expired"},
		{"call of 2026", tool(era2026, "ri.60", "list_notes", `{}`), "the access token has expired"},
		{"subscription", listen, "the access token has expired"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := clock(t, silent(changed))
				w := open(t, g, tc.ask)
				time.Sleep(60*time.Second - time.Millisecond)
				synctest.Wait()
				if got := w.got(); len(got) != 1 || got[0] != "0s data: "+changed {
					t.Fatalf("just before the end: %q", got)
				}
				<-w.done
				got := w.got()
				if tc.last == "" {
					if len(got) != 1 || time.Since(w.begin) != time.Minute || w.cut {
						t.Errorf("after %v: %q, connection cut: %t", time.Since(w.begin), got, w.cut)
					}
					return
				}
				if len(got) != 2 || !strings.HasPrefix(got[1], "1m0s data: ") || w.cut {
					t.Fatalf("%q, connection cut: %t", got, w.cut)
				}
				e := readError(t, []byte(strings.TrimPrefix(got[1], "1m0s data: ")))
				if string(e.ID) != "7" || e.Error.Code != http.StatusForbidden || !strings.Contains(e.Error.Message, tc.last) {
					t.Errorf("last event %s", got[1])
				}
			})
		})
	}
}

// Expiry is exp and the clock skew of the issuer, so that a stream is not ended
// while the gateway would still take its token (DES-43).
func TestStreamEndsAfterExpAndSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://idp.example.com"})
		jwt, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuer.URL(), Audiences: []string{resource},
			Transport: issuer.Client().Transport, ClockSkew: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		g := clock(t, silent(""), func(c *stile.Config) { c.Servers[0].Verifiers = []authenticate.Verifier{jwt} })
		token := issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{resource}, Expiry: time.Now().Add(100 * time.Second)})
		w := open(t, g, stream(token))
		<-w.done
		if got := time.Since(w.begin); got != 120*time.Second {
			t.Errorf("the stream ended after %v, want exp and skew, 2m0s", got)
		}
	})
}

// A step-up ends no stream: neither the one of the old token nor that of the new.
func TestStreamOutlivesStepUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				silent(changed)(w, r)
				return
			}
			answerTool(w, r)
		})
		w := open(t, g, stream("r.60"))
		time.Sleep(10 * time.Second)
		if res := do(t, g, tool(era2025, "r.60", "delete_note", `{}`)); res.Code != http.StatusForbidden {
			t.Fatalf("%d %s", res.Code, res.Body)
		}
		if res := do(t, g, tool(era2025, "rw.600", "delete_note", `{}`)); res.Code != http.StatusOK {
			t.Fatalf("%d %s", res.Code, res.Body)
		}
		<-w.done
		if got := time.Since(w.begin); got != time.Minute {
			t.Errorf("the stream ended after %v, want 1m0s", got)
		}
	})
}

// A quiet stream gets comments, and only between events.
func TestKeepAlive(t *testing.T) {
	for _, pause := range []time.Duration{0, 7 * time.Second, -1} {
		t.Run(pause.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := clock(t, func(w http.ResponseWriter, r *http.Request) {
					stiletest.AnswerSSE("data: "+changed+"\n\n", "data: {\"half\"")(w, r)
					time.Sleep(20 * time.Second)
					more(w, ":1}\n\n")
					<-r.Context().Done()
				}, func(c *stile.Config) { c.KeepAlive = pause })
				w := open(t, g, stream("r.40"))
				<-w.done
				want := []string{"0s data: " + changed}
				switch pause {
				case 0:
					want = append(want, "15s :", `20s data: {"half":1}`, "35s :")
				case -1:
					want = append(want, `20s data: {"half":1}`)
				default:
					want = append(want, "7s :", "14s :", `20s data: {"half":1}`, "27s :", "34s :")
				}
				if got := w.got(); !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
}

// Drain ends what only waits for news and nothing else; Stop ends the calls too,
// with an error that tells the client to repeat them.
func TestDrainAndStop(t *testing.T) {
	waiting := map[string]ask{
		"GET stream":   stream("r.0"),
		"subscription": rpc(era2026, "r.0", "subscriptions/listen", `"notifications":{"toolsListChanged":true}`),
	}
	calls := map[string]ask{
		"call of 2025": tool(era2025, "r.0", "list_notes", `{}`),
		"call of 2026": tool(era2026, "r.0", "list_notes", `{}`),
	}
	for _, mediaType := range []string{"text/event-stream", "Text/Event-Stream; charset=utf-8", "application/json, text/event-stream"} {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan string, 10)
			g := clock(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", mediaType)
				io.WriteString(w, "data: "+changed+"\n\n")
				<-r.Context().Done()
				ended <- r.Method
			})
			streams, answers := map[string]*timedWriter{}, map[string]*timedWriter{}
			for name, a := range waiting {
				streams[name] = open(t, g, a)
			}
			for name, a := range calls {
				answers[name] = open(t, g, a)
			}
			time.Sleep(time.Second)
			g.Drain()
			synctest.Wait()
			for name, w := range streams {
				select {
				case <-w.done:
				default:
					t.Errorf("%s: %s goes on after Drain", mediaType, name)
				}
				if w.cut || w.status != http.StatusOK {
					t.Errorf("%s: %s: status %d, cut %t", mediaType, name, w.status, w.cut)
				}
			}
			if len(ended) != 2 {
				t.Errorf("%s: %d requests upstream ended with Drain, want 2", mediaType, len(ended))
			}
			late := open(t, g, stream("r.0"))
			synctest.Wait()
			select {
			case <-late.done:
			default:
				t.Errorf("%s: a stream opened after Drain goes on", mediaType)
			}
			for name, w := range answers {
				if got := w.got(); len(got) != 1 {
					t.Errorf("%s: %s after Drain: %q", mediaType, name, got)
				}
			}
			g.Stop()
			synctest.Wait()
			for name, w := range answers {
				got := w.got()
				if len(got) != 2 || w.cut {
					t.Errorf("%s: %s after Stop: %q, cut %t", mediaType, name, got, w.cut)
					continue
				}
				e := readError(t, []byte(strings.TrimPrefix(got[1], "1s data: ")))
				if string(e.ID) != "7" || e.Error.Code != http.StatusServiceUnavailable || !strings.Contains(e.Error.Message, "repeat the call") {
					t.Errorf("%s: %s: last event %s", mediaType, name, got[1])
				}
			}
		})
	}
}

// A subscription goes upstream without what its owner may not read (DES-22).
func TestSubscriptionsAreNarrowed(t *testing.T) {
	f := newFixture(t, notesPolicy, func(w http.ResponseWriter, r *http.Request) {
		stiletest.AnswerSSE("data: "+changed+"\n\n")(w, r)
	})
	for _, tc := range []struct{ scopes, asked, want string }{
		{"notes:read notes:index notes:item:index", `["note://index"]`, `["note://index"]`},
		{"notes:read", `["note://index"]`, `[]`},
		{"notes:read notes:index notes:item:index notes:item:2", `["note://1","note://index","note://2"]`, `["note://index","note://2"]`},
		{"notes:read", `["file:///etc/passwd"]`, `[]`},
	} {
		before := f.reached()
		body := func(list string) ask {
			return rpc(era2026, f.token(tc.scopes), "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":`+list+`}`)
		}
		w := do(t, f.gateway, body(tc.asked))
		seen := f.upstream.Recorded()[before:]
		if w.Code != http.StatusOK || len(seen) != 1 {
			t.Fatalf("%s: %d %s, %d requests upstream", tc.asked, w.Code, w.Body, len(seen))
		}
		if got, want := string(seen[0].Body), body(tc.want).body; got != want {
			t.Errorf("with %q\ngot  %s\nwant %s", tc.scopes, got, want)
		}
	}
	f.checkUpstream(t)
}

// Events reach the client as they come, also on a real connection, with what keeps
// a proxy from holding them back (DES-52).
func TestStreamIsNotHeldBack(t *testing.T) {
	seen := make(chan struct{})
	f := newFixture(t, notesPolicy, func(w http.ResponseWriter, r *http.Request) {
		stiletest.AnswerSSE("data: "+progress+"\n\n")(w, r)
		<-seen
		stiletest.AnswerSSE("data: "+strings.Replace(progress, `"progress":1`, `"progress":2`, 1)+"\n\n")(w, r)
	})
	res := send(t, serve(t, f.gateway), tool(era2025, f.token("notes:read"), "list_notes", `{}`))
	if got := res.Header.Get("X-Accel-Buffering"); got != "no" {
		t.Errorf("X-Accel-Buffering %q", got)
	}
	first, _ := events(t, res.Body, func(data []string, _ int) bool { return len(data) == 1 })
	close(seen)
	rest, _ := events(t, res.Body, nil)
	if len(first) != 1 || len(rest) != 1 {
		t.Errorf("events %q, then %q", first, rest)
	}
}

// What has not begun when the gateway drains or stops is refused as something to
// repeat, instead of being cut off: many servers send no header before the first
// event, or before a call is done.
func TestDrainAndStopBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mute := clock(t, func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			w.(interface{ Fail(error) }).Fail(r.Context().Err())
		})
		news := map[string]*timedWriter{
			"GET stream":   open(t, mute, stream("r.0")),
			"subscription": open(t, mute, rpc(era2026, "r.0", "subscriptions/listen", `"notifications":{}`)),
		}
		calls := map[string]*timedWriter{
			"call of 2025": open(t, mute, tool(era2025, "r.0", "list_notes", `{}`)),
			"call of 2026": open(t, mute, tool(era2026, "r.0", "list_notes", `{}`)),
		}
		check := func(name string, w *timedWriter) {
			t.Helper()
			select {
			case <-w.done:
			default:
				t.Fatalf("%s goes on", name)
			}
			want := "7"
			if name == "GET stream" {
				want = "null"
			}
			_, body, _ := strings.Cut(w.got()[0], " ")
			checkRefusal(t, w.status, w.header, []byte(body), http.StatusServiceUnavailable, want)
			if w.cut || !strings.Contains(body, "repeat the call") {
				t.Errorf("%s: cut %t: %s", name, w.cut, body)
			}
		}
		synctest.Wait()
		mute.Drain()
		synctest.Wait()
		for name, w := range news {
			check(name, w)
		}
		for name, w := range calls {
			if got := w.got(); len(got) > 0 {
				t.Errorf("%s after Drain: %q", name, got)
			}
		}
		mute.Stop()
		synctest.Wait()
		for name, w := range calls {
			check(name, w)
		}
	})
}
