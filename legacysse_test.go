package stile_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mcpgoclient "github.com/mark3labs/mcp-go/client"
	mcpgo "github.com/mark3labs/mcp-go/mcp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

func withLegacy(c *stile.Config) { c.Servers[0].LegacySSE = true }

// legacyClient is a legacy client by hand.
type legacyClient struct {
	t      *testing.T
	server *httptest.Server
	token  string
	post   string // where messages go
	lines  *bufio.Scanner
	close  func()
}

// openLegacy opens the event stream.
func openLegacy(t *testing.T, server *httptest.Server, token string) *legacyClient {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := stream(token)
	a.path = "/mcp/sse"
	res, err := server.Client().Do(a.request(t, server.URL).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("GET: %d %v", res.StatusCode, res.Header)
	}
	c := &legacyClient{t: t, server: server, token: token, lines: bufio.NewScanner(res.Body)}
	c.lines.Buffer(nil, 1<<20)
	c.close = func() {
		cancel()
		res.Body.Close()
	}
	t.Cleanup(c.close)
	kind, data := c.event()
	if kind != "endpoint" || !strings.HasPrefix(data, "/mcp/messages?sessionId=") {
		t.Fatalf("first event %q: %q", kind, data)
	}
	c.post = data
	return c
}

// event reads one event; both are empty at the end.
func (c *legacyClient) event() (kind, data string) {
	for c.lines.Scan() {
		line := c.lines.Text()
		switch {
		case line == "" && data != "":
			return kind, data
		case strings.HasPrefix(line, "event: "):
			kind = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			data += line[len("data: "):]
		}
	}
	return "", ""
}

// message reads one message.
func (c *legacyClient) message() string {
	c.t.Helper()
	kind, data := c.event()
	if kind != "message" {
		c.t.Fatalf("event %q: %q", kind, data)
	}
	return data
}

// send posts a message, of this caller or another, and returns the answer.
func (c *legacyClient) send(token, body string) (*http.Response, string) {
	c.t.Helper()
	res := send(c.t, c.server, ask{path: c.post, token: token, body: body})
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res, string(text)
}

// accepted posts a message that is taken.
func (c *legacyClient) accepted(body string) {
	c.t.Helper()
	if res, text := c.send(c.token, body); res.StatusCode != http.StatusAccepted || text != "" {
		c.t.Fatalf("%s: %d %s", body, res.StatusCode, text)
	}
}

const legacyInitialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

// initialize begins the session.
func (c *legacyClient) initialize() *legacyClient {
	c.t.Helper()
	c.accepted(legacyInitialize)
	if got := c.message(); !strings.Contains(got, `"protocolVersion"`) {
		c.t.Fatalf("initialize: %s", got)
	}
	c.accepted(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return c
}

func legacyTool(id int, name, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, id, name, args)
}

// TestLegacySSEIsJudged sends what policies judge over the legacy transport.
func TestLegacySSEIsJudged(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, withLegacy)
	server := serve(t, f.gateway)
	token := f.token("notes:read")
	c := openLegacy(t, server, token).initialize()
	c.accepted(legacyTool(1, "list_notes", `{}`))
	if got := c.message(); !strings.Contains(got, `"id":1`) || strings.Contains(got, `"error"`) {
		t.Errorf("list_notes: %s", got)
	}
	calls := f.notes.Calls("delete_note")
	res, body := c.send(token, legacyTool(2, "delete_note", `{"id":"1"}`))
	checkRefusal(t, res.StatusCode, res.Header, []byte(body), http.StatusForbidden, "2")
	if got := res.Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_scope", scope="notes:read notes:write"`) {
		t.Errorf("challenge %q", got)
	}
	if f.notes.Calls("delete_note") != calls {
		t.Error("the tool was called")
	}
	// What is final is told in-band, which is on the stream.
	c.accepted(legacyTool(3, "drop_everything", `{}`))
	if got := c.message(); !strings.Contains(got, `"id":3`) || !strings.Contains(got, "not offered through this gateway") {
		t.Errorf("drop_everything: %s", got)
	}
	// Stepped up, on the same stream.
	wide := f.token("notes:write")
	if res, _ := c.send(wide, legacyTool(4, "delete_note", `{"id":"1"}`)); res.StatusCode != http.StatusAccepted {
		t.Errorf("stepped up: %d", res.StatusCode)
	}
	if got := c.message(); !strings.Contains(got, `"id":4`) || f.notes.Calls("delete_note") != calls+1 {
		t.Errorf("stepped up: %s", got)
	}
	// Lists are rewritten once, as everywhere.
	c.accepted(`{"jsonrpc":"2.0","id":5,"method":"tools/list"}`)
	if got := c.message(); !strings.Contains(got, "securitySchemes") || strings.Contains(got, "drop_everything") {
		t.Errorf("tools/list: %s", got)
	}
	for _, r := range f.records(t) {
		if r["server"] != "notes" || r["request_id"] == "" {
			t.Errorf("audit record %v", r)
		}
	}
	if got := len(f.records(t)); got != 8 {
		t.Errorf("%d audit records, want one for the stream and each message: 8", got)
	}
}

