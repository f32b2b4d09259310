package stiletest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stiletest"
)

// eras runs f for both eras and both framings of answers.
func eras(t *testing.T, options stiletest.NotesOptions, f func(t *testing.T, version string, notes *stiletest.Notes)) {
	for _, version := range []string{stiletest.Version2025, stiletest.Version2026} {
		for _, options.JSON = range []bool{false, true} {
			t.Run(fmt.Sprintf("%s json=%t", version, options.JSON), func(t *testing.T) {
				f(t, version, stiletest.NewNotesServer(t, options))
			})
		}
	}
}

func connect(t *testing.T, url, version string, handlers *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	session, err := stiletest.NewClient(t.Context(), url, stiletest.ClientOptions{Version: version, NoAuth: true, MCP: handlers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func TestNotesTools(t *testing.T) {
	eras(t, stiletest.NotesOptions{}, func(t *testing.T, version string, notes *stiletest.Notes) {
		session := connect(t, notes.URL, version, nil)
		if got := session.InitializeResult().ProtocolVersion; got != version {
			t.Fatalf("revision %s, want %s", got, version)
		}
		if (session.ID() != "") != (version == stiletest.Version2025) {
			t.Errorf("session id %q", session.ID())
		}
		for _, test := range []struct {
			tool string
			args map[string]any
			want string
		}{
			{"ping", nil, "pong"},
			{"list_notes", nil, "1 Shopping\n2 Walk\n3 Garden\n"},
			{"get_note", map[string]any{"id": "2"}, "Walk\nover the stile and along the river"},
			{"create_note", map[string]any{"title": "T", "text": "x"}, "created 4"},
			{"delete_note", map[string]any{"id": "1"}, "deleted 1"},
			{"delete_note", map[string]any{"id": "2", "permanent": true}, "deleted 2 for good"},
			{"export_notes", nil, `[{"id":"3","title":"Garden","text":"plant the hedge in November"},{"id":"4","title":"T","text":"x"}]`},
			{"drop_everything", nil, "everything is gone"},
			{"list_notes", nil, ""},
			{"slow", map[string]any{"steps": 2}, "done in 2 steps"},
		} {
			if got := call(t, session, test.tool, test.args); got != test.want {
				t.Errorf("%s %v: %q, want %q", test.tool, test.args, got, test.want)
			}
		}
		res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_note", Arguments: map[string]any{"id": "9"}})
		if err != nil || !res.IsError || textOf(t, res) != `no note "9"` {
			t.Errorf("a note that is not there: %v %+v", err, res)
		}
		if notes.Calls("list_notes") != 2 || notes.Calls("get_note") != 2 || notes.Calls("nothing") != 0 || notes.Served("tools/call") != 11 {
			t.Errorf("calls counted: %d %d %d %d", notes.Calls("list_notes"), notes.Calls("get_note"), notes.Calls("nothing"), notes.Served("tools/call"))
		}
		if len(notes.All()) != 0 {
			t.Errorf("notes left: %v", notes.All())
		}
	})
}

func TestNotesAnnotations(t *testing.T) {
	eras(t, stiletest.NotesOptions{}, func(t *testing.T, version string, notes *stiletest.Notes) {
		res, err := connect(t, notes.URL, version, nil).ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, tool := range res.Tools {
			got[tool.Name] = "write"
			switch a := tool.Annotations; {
			case a.ReadOnlyHint:
				got[tool.Name] = "read"
			case *a.DestructiveHint:
				got[tool.Name] = "destroy"
			}
		}
		want := map[string]string{
			"list_notes": "read", "get_note": "read", "export_notes": "read", "ping": "read", "slow": "read",
			"create_note": "write", "delete_note": "destroy", "drop_everything": "destroy",
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("tools %v, want %v", got, want)
		}
	})
}

func TestNotesResourcesAndPrompts(t *testing.T) {
	eras(t, stiletest.NotesOptions{Notes: []stiletest.Note{{ID: "a", Title: "A", Text: "aa"}}}, func(t *testing.T, version string, notes *stiletest.Notes) {
		session := connect(t, notes.URL, version, nil)
		for uri, want := range map[string]string{"note://index": "a A\n", "note://a": "A\naa"} {
			res, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
			if err != nil || res.Contents[0].Text != want || res.Contents[0].URI != uri {
				t.Errorf("%s: %v %+v", uri, err, res)
			}
		}
		var werr *jsonrpc.Error
		if _, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "note://b"}); !errors.As(err, &werr) || werr.Code != jsonrpc.CodeInvalidParams {
			t.Errorf("a resource that is not there: %v", err)
		}
		resources, err := session.ListResources(t.Context(), nil)
		if err != nil || len(resources.Resources) != 1 || resources.Resources[0].URI != "note://index" {
			t.Errorf("resources: %v %+v", err, resources)
		}
		templates, err := session.ListResourceTemplates(t.Context(), nil)
		if err != nil || len(templates.ResourceTemplates) != 1 || templates.ResourceTemplates[0].URITemplate != "note://{id}" {
			t.Errorf("templates: %v %+v", err, templates)
		}
		prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "summarise", Arguments: map[string]string{"id": "a"}})
		if err != nil || prompt.Messages[0].Content.(*mcp.TextContent).Text != "Summarise this note: aa" {
			t.Errorf("prompt: %v %+v", err, prompt)
		}
		if _, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "summarise", Arguments: map[string]string{"id": "b"}}); err == nil {
			t.Error("a prompt for a note that is not there")
		}
		done, err := session.Complete(t.Context(), &mcp.CompleteParams{
			Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: "summarise"}, Argument: mcp.CompleteParamsArgument{Name: "id", Value: "a"},
		})
		if err != nil || !slices.Equal(done.Completion.Values, []string{"a"}) {
			t.Errorf("completion: %v %+v", err, done)
		}
	})
}

