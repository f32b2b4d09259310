package stile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/stiletest"
)

// hints is a policy whose rules read what the server says of its own tools.
func hints(t *testing.T) (func(*stile.Config), *stile.ToolCatalogue) {
	t.Helper()
	catalogue := new(stile.ToolCatalogue)
	policy, err := authorize.New(authorize.Config{
		Baseline: "notes:read",
		Tools:    catalogue.Annotations,
		Rules: []authorize.Rule{
			{Tools: authorize.Strings{"*"}, When: "tool.readOnlyHint == true", Scopes: authorize.Strings{"notes:read"}},
			{Tools: authorize.Strings{"*"}, When: "tool.readOnlyHint != true", Scopes: authorize.Strings{"notes:write"}},
			{Tools: authorize.Strings{"*"}, When: "has(tool.destructiveHint) && tool.destructiveHint", Scopes: authorize.Strings{"notes:admin"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *stile.Config) { c.Servers[0].Policy, c.Servers[0].Tools = policy, catalogue }, catalogue
}

// The annotations are fetched before the first call of a tool, on both eras and
// whatever the form of the answer, and nothing of the call goes upstream before
// it is decided.
func TestToolHintsAreFetched(t *testing.T) {
	for _, era := range []string{era2025, era2026} {
		for _, asJSON := range []bool{true, false} {
			t.Run(fmt.Sprint(era, " json ", asJSON), func(t *testing.T) {
				notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{JSON: asJSON})
				change, _ := hints(t)
				f := newFixture(t, notesPolicy, nil, change, direct(forwardTo(t, notes.URL)))
				f.upstream = notes
				token := f.token("notes:read")
				session := ""
				if era == era2025 {
					session = initialize(t, f.gateway, token)
				}
				before := len(notes.Recorded())
				w := do(t, f.gateway, tool(era, token, "delete_note", `{"id":"1"}`).inSession(session))
				checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusForbidden, "7")
				if got := readError(t, w.Body.Bytes()).Error.Data.Required; strings.Join(got, " ") != "notes:read notes:write notes:admin" {
					t.Errorf("required %q", got)
				}
				if notes.Calls("delete_note") != 0 {
					t.Error("the call reached the server before it was decided")
				}
				for _, r := range notes.Recorded()[before:] {
					if !strings.Contains(string(r.Body), `"tools/list"`) || strings.Contains(string(r.Body), "delete_note") {
						t.Errorf("went upstream: %s", r.Body)
					}
				}
				w = do(t, f.gateway, tool(era, token, "list_notes", `{}`).inSession(session))
				if w.Code != http.StatusOK || notes.Calls("list_notes") != 1 {
					t.Errorf("list_notes: %d %s", w.Code, w.Body)
				}
				if got := notes.Served("tools/list"); got != 1 {
					t.Errorf("tools/list was asked %d times, want once", got)
				}
				f.checkUpstream(t)
			})
		}
	}
}

// The fetch must not send the bytes of the call that waits for it. Padding makes
// both equally long, so that a mix-up of body and length would go unnoticed.
func TestToolHintsSendOnlyTheirOwnBody(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, 50, 100, 150, 200, 250, 300} {
		change, _ := hints(t)
		f := newFixture(t, notesPolicy, answerTool, change)
		do(t, f.gateway, tool(era2026, f.token("notes:read"), "wipe", `{"x":"`+strings.Repeat("y", size)+`"}`))
		for _, r := range f.upstream.Recorded() {
			if strings.Contains(string(r.Body), "wipe") {
				t.Fatalf("with %d bytes of padding the call went upstream: %s", size, r.Body)
			}
		}
	}
}

// toolPagesUpstream lists one tool a page, and answers calls.
func toolPagesUpstream(t *testing.T, names []string, sse bool, lists *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct{ Cursor string }
		}
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &m); err != nil {
			t.Errorf("upstream got %q: %v", body, err)
		}
		if m.Method != "tools/list" {
			answerTool(w, r)
			return
		}
		lists.Add(1)
		page, next := 0, ""
		if m.Params.Cursor != "" {
			fmt.Sscanf(m.Params.Cursor, "page-%d", &page)
		}
		if page+1 < len(names) {
			next = fmt.Sprintf(`,"nextCursor":"page-%d"`, page+1)
		}
		answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":%q,"inputSchema":{},"annotations":{"readOnlyHint":true}}]%s}}`,
			m.ID, names[page], next)
		if sse {
			stiletest.AnswerSSE(`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`+"\n\n",
				"data: "+answer+"\n\n")(w, r)
			return
		}
		stiletest.AnswerJSON(http.StatusOK, answer)(w, r)
	}
}

func TestToolHintsAreFetchedOverPages(t *testing.T) {
	for _, sse := range []bool{false, true} {
		for _, era := range []string{era2025, era2026} {
			var lists atomic.Int32
			change, catalogue := hints(t)
			f := newFixture(t, notesPolicy, toolPagesUpstream(t, []string{"a", "b", "c"}, sse, &lists), change)
			if w := do(t, f.gateway, tool(era, f.token("notes:read"), "c", `{}`)); w.Code != http.StatusOK {
				t.Errorf("%s, SSE %t: %d %s", era, sse, w.Code, w.Body)
			}
			if got := lists.Load(); got != 3 {
				t.Errorf("%s, SSE %t: %d pages were fetched, want 3", era, sse, got)
			}
			for _, name := range []string{"a", "b", "c"} {
				if _, known := catalogue.Annotations(name); !known {
					t.Errorf("%s, SSE %t: %s is not known", era, sse, name)
				}
			}
		}
	}
}