// TestLegacySSERefusals is what the two paths do not take.
func TestLegacySSERefusals(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, withLegacy)
	server := serve(t, f.gateway)
	token := f.token("notes:read")
	c := openLegacy(t, server, token).initialize()
	stranger := f.mint(stiletest.Claims{Subject: "mallory", Scope: "notes:read"})
	upstream := f.reached()
	ping := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	get := func(path, token string) ask {
		a := stream(token)
		a.path = path
		return a
	}
	tests := []struct {
		name   string
		ask    ask
		status int
	}{
		{"stream without a token", get("/mcp/sse", ""), 401},
		{"stream without the baseline", get("/mcp/sse", f.token("other")), 403},
		{"stream of a bad token", get("/mcp/sse", "bad"), 401},
		{"stream that accepts JSON only", ask{method: http.MethodGet, path: "/mcp/sse", token: token}.with("Accept", "application/json"), 406},
		{"stream of a strange page", get("/mcp/sse", token).with("Origin", "https://evil.example.com"), 403},
		{"token in the query", get("/mcp/sse?access_token="+token, ""), 400},
		{"POST to the stream", ask{path: "/mcp/sse", token: token, body: ping}, 405},
		{"POST to the stream without a token", ask{path: "/mcp/sse", body: ping}, 401},
		{"GET of the messages", get(c.post, token), 405},
		{"DELETE of the messages", ask{method: http.MethodDelete, path: c.post, token: token}, 405},
		{"message without a token", ask{path: c.post, body: ping}, 401},
		{"message without the baseline", ask{path: c.post, token: f.token("other"), body: ping}, 403},
		{"message of another person", ask{path: c.post, token: stranger, body: ping}, 404},
		{"message without a stream", ask{path: "/mcp/messages", token: token, body: ping}, 400},
		{"message for two streams", ask{path: c.post + "&sessionId=x", token: token, body: ping}, 400},
		{"message for no stream", ask{path: "/mcp/messages?sessionId=x", token: token, body: ping}, 404},
		{"message for a session id of the other transport", ask{path: "/mcp/messages?sessionId=" + begin(t, f.gateway, token), token: token, body: ping}, 404},
		{"no JSON", ask{path: c.post, token: token, body: "x"}, 400},
		{"a batch", ask{path: c.post, token: token, body: "[" + ping + "]"}, 400},
		{"another media type", ask{path: c.post, token: token, body: ping}.with("Content-Type", "text/plain"), 415},
		{"an id of a stream as a session", ask{token: token, body: ping}.inSession(strings.TrimPrefix(c.post, "/mcp/messages?sessionId=")), 404},
	}
	upstream++ // begin, above
	// A client that asks for it first goes on with initialize, and must not lose its
	// connection, as go-sdk's would.
	modern := rpc(era2026, token, "tools/list", "")
	modern.path = c.post
	if res := send(t, server, modern); res.StatusCode != http.StatusAccepted {
		t.Errorf("2026-07-28: %d", res.StatusCode)
	}
	if e := readError(t, []byte(c.message())); e.Error.Code != -32601 || string(e.ID) != "7" {
		t.Errorf("2026-07-28: %+v", e)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := send(t, server, tt.ask)
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d: %s", res.StatusCode, tt.status, body)
			}
			if challenged := res.Header.Get("WWW-Authenticate") != ""; challenged != (tt.status == 401 || tt.status == 403 && !strings.Contains(tt.name, "page") || strings.Contains(tt.name, "query")) {
				t.Errorf("challenge %q", res.Header.Get("WWW-Authenticate"))
			}
		})
	}
	if got := f.reached(); got > upstream+1 { // the upstream's own stream may just have been opened
		t.Errorf("%d requests reached the upstream", got-upstream)
	}
	c.close()
	for { // until the gateway has noticed
		if res, _ := c.send(token, ping); res.StatusCode == http.StatusNotFound {
			break
		}
	}
	off := newFixture(t, notesPolicy, nil)
	if w := do(t, off.gateway, get("/mcp/sse", off.token("notes:read"))); w.Code != http.StatusNotFound {
		t.Errorf("without legacy_sse: %d", w.Code)
	}
}