func TestNotesProgress(t *testing.T) {
	for _, version := range []string{stiletest.Version2025, stiletest.Version2026} {
		t.Run(version, func(t *testing.T) {
			notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
			steps := make(chan float64, 9)
			session := connect(t, notes.URL, version, &mcp.ClientOptions{
				ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
					steps <- req.Params.Progress
				},
			})
			params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{}}
			params.SetProgressToken("p")
			if _, err := session.CallTool(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			for want := range 3 {
				if got := <-steps; got != float64(want+1) {
					t.Errorf("step %v, want %d", got, want+1)
				}
			}
		})
	}
}

// TestNotesCancelled: a client of 2026-07-28 that hangs up ends the tool.
func TestNotesCancelled(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{OnSlow: func(ctx context.Context, _ int) error {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	session := connect(t, notes.URL, stiletest.Version2026, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "slow"}); !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the tool ended with %v", err)
	}
}

// TestNotesAsHandler: served under another name, as an upstream of a gateway in
// the same process is.
func TestNotesAsHandler(t *testing.T) {
	notes := stiletest.NewNotes(stiletest.NotesOptions{JSON: true})
	defer notes.Close()
	server := httptest.NewServer(notes)
	defer server.Close()
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ping","arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
	send := func(headers ...string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/mcp?q=1", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "mcp.example.com"
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		for n := 0; n < len(headers); n += 2 {
			req.Header.Set(headers[n], headers[n+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		out, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(out)
	}
	if status, out := send("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "ping"); status != 200 || !strings.Contains(out, "pong") {
		t.Errorf("%d %s", status, out)
	}
	if status, out := send(); status != 400 || !strings.Contains(out, "-32020") {
		t.Errorf("without its headers it belongs to 2026-07-28 all the same: %d %s", status, out)
	}
	got := notes.Recorded()[0]
	if string(got.Body) != body || got.Method != "POST" || got.Path != "/mcp" || got.Query.Get("q") != "1" || got.Host != "mcp.example.com" || got.Header.Get("Mcp-Name") != "ping" {
		t.Errorf("recorded %+v", got)
	}
	if !notes.Saw("mcp-name") || notes.Saw("Authorization") {
		t.Error("Saw does not tell what was recorded")
	}
	notes.Forget()
	if len(notes.Recorded()) != 0 || notes.Calls("ping") != 1 {
		t.Error("Forget empties the record and leaves the counters")
	}
}

// TestNotesClose ends the sessions, as a restart would.
func TestNotesClose(t *testing.T) {
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
	session, err := stiletest.NewClient(t.Context(), notes.URL, stiletest.ClientOptions{Version: stiletest.Version2025, NoAuth: true, NoStream: true})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	notes.Close()
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "ping"}); !errors.Is(err, mcp.ErrSessionMissing) {
		t.Errorf("after Close: %v, want %v", err, mcp.ErrSessionMissing)
	}
}

// TestNotesIDs: a new note takes nobody's place.
func TestNotesIDs(t *testing.T) {
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{Notes: []stiletest.Note{{ID: "7"}, {ID: "x"}}})
	if got := call(t, connect(t, notes.URL, "", nil), "create_note", map[string]any{"title": "T"}); got != "created 8" {
		t.Errorf("%q, want created 8", got)
	}
}

