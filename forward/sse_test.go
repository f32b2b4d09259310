package forward_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mcpgo "github.com/mark3labs/mcp-go/mcp"
	mcpgoserver "github.com/mark3labs/mcp-go/server"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/internal/problem"
)

// front serves a handler the way a gateway does: with bodies that can be had again.
func front(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(body))), nil }
		r.Body, _ = r.GetBody()
		r.ContentLength = int64(len(body))
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

func newSSE(t *testing.T, c forward.SSEConfig) *forward.SSE {
	t.Helper()
	c.HTTP.Log = slog.New(slog.DiscardHandler)
	s, err := forward.NewSSE(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// goSDKTools are tools that use all a server may do beside answering.
func goSDKTools() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "old", Version: "1"}, nil)
	type none struct{}
	mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "sure?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: answer.Action}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "count"}, func(ctx context.Context, r *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		for i := range 3 {
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i)}); err != nil {
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "3"}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "more"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		s.AddPrompt(&mcp.Prompt{Name: "late"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{}, nil
		})
		return &mcp.CallToolResult{Content: []mcp.Content{}}, nil, nil
	})
	return s
}

// heard is what a go-sdk client was told besides answers.
type heard struct {
	progress atomic.Int32
	prompts  chan struct{}
}

func connectGoSDK(t *testing.T, transport mcp.Transport) (*mcp.ClientSession, *heard) {
	t.Helper()
	h := &heard{prompts: make(chan struct{}, 10)}
	c := mcp.NewClient(&mcp.Implementation{Name: "t", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "decline"}, nil
		},
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { h.progress.Add(1) },
		PromptListChangedHandler:    func(context.Context, *mcp.PromptListChangedRequest) { h.prompts <- struct{}{} },
	})
	s, err := c.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, h
}

func callText(t *testing.T, s *mcp.ClientSession, name string) string {
	t.Helper()
	p := &mcp.CallToolParams{Name: name}
	p.SetProgressToken("p")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	result, err := s.CallTool(ctx, p)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(result.Content) == 0 {
		return ""
	}
	return result.Content[0].(*mcp.TextContent).Text
}

// TestSSEServersOfOthers reaches legacy servers of two libraries with a client of
// the Streamable HTTP transport.
func TestSSEServersOfOthers(t *testing.T) {
	t.Run("go-sdk", func(t *testing.T) {
		server := goSDKTools()
		var credential atomic.Value
		legacy := mcp.NewSSEHandler(func(r *http.Request) *mcp.Server {
			credential.Store(r.Header.Get("X-Api-Key"))
			return server
		}, nil)
		upstream := httptest.NewServer(legacy)
		h := newSSE(t, forward.SSEConfig{HTTP: forward.HTTPConfig{URL: upstream.URL + "/sse", Header: http.Header{"X-Api-Key": {"own"}}}})
		t.Cleanup(upstream.Close)
		t.Cleanup(h.Close)
		if err := h.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v", err)
		}
		s, heard := connectGoSDK(t, &mcp.StreamableClientTransport{Endpoint: front(t, h)})
		if got := callText(t, s, "ask"); got != "decline" {
			t.Errorf("the server's question was answered with %q", got)
		}
		if got := callText(t, s, "count"); got != "3" {
			t.Errorf("count: %q", got)
		}
		await(t, func() bool { return heard.progress.Load() == 3 })
		callText(t, s, "more")
		<-heard.prompts // by the GET stream
		if got := credential.Load(); got != "own" {
			t.Errorf("the server got the credential %q", got)
		}
	})
	t.Run("mcp-go", func(t *testing.T) {
		server := mcpgoserver.NewMCPServer("old", "1", mcpgoserver.WithToolCapabilities(true))
		server.AddTool(mcpgo.NewTool("hello"), func(context.Context, mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
			return mcpgo.NewToolResultText("hello"), nil
		})
		legacy := mcpgoserver.NewSSEServer(server)
		upstream := httptest.NewServer(legacy)
		h := newSSE(t, forward.SSEConfig{HTTP: forward.HTTPConfig{URL: upstream.URL + "/sse"}})
		t.Cleanup(upstream.Close)
		t.Cleanup(h.Close)
		s, _ := connectGoSDK(t, &mcp.StreamableClientTransport{Endpoint: front(t, h)})
		if got := callText(t, s, "hello"); got != "hello" {
			t.Errorf("hello: %q", got)
		}
	})
}