// scriptedLegacy is a gateway in front of an upstream by hand.
func scriptedLegacy(t *testing.T, script http.HandlerFunc) (*fixture, *legacyClient) {
	t.Helper()
	f := newFixture(t, notesPolicy, script, withLegacy)
	server := serve(t, f.gateway)
	return f, openLegacy(t, server, f.token("notes:read"))
}

// TestLegacySSELateAnswers has an upstream that thinks for longer than a POST waits.
func TestLegacySSELateAnswers(t *testing.T) {
	finish := make(chan struct{})
	_, c := scriptedLegacy(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch text := string(body); {
		case strings.Contains(text, `"initialize"`):
			answerTool(w, r)
		case strings.Contains(text, `"id":1`):
			<-finish
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="notes:write"`)
			w.WriteHeader(http.StatusForbidden)
		case strings.Contains(text, `"id":2`):
			<-finish
			http.Error(w, "broken", http.StatusInternalServerError)
		case strings.Contains(text, `"id":3`):
			<-finish
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, ": nothing\n\n")
		case strings.Contains(text, `"id":4`):
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="notes:write"`)
			w.WriteHeader(http.StatusForbidden)
		case strings.Contains(text, `"id":5`):
			<-finish
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
	c.accepted(legacyInitialize)
	c.message()
	for _, id := range []int{1, 2, 3, 5} {
		c.accepted(legacyTool(id, "get_note", `{}`))
	}
	if res, _ := c.send(c.token, legacyTool(4, "get_note", `{}`)); res.StatusCode != http.StatusForbidden ||
		!strings.Contains(res.Header.Get("WWW-Authenticate"), `scope="notes:read notes:write"`) {
		t.Errorf("an upstream's refusal at once: %d %q", res.StatusCode, res.Header.Get("WWW-Authenticate"))
	}
	close(finish)
	got := map[string]int{}
	for range 4 {
		e := readError(t, []byte(c.message()))
		got[string(e.ID)] = e.Error.Code
	}
	if want := map[string]int{"1": 403, "2": 500, "3": 502, "5": 502}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("late answers %v, want %v", got, want)
	}
}

// TestLegacySSEEnds ends streams in all the ways there are.
func TestLegacySSEEnds(t *testing.T) {
	t.Run("with the token", func(t *testing.T) {
		f := newFixture(t, notesPolicy, nil, withLegacy)
		server := serve(t, f.gateway)
		c := openLegacy(t, server, f.mint(stiletest.Claims{Scope: "notes:read", Expiry: time.Now().Add(-27 * time.Second)}))
		if kind, data := c.event(); kind != "" {
			t.Errorf("event %q: %q", kind, data)
		}
	})
	t.Run("of a client that is gone", func(t *testing.T) {
		ended := make(chan string, 1)
		inner := numbered()
		_, c := scriptedLegacy(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				ended <- r.Header.Get("Mcp-Session-Id")
				return
			}
			inner(w, r)
		})
		c.accepted(legacyInitialize)
		c.message()
		c.close()
		if id := <-ended; id != "upstream-1" {
			t.Errorf("the session %q was ended", id)
		}
	})
	t.Run("when the gateway drains, after the last answer", func(t *testing.T) {
		finish, begun := make(chan struct{}), make(chan struct{})
		f, c := scriptedLegacy(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				close(begun)
				<-finish
			}
			answerTool(w, r)
		})
		c.accepted(legacyTool(7, "get_note", `{}`))
		<-begun
		f.gateway.Drain()
		if res, _ := c.send(c.token, legacyTool(10, "get_note", `{}`)); res.StatusCode != http.StatusNotFound {
			t.Errorf("a call while draining: %d", res.StatusCode)
		}
		close(finish)
		if got := c.message(); !strings.Contains(got, `"id":7`) {
			t.Errorf("answer %s", got)
		}
		if kind, data := c.event(); kind != "" {
			t.Errorf("event %q: %q", kind, data)
		}
	})
}

// TestLegacySSECallsAreBounded keeps as many calls under way as may be.
func TestLegacySSECallsAreBounded(t *testing.T) {
	finish := make(chan struct{})
	_, c := scriptedLegacy(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-finish
	})
	defer close(finish)
	for i := range 64 {
		c.accepted(legacyTool(i, "get_note", `{}`))
	}
	if res, _ := c.send(c.token, legacyTool(64, "get_note", `{}`)); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", res.StatusCode)
	}
}

