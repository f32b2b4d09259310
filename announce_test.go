package stile_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

// commandUpstream puts a shell script that speaks MCP on its standard input and
// output in the upstream's place.
func commandUpstream(t *testing.T, script string) func(*stile.Config) {
	t.Helper()
	c, err := forward.NewCommand(forward.CommandConfig{Name: "script", Command: []string{"sh", "-c", script},
		StopGrace: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return direct(c)
}

// newsScript answers everything with an empty result, in both eras, and acknowledges
// subscriptions to the lists of tools and prompts.
const newsScript = `
while read -r line; do
	id=$(printf '%s' "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
	case $line in
	*'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}' ;;
	*'"subscriptions/listen"'*) echo '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":'$id'},"notifications":{"toolsListChanged":true,"promptsListChanged":true}}}' ;;
	*'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","content":[]}}' ;;
	esac
done`

// newsUpstream is the same behind a URL.
func newsUpstream(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Header.Get("Mcp-Method") == "subscriptions/listen" {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Method == http.MethodPost {
			fmt.Fprint(w, "data: "+`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7},"notifications":{"toolsListChanged":true,"promptsListChanged":true}}}`+"\n\n")
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	switch body, _ := io.ReadAll(r.Body); {
	case bytes.Contains(body, []byte(`"initialize"`)):
		w.Header().Set("Mcp-Session-Id", rand.Text())
		answerTool(w, r)
	case !bytes.Contains(body, []byte(`"id"`)):
		w.WriteHeader(http.StatusAccepted)
	default:
		answerTool(w, r)
	}
}

const newsPolicy = `
baseline: notes:read
list: granted
rules:
  - tools: [read_note]
    scopes: notes:read
  - tools: [write_note]
    scopes: "notes:read notes:write"
  - prompts: [summarise]
    scopes: "notes:read notes:prompts"
  - resources: ["note://{id}"]
    scopes: "notes:read notes:item:{id}"
`

// TestListChangesAreAnnounced steps up while a stream waits for news: it is told
// which lists look different now, once, in both eras, whatever the upstream is.
func TestListChangesAreAnnounced(t *testing.T) {
	for name, upstream := range map[string]func(*testing.T) func(*stile.Config){
		"url":     func(*testing.T) func(*stile.Config) { return direct(http.HandlerFunc(newsUpstream)) },
		"command": func(t *testing.T) func(*stile.Config) { return commandUpstream(t, newsScript) },
	} {
		for _, era := range []string{era2025, era2026} {
			t.Run(name+"/"+era, func(t *testing.T) {
				f := newFixture(t, newsPolicy, answerTool, upstream(t))
				server := serve(t, f.gateway)
				now := time.Now()
				mint := func(scope string, age time.Duration) string {
					return f.mint(stiletest.Claims{Scope: scope, IssuedAt: now.Add(-age), Expiry: now.Add(time.Hour)})
				}
				narrow := mint("notes:read", time.Minute)
				session := ""
				if era == era2025 {
					session = initialize(t, f.gateway, narrow)
				}
				news := listenFor(t, server, era, narrow, session)
				use := func(token string) {
					t.Helper()
					if w := do(t, f.gateway, tool(era, token, "read_note", `{}`).inSession(session)); w.Code != http.StatusOK {
						t.Fatalf("%d %s", w.Code, w.Body)
					}
				}
				use(narrow)
				use(mint("notes:read acme:other", 50*time.Second)) // shows the same
				use(mint("notes:read notes:write", 40*time.Second))
				news.want("tools", era)
				use(narrow)                                                       // an older token, perhaps of another window
				use(mint("notes:read notes:write notes:prompts", 30*time.Second)) // and the tools are the same
				news.want("prompts", era)
				use(mint("notes:read notes:prompts notes:item:1", 20*time.Second))
				news.want("tools", era)
				if era == era2025 { // no subscription to it in the other
					news.want("resources", era)
				}
			})
		}
	}
}

// news reads what a waiting stream is told.
type news struct {
	t      *testing.T
	events chan string
}

func listenFor(t *testing.T, server *httptest.Server, era, token, session string) *news {
	t.Helper()
	a := stream(token)
	if era == era2026 {
		a = rpc(era, token, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"promptsListChanged":true}`)
	}
	ctx, cancel := context.WithCancel(t.Context())
	res, err := server.Client().Do(a.inSession(session).request(t, server.URL).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	n := &news{t, make(chan string, 100)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(n.events)
		told := 0
		events(t, res.Body, func(data []string, _ int) bool {
			for ; told < len(data); told++ {
				n.events <- data[told]
			}
			return false
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		res.Body.Close()
	})
	if era == era2026 {
		if first := <-n.events; !strings.Contains(first, "acknowledged") {
			t.Fatalf("the subscription begins with %s", first)
		}
	}
	return n
}

// want takes the next event, which must be the news of one list.
func (n *news) want(kind, era string) {
	n.t.Helper()
	want := `{"jsonrpc":"2.0","method":"notifications/` + kind + `/list_changed"}`
	if era == era2026 {
		want = want[:len(want)-1] + `,"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}`
	}
	select {
	case got, open := <-n.events:
		if !open || got != want {
			n.t.Errorf("got %s, want %s", got, want)
		}
	case <-time.After(20 * time.Second):
		n.t.Fatalf("no news of %s", kind)
	}
}

// TestListChangesOfOthersAreNotAnnounced: nothing is told to another person,
// another client, another session, nor where lists do not follow grants.
func TestListChangesOfOthersAreNotAnnounced(t *testing.T) {
	for name, c := range map[string]struct {
		era, policy string
		other       stiletest.Claims
		session     bool // another one
	}{
		"another person":  {era2026, newsPolicy, stiletest.Claims{Subject: "bob"}, false},
		"another client":  {era2026, newsPolicy, stiletest.Claims{ClientID: "another"}, false},
		"another session": {era2025, newsPolicy, stiletest.Claims{}, true},
		"list: show":      {era2025, strings.Replace(newsPolicy, "list: granted", "list: show", 1), stiletest.Claims{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, c.policy, answerTool, direct(http.HandlerFunc(newsUpstream)))
			server := serve(t, f.gateway)
			now := time.Now()
			narrow := f.mint(stiletest.Claims{Scope: "notes:read", IssuedAt: now.Add(-time.Minute), Expiry: now.Add(time.Hour)})
			session, other := "", ""
			if c.era == era2025 {
				session = initialize(t, f.gateway, narrow)
				if other = session; c.session {
					other = initialize(t, f.gateway, narrow)
				}
			}
			n := listenFor(t, server, c.era, narrow, session)
			c.other.Scope = "notes:read notes:write"
			if w := do(t, f.gateway, tool(c.era, f.mint(c.other), "read_note", `{}`).inSession(other)); w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			f.gateway.Drain() // ends the stream behind whatever was announced
			for got := range n.all() {
				if strings.Contains(got, "list_changed") {
					t.Errorf("it was told %s", got)
				}
			}
		})
	}
}

// all are the events up to the end of the stream.
func (n *news) all() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for e := range n.events {
			if !yield(e) {
				return
			}
		}
	}
}

// refusingScript refuses every call in one of the shapes in which servers ask for
// more scopes, at once or behind a log message.
const refusingScript = `
while read -r line; do
	id=$(printf '%s' "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
	case $line in
	*'"late"'*) echo '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}' ;;
	esac
	case $line in
	*'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}' ;;
	*'"error"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32001,"message":"no","data":{"error":"insufficient_scope","required_scopes":["notes:admin"]}}}' ;;
	*'"result"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","isError":true,"content":[],"_meta":{"mcp/www_authenticate":["Bearer error=\"insufficient_scope\", scope=\"notes:admin\""]}}}' ;;
	*'"string"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","isError":true,"content":[],"_meta":{"mcp/www_authenticate":"Bearer error=\"insufficient_scope\", scope=\"notes:admin\""}}}' ;;
	*'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","content":[]}}' ;;
	esac
done`

// TestCommandsOwnRefusals has a command ask for more scopes: while nothing was sent
// that is the 403 of any rule, and afterwards an error on the stream.
func TestCommandsOwnRefusals(t *testing.T) {
	f := newFixture(t, "baseline: notes:read\nimplies:\n  notes:admin: [notes:read]\ndefault: notes:read\n", answerTool, commandUpstream(t, refusingScript))
	server := serve(t, f.gateway)
	token := f.token("notes:read")
	session := initialize(t, f.gateway, token)
	for _, shape := range []string{"error", "result", "string"} {
		for _, era := range []string{era2025, era2026} {
			a := tool(era, token, shape, `{}`)
			if era == era2025 {
				a = a.inSession(session)
			}
			t.Run(shape+"/at once/"+era, func(t *testing.T) {
				w := do(t, f.gateway, a)
				checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusForbidden, "7")
				if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer error="insufficient_scope", scope="notes:read notes:admin", resource_metadata="`) {
					t.Errorf("challenge %s", got)
				}
			})
		}
		t.Run(shape+"/in the stream", func(t *testing.T) {
			res := send(t, server, tool(era2025, token, shape, `{"when":"late"}`).inSession(session))
			data, _ := events(t, res.Body, nil)
			for len(data) > 0 && data[0] == "" {
				data = data[1:] // the event that a client can come back to
			}
			if res.StatusCode != http.StatusOK || len(data) != 2 || !strings.Contains(data[0], "working") {
				t.Fatalf("%d %q", res.StatusCode, data)
			}
			if e := readError(t, []byte(data[1])); e.Error.Data.Error != "insufficient_scope" || e.Error.Data.Scope != "notes:read notes:admin" || string(e.ID) != "7" {
				t.Errorf("the error is %s", data[1])
			}
		})
	}
}