// TestNotesOrder: by number, then by name.
func TestNotesOrder(t *testing.T) {
	notes := stiletest.NewNotes(stiletest.NotesOptions{Notes: []stiletest.Note{{ID: "b"}, {ID: "10"}, {ID: "a"}, {ID: "9"}}})
	var got []string
	for _, n := range notes.All() {
		got = append(got, n.ID)
	}
	if want := []string{"9", "10", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}

// TestNotesAtOnce: many writers in both eras lose nothing.
func TestNotesAtOnce(t *testing.T) {
	notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{Notes: []stiletest.Note{}})
	sessions := []*mcp.ClientSession{connect(t, notes.URL, stiletest.Version2025, nil), connect(t, notes.URL, stiletest.Version2026, nil)}
	var wg sync.WaitGroup
	const each = 10
	for _, session := range sessions {
		for range each {
			wg.Go(func() {
				if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_note", Arguments: map[string]any{"title": "T"}}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if got := len(notes.All()); got != 2*each || notes.Calls("create_note") != 2*each {
		t.Errorf("%d notes of %d calls, want %d", got, notes.Calls("create_note"), 2*each)
	}
}

func TestScripted(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		status  int
		media   string
		auth    []string
		body    string
	}{
		{"nothing", nil, 202, "", nil, ""},
		{"json", stiletest.AnswerJSON(201, `{"a": 1}`), 201, "application/json", nil, `{"a": 1}`},
		{"sse", stiletest.AnswerSSE("data: {\n", "data: }\r\n\r\n"), 200, "text/event-stream", nil, "data: {\ndata: }\r\n\r\n"},
		{"challenge", stiletest.AnswerChallenge(403, "{}", `Bearer error="insufficient_scope"`, "Basic"), 403, "application/json", []string{`Bearer error="insufficient_scope"`, "Basic"}, "{}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			upstream := stiletest.NewScripted(test.handler)
			w := httptest.NewRecorder()
			upstream.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "PUT", "/x", strings.NewReader("body")))
			if w.Code != test.status || w.Header().Get("Content-Type") != test.media || !slices.Equal(w.Header()["Www-Authenticate"], test.auth) || w.Body.String() != test.body {
				t.Errorf("answered %d %v %q", w.Code, w.Header(), w.Body)
			}
			if got := upstream.Recorded(); len(got) != 1 || got[0].Method != "PUT" || string(got[0].Body) != "body" {
				t.Errorf("recorded %+v", got)
			}
		})
	}
}

func TestScriptedBrokenBody(t *testing.T) {
	upstream := stiletest.NewScripted(stiletest.AnswerJSON(200, "{}"))
	w := httptest.NewRecorder()
	upstream.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", io.MultiReader(strings.NewReader("half"), broken{})))
	if w.Code != 400 || len(upstream.Recorded()) != 0 {
		t.Errorf("%d, %d recorded; a body that breaks off did not arrive", w.Code, len(upstream.Recorded()))
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