// oldServer is a legacy server by hand.
type oldServer struct {
	endpoint string                                       // what the first event names
	get      func(w http.ResponseWriter, r *http.Request) // in place of the stream
	post     func(w http.ResponseWriter, r *http.Request, message string)

	mu     sync.Mutex
	events chan string
	got    []string
	closed atomic.Int32 // streams that ended
}

func (o *oldServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		o.mu.Lock()
		o.got = append(o.got, r.URL.RequestURI()+" "+string(body))
		o.mu.Unlock()
		o.post(w, r, string(body))
		return
	}
	if o.get != nil {
		o.get(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_, _ = fmt.Fprintf(w, ": hello\n\nevent: endpoint\ndata: %s\n\n", o.endpoint)
	_ = http.NewResponseController(w).Flush()
	defer o.closed.Add(1)
	for {
		select {
		case e := <-o.events:
			if e == "" {
				return
			}
			_, _ = io.WriteString(w, e)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (o *oldServer) say(message string) { o.events <- "event: message\ndata: " + message + "\n\n" }

const welcome = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05","capabilities":{},"serverInfo":{"name":"old","version":"1"}}}`

// old is a fixture like that of a Command, in front of a legacy server by hand.
func old(t *testing.T, o *oldServer, change func(*forward.SSEConfig)) *commandFixture {
	t.Helper()
	o.events = make(chan string, 10)
	if o.endpoint == "" {
		o.endpoint = "messages?s=1"
	}
	if o.post == nil {
		o.post = func(w http.ResponseWriter, _ *http.Request, message string) {
			if strings.Contains(message, `"initialize"`) {
				o.say(welcome)
			}
			w.WriteHeader(http.StatusAccepted)
		}
	}
	upstream := httptest.NewServer(o)
	c := forward.SSEConfig{Name: "old", HTTP: forward.HTTPConfig{URL: upstream.URL + "/base/sse"}}
	if change != nil {
		change(&c)
	}
	h := newSSE(t, c)
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	t.Cleanup(h.Close)
	return &commandFixture{t: t, url: front(t, h), log: new(safeBuffer)}
}

func TestSSESession(t *testing.T) {
	o := &oldServer{}
	f := old(t, o, nil)
	a := f.open("")
	events, end := a.listen()
	defer end()
	o.events <- ": comment\n\nevent: other\ndata: {}\n\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\"notifications/tools/list_changed\"}\n\n"
	if got := events.message().data; !strings.HasSuffix(got, `"method":"notifications/tools/list_changed"}`) {
		t.Errorf("a message without a type came as %q", got)
	}
	o.say(`{"jsonrpc":"2.0","id":"q","method":"roots/list"}`)
	if got := events.message().data; !strings.Contains(got, "roots/list") {
		t.Errorf("question %q", got)
	}
	if status, _, _ := a.post(`{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}`); status != http.StatusAccepted {
		t.Errorf("answer to the question: %d", status)
	}
	if res := a.send(t.Context(), http.MethodDelete, ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE: %d", res.StatusCode)
	}
	await(t, func() bool { return o.closed.Load() == 1 })
	if status, _, _ := a.post(tool(1, "x")); status != http.StatusNotFound {
		t.Errorf("after the end: %d", status)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	want := []string{"/base/messages?s=1 " + initialize("2025-11-25"), `/base/messages?s=1 {"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`/base/messages?s=1 {"jsonrpc":"2.0","id":"q","result":{"roots":[]}}`}
	if !slices.Equal(o.got, want) {
		t.Errorf("the server got\n%s\nwant\n%s", strings.Join(o.got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSSEEndpointIsTheServersOwn lets a server name places that must not get what
// callers say.
func TestSSEEndpointIsTheServersOwn(t *testing.T) {
	stolen := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s reached another server", r.Method, r.URL)
	}))
	defer stolen.Close()
	host := strings.TrimPrefix(stolen.URL, "http://")
	for _, endpoint := range []string{stolen.URL + "/m", "//" + host + "/m", "https://127.0.0.1/m", "http://localhost.example.com/m", "javascript:1", "http://[", "//user@127.0.0.1/m"} {
		t.Run(endpoint, func(t *testing.T) {
			o := &oldServer{endpoint: endpoint}
			f := old(t, o, nil)
			c := &client{f: f}
			if status, body, _ := c.post(initialize("2025-06-18")); status != http.StatusBadGateway || strings.Contains(body, "127.0.0.1") {
				t.Errorf("status %d, body %s", status, body)
			}
			if len(o.got) > 0 {
				t.Errorf("messages went to %q", o.got)
			}
		})
	}
}

func TestSSERefusals(t *testing.T) {
	challenge := `Bearer error="insufficient_scope", scope="a"`
	refuse := func(status int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "no")
		}
	}
	t.Run("of the stream", func(t *testing.T) {
		for status, want := range map[int]int{401: 401, 403: 403, 500: 500, 302: 502, 204: 502} {
			f := old(t, &oldServer{get: refuse(status)}, nil)
			c := &client{f: f}
			got, _, header := c.post(initialize("2025-06-18"))
			if got != want || (want == 403) != (header.Get("WWW-Authenticate") == challenge) && want != 401 && want != 500 {
				t.Errorf("%d became %d with %q, want %d", status, got, header.Get("WWW-Authenticate"), want)
			}
		}
	})
	t.Run("no event stream", func(t *testing.T) {
		f := old(t, &oldServer{get: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }}, nil)
		c := &client{f: f}
		if got, _, _ := c.post(initialize("2025-06-18")); got != http.StatusBadGateway {
			t.Errorf("status %d", got)
		}
	})
	for status, want := range map[int]int{403: 403, 400: 400, 500: 500, 404: 404, 410: 404, 307: 502} {
		t.Run(fmt.Sprint("of a message ", status), func(t *testing.T) {
			o := &oldServer{}
			o.post = func(w http.ResponseWriter, r *http.Request, message string) {
				switch {
				case strings.Contains(message, `"initialize"`):
					o.say(welcome)
				case strings.Contains(message, "tools/call"):
					refuse(status)(w, r)
					return
				}
				w.WriteHeader(http.StatusAccepted)
			}
			c := old(t, o, nil).open("")
			got, _, header := c.post(tool(1, "x"))
			if got != want || want == 403 && header.Get("WWW-Authenticate") != challenge {
				t.Errorf("became %d with %q, want %d", got, header.Get("WWW-Authenticate"), want)
			}
			again := http.StatusOK
			if want == 404 {
				again = http.StatusNotFound
			}
			o.post = func(w http.ResponseWriter, _ *http.Request, _ string) { o.say(`{"jsonrpc":"2.0","id":2,"result":{}}`) }
			if got, _, _ := c.post(`{"jsonrpc":"2.0","id":2,"method":"ping"}`); got != again {
				t.Errorf("afterwards %d, want %d", got, again)
			}
		})
	}
}

// TestSSEPostThatAnswersLast has a server that takes a message only when the call
// is done, and asks something before.
func TestSSEPostThatAnswersLast(t *testing.T) {
	o := &oldServer{}
	answered, refuse := make(chan struct{}), make(chan struct{})
	o.post = func(w http.ResponseWriter, r *http.Request, message string) {
		switch {
		case strings.Contains(message, `"initialize"`):
			o.say(welcome)
		case strings.Contains(message, `"late"`):
			o.say(`{"jsonrpc":"2.0","id":"q","method":"roots/list"}`)
			<-answered
			o.say(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		case strings.Contains(message, `"refused"`):
			<-refuse
			w.WriteHeader(http.StatusTeapot)
			return
		case strings.Contains(message, `"roots"`):
			close(answered)
		}
		w.WriteHeader(http.StatusAccepted)
	}
	c := old(t, o, nil).open("")
	events, end := c.stream(tool(1, "late"))
	defer end()
	if got := events.message().data; !strings.Contains(got, "roots/list") {
		t.Fatalf("first %q", got)
	}
	if status, _, _ := c.post(`{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}`); status != http.StatusAccepted {
		t.Errorf("answer: %d", status)
	}
	if got := events.message().data; got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("then %q", got)
	}
	events, end = c.stream(tool(2, "refused"))
	defer end()
	close(refuse) // only now: the stream has begun, so the POST counts as taken
	if got := events.message().data; !strings.Contains(got, `"id":2`) || !strings.Contains(got, `"code":502`) {
		t.Errorf("the call refused late was answered with %q", got)
	}
}

func TestSSEStreamThatEnds(t *testing.T) {
	for name, last := range map[string]string{"in order": "", "an event over the limit": "data: " + strings.Repeat("x", 5<<20) + "\n\n"} {
		t.Run(name, func(t *testing.T) {
			o := &oldServer{}
			c := old(t, o, nil).open("")
			done := make(chan string)
			go func() {
				_, body, _ := c.post(tool(7, "x"))
				done <- body
			}()
			await(t, func() bool { o.mu.Lock(); defer o.mu.Unlock(); return len(o.got) == 3 })
			o.events <- last
			if got := <-done; !strings.Contains(got, `"id":7`) || !strings.Contains(got, `"error"`) {
				t.Errorf("the call under way was answered with %s", got)
			}
			if status, _, _ := c.post(tool(8, "x")); status != http.StatusNotFound {
				t.Errorf("the session afterwards: %d", status)
			}
		})
	}
}

func TestSSESharedConnection(t *testing.T) {
	var streams atomic.Int32
	server := goSDKTools()
	legacy := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { streams.Add(1); return server }, nil)
	upstream := httptest.NewServer(legacy)
	h := newSSE(t, forward.SSEConfig{HTTP: forward.HTTPConfig{URL: upstream.URL}, Sessions: forward.CommandConfig{Isolation: forward.IsolateShared}})
	t.Cleanup(upstream.Close)
	t.Cleanup(h.Close)
	url := front(t, h)
	for range 3 {
		s, _ := connectGoSDK(t, &mcp.StreamableClientTransport{Endpoint: url})
		if got := callText(t, s, "count"); got != "3" {
			t.Errorf("count: %q", got)
		}
	}
	if n := streams.Load(); n != 1 {
		t.Errorf("%d connections to the server, want 1", n)
	}
}

func TestSSEUnreachable(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	h := newSSE(t, forward.SSEConfig{HTTP: forward.HTTPConfig{URL: gone.URL}})
	if h.Ready(t.Context()) == nil {
		t.Error("ready")
	}
	c := &client{f: &commandFixture{t: t, url: front(t, h)}}
	if status, body, _ := c.post(initialize("2025-11-25")); status != http.StatusBadGateway || !strings.Contains(body, "cannot be reached") {
		t.Errorf("%d %s", status, body)
	}
}

func TestSSEConfig(t *testing.T) {
	_, err := forward.NewSSE(forward.SSEConfig{HTTP: forward.HTTPConfig{URL: "ftp://x"}, Sessions: forward.CommandConfig{Isolation: "none", MaxChildren: -1}})
	var list problem.List
	if !errors.As(err, &list) || len(list) != 3 {
		t.Errorf("mistakes: %v", err)
	}
}

// TestDetect has URLs of both transports behind one forwarder.
func TestDetect(t *testing.T) {
	server := goSDKTools()
	legacy := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil)
	modern := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	tests := []struct {
		name    string
		handler http.HandlerFunc
		works   bool
		status  int
	}{
		{"streamable", modern.ServeHTTP, true, 0},
		{"legacy that refuses a POST by 400", legacy.ServeHTTP, true, 0},
		{"legacy that refuses a POST by 405", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.RawQuery == "" {
				http.Error(w, "no", http.StatusMethodNotAllowed)
				return
			}
			legacy.ServeHTTP(w, r)
		}, true, 0},
		{"neither", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone fishing", http.StatusNotFound) }, false, 404},
		{"forbidden", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, false, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			upstream := httptest.NewServer(tt.handler)
			d, err := forward.NewDetect(forward.SSEConfig{HTTP: forward.HTTPConfig{URL: upstream.URL, Log: slog.New(slog.DiscardHandler)}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(upstream.Close)
			t.Cleanup(d.Close)
			url := front(t, d)
			if !tt.works {
				c := &client{f: &commandFixture{t: t, url: url}}
				if status, body, _ := c.post(initialize("2025-11-25")); status != tt.status || tt.status == 404 && body != "gone fishing\n" {
					t.Errorf("%d %s", status, body)
				}
				return
			}
			for range 2 {
				s, _ := connectGoSDK(t, &mcp.StreamableClientTransport{Endpoint: url})
				if got := callText(t, s, "ask"); got != "decline" {
					t.Errorf("ask: %q", got)
				}
			}
		})
	}
}