// bearer adds a token to every request of an HTTP client.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// TestLegacySSEClientsOfOthers reaches servers of either transport with legacy
// clients of two libraries.
func TestLegacySSEClientsOfOthers(t *testing.T) {
	type none struct{}
	prompted := &mcp.Prompt{Name: "late"}
	server := func() *mcp.Server {
		s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
		mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
			answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "sure?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
			if err != nil {
				return nil, nil, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: answer.Action}}}, nil, nil
		})
		mcp.AddTool(s, &mcp.Tool{Name: "more"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
			s.AddPrompt(prompted, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
				return &mcp.GetPromptResult{}, nil
			})
			return &mcp.CallToolResult{Content: []mcp.Content{}}, nil, nil
		})
		return s
	}
	streamable, legacy := server(), server()
	upstreams := map[string]http.Handler{
		"streamable": mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return streamable }, nil),
		"legacy":     mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return legacy }, nil),
	}
	for name, handler := range upstreams {
		t.Run(name, func(t *testing.T) {
			upstream := httptest.NewServer(handler)
			t.Cleanup(upstream.Close)
			t.Cleanup(upstream.CloseClientConnections)
			f := newFixture(t, "baseline: a\ndefault: a\n", answerTool, withLegacy, func(c *stile.Config) {
				c.Servers[0].Upstream = forwardTo(t, upstream.URL)
				if name == "legacy" {
					s, err := forward.NewSSE(forward.SSEConfig{HTTP: forward.HTTPConfig{URL: upstream.URL}})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(s.Close)
					c.Servers[0].Upstream = s
				}
			})
			gateway := serve(t, f.gateway)
			token := bearer(f.token("a"))

			prompts := make(chan struct{}, 10)
			c := mcp.NewClient(&mcp.Implementation{Name: "t", Version: "1"}, &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "decline"}, nil
				},
				PromptListChangedHandler: func(context.Context, *mcp.PromptListChangedRequest) { prompts <- struct{}{} },
			})
			s, err := c.Connect(t.Context(), &mcp.SSEClientTransport{Endpoint: gateway.URL + "/mcp/sse", HTTPClient: &http.Client{Transport: token}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			result, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "ask"})
			if err != nil || result.Content[0].(*mcp.TextContent).Text != "decline" {
				t.Fatalf("ask: %v %v", result, err)
			}
			if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "more"}); err != nil {
				t.Fatal(err)
			}
			<-prompts

			other, err := mcpgoclient.NewSSEMCPClient(gateway.URL+"/mcp/sse", mcpgoclient.WithHTTPClient(&http.Client{Transport: token}))
			if err == nil {
				err = other.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err := other.Initialize(t.Context(), mcpgo.InitializeRequest{Params: mcpgo.InitializeParams{ProtocolVersion: "2024-11-05", ClientInfo: mcpgo.Implementation{Name: "t", Version: "1"}}}); err != nil {
				t.Fatal(err)
			}
			tools, err := other.ListTools(t.Context(), mcpgo.ListToolsRequest{})
			if err != nil || len(tools.Tools) != 2 {
				t.Errorf("tools/list of mcp-go: %v %v", tools, err)
			}
		})
	}
}

func TestLegacySSEPathsAreItsOwn(t *testing.T) {
	f := newFixture(t, notesPolicy, nil, withLegacy)
	c := f.config
	second := c.Servers[0]
	second.Name, second.Path, second.LegacySSE = "second", "/mcp/sse", false
	c.Servers = append(c.Servers[:1:1], second)
	if _, err := stile.New(c); err == nil || !strings.Contains(err.Error(), "legacy transport of server notes") {
		t.Errorf("a server at a path of the legacy transport: %v", err)
	}
}

// TestLegacySSEKeepsAlive sends comments on a quiet stream.
func TestLegacySSEKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, silent(""), withLegacy, func(c *stile.Config) { c.KeepAlive = 10 * time.Second })
		a := stream("r")
		a.path = "/mcp/sse"
		w := open(t, g, a)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if got := w.got(); len(got) != 3 || !strings.HasPrefix(got[0], "0s event: endpoint") || got[1] != "10s :" || got[2] != "20s :" {
			t.Errorf("got %q", got)
		}
		g.Drain()
		<-w.done
	})
}