// A burst of calls of a tool that nobody knows is one fetch, and each is refused.
func TestUnknownToolIsRefusedAfterOneFetch(t *testing.T) {
	var lists atomic.Int32
	change, _ := hints(t)
	f := newFixture(t, notesPolicy, toolPagesUpstream(t, []string{"a"}, false, &lists), change)
	token := f.token("notes:read notes:write notes:admin")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			w := do(t, f.gateway, tool(era2026, token, "unheard_of", `{}`))
			if w.Code != http.StatusInternalServerError {
				t.Errorf("an unknown tool was answered %d: %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	if got := lists.Load(); got != 1 {
		t.Errorf("%d fetches, want one", got)
	}
	if got := f.reached(); got != 1 {
		t.Errorf("%d requests reached the upstream, want only the fetch", got)
	}
}

// What a passing list says is learnt, so that nothing has to be fetched.
func TestToolHintsAreLearntFromLists(t *testing.T) {
	var lists atomic.Int32
	change, _ := hints(t)
	f := newFixture(t, notesPolicy, toolPagesUpstream(t, []string{"a"}, true, &lists), change)
	token := f.token("notes:read")
	if w := do(t, f.gateway, rpc(era2026, token, "tools/list", "")); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := do(t, f.gateway, tool(era2026, token, "a", `{}`)); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := lists.Load(); got != 1 {
		t.Errorf("%d lists reached the upstream, want the client's own only", got)
	}
}

// A fetch that fails refuses the call it was for and nobody else's: the next call
// tries again.
func TestFailedFetchIsTriedAgain(t *testing.T) {
	failures := map[string]http.HandlerFunc{
		"500":          stiletest.AnswerJSON(http.StatusInternalServerError, "{}"),
		"error":        stiletest.AnswerJSON(http.StatusOK, `{"jsonrpc":"2.0","id":"x","error":{"code":-32600,"message":"no"}}`),
		"no JSON":      stiletest.AnswerJSON(http.StatusOK, `<html>`),
		"empty stream": stiletest.AnswerSSE(": nothing\n\n"),
		"panic":        func(http.ResponseWriter, *http.Request) { panic("upstream") },
		"cut off":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"cut off late": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"jsonrpc":`)
			panic(http.ErrAbortHandler)
		},
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			var lists atomic.Int32
			good := toolPagesUpstream(t, []string{"a"}, false, new(atomic.Int32))
			change, _ := hints(t)
			f := newFixture(t, notesPolicy, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Mcp-Method") == "tools/list" && lists.Add(1) == 1 {
					failure(w, r)
					return
				}
				good(w, r)
			}, change)
			token := f.token("notes:read")
			w := do(t, f.gateway, tool(era2026, token, "a", `{}`))
			checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusInternalServerError, "7")
			if w := do(t, f.gateway, tool(era2026, token, "a", `{}`)); w.Code != http.StatusOK {
				t.Errorf("the second call: %d %s", w.Code, w.Body)
			}
		})
	}
}

// A client that leaves while the tools are fetched for it spoils nothing for the
// others.
func TestFetchOfAClientThatLeaves(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	var lists atomic.Int32
	good := toolPagesUpstream(t, []string{"a"}, false, new(atomic.Int32))
	change, _ := hints(t)
	f := newFixture(t, notesPolicy, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Method") == "tools/list" && lists.Add(1) == 1 {
			close(arrived)
			<-leave
		}
		good(w, r)
	}, change)
	token := f.token("notes:read")
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan struct{})
	go func() {
		defer close(first)
		r := tool(era2026, token, "a", `{}`).request(t, publicURL).WithContext(ctx)
		f.gateway.ServeHTTP(discardResponse{}, r)
	}()
	<-arrived
	cancel()
	<-first
	close(leave)
	if w := do(t, f.gateway, tool(era2026, token, "a", `{}`)); w.Code != http.StatusOK {
		t.Errorf("the next client: %d %s", w.Code, w.Body)
	}
	if got := lists.Load(); got != 1 {
		t.Errorf("%d fetches, want the one that was begun", got)
	}
}

// discardResponse is a client that is gone.
type discardResponse struct{}

func (discardResponse) Header() http.Header         { return http.Header{} }
func (discardResponse) WriteHeader(int)             {}
func (discardResponse) Write(p []byte) (int, error) { return len(p), nil }

// Who lacks the baseline makes us ask the upstream nothing, and a caller whose fetches
// fail makes us ask ever more rarely. What is asked has its record first.
func TestToolsAreFetchedOnlyForWhoMayList(t *testing.T) {
	change, _ := hints(t)
	f := newFixture(t, notesPolicy, stiletest.AnswerJSON(http.StatusInternalServerError, "{}"), change)
	do(t, f.gateway, tool(era2026, f.token("other"), "a", `{}`))
	if got := f.reached(); got != 0 {
		t.Errorf("%d requests reached the upstream for a token without the baseline", got)
	}
	for range 20 {
		do(t, f.gateway, tool(era2026, f.token("notes:read"), "a", `{}`))
	}
	if got := f.reached(); got > 5 {
		t.Errorf("%d requests for one caller whose fetches fail, want the first, one at once and few more", got)
	}
	listed := 0
	for _, r := range f.records(t) {
		if r["method"] == "tools/list" {
			listed++
		}
	}
	if listed != f.reached() {
		t.Errorf("%d records of %d fetches", listed, f.reached())
	}
}
