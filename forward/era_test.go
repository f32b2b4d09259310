package forward_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/session"
)

// owned says who is asking by the header Owner, as the gateway's context does.
func owned(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner := session.Owner{Issuer: "https://idp.example.com", Subject: r.Header.Get("Owner")}
		h.ServeHTTP(w, r.WithContext(session.WithOwner(r.Context(), owner)))
	})
}

// eraOf is an Era over HTTP in front of a handler.
func eraOf(t *testing.T, upstream http.Handler, change func(*forward.EraConfig)) *commandFixture {
	t.Helper()
	f := &commandFixture{t: t, log: new(safeBuffer)}
	c := forward.EraConfig{Name: "fake", Upstream: upstream, Log: slog.New(slog.NewTextHandler(f.log, nil))}
	if change != nil {
		change(&c)
	}
	e, err := forward.NewEra(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(owned(e))
	f.url = server.URL
	t.Cleanup(func() {
		e.Close()
		server.CloseClientConnections()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Log(f.log)
		}
	})
	return f
}

// eraCommand is an Era in front of a fake server with habits.
func eraCommand(t *testing.T, habits string, change func(*forward.EraConfig)) *commandFixture {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := new(safeBuffer)
	c, err := forward.NewCommand(forward.CommandConfig{Name: "fake", Command: []string{exe}, Env: map[string]string{childVar: habits},
		StopGrace: 300 * time.Millisecond, StartTimeout: 20 * time.Second, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	f := eraOf(t, c, change)
	t.Cleanup(c.Close)
	return f
}

// asking is the envelope of a client of 2026-07-28 that can be asked.
const asking = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}`

// TestEraNewClientOldCommand: clients of 2026-07-28 in front of a program of the 2025
// revisions.
func TestEraNewClientOldCommand(t *testing.T) {
	f := eraCommand(t, "2025", nil)
	c := f.modern("ada")
	status, body, header := c.post(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{` + modernMeta + `}}}`)
	if status != 200 || !strings.Contains(body, `"supportedVersions":["2026-07-28","2025-11-25"]`) || header.Get("Mcp-Session-Id") != "" {
		t.Fatalf("%d %s", status, body)
	}
	if _, body, _ := c.post(call(7, modernMeta, "raw", "k", "é\u2028")); !strings.Contains(body, `\"arguments\":{\"k\":\"é`) || strings.Contains(body, "clientCapabilities") ||
		member(t, body, "result", "resultType") != "complete" {
		t.Errorf("what the server got: %s", body)
	}
	if status, body, _ := c.post(`{"jsonrpc":"2.0","id":2,"method":"ping","params":{"_meta":{` + modernMeta + `}}}`); status != 404 || member(t, body, "error", "code") != "-32601" {
		t.Errorf("a method that is no more: %d %s", status, body)
	}
	pid := func(c *client) string {
		_, body, _ := c.post(call(3, modernMeta, "who"))
		return member(t, body, "result", "pid")
	}
	if ada, bob := pid(c), pid(f.modern("bob")); ada != pid(c) || ada == bob {
		t.Errorf("processes of ada and bob: %s, %s", ada, bob)
	}
	t.Run("input", func(t *testing.T) {
		_, body, _ := c.post(call(4, asking, "ask", "method", "elicitation/create"))
		if member(t, body, "result", "resultType") != "input_required" {
			t.Fatal(body)
		}
		state := member(t, body, "result", "requestState")
		again := func(owner string) (int, string) {
			params := asking + fmt.Sprintf(`},"requestState":%q,"inputResponses":{"q1":{"action":"accept","content":{"n":1}}`, state)
			status, body, _ := f.modern(owner).post(call(5, params, "ask", "method", "elicitation/create"))
			return status, body
		}
		if status, body := again("bob"); status != 200 || member(t, body, "error", "code") != "-32602" {
			t.Errorf("a stranger comes back with it: %d %s", status, body)
		}
		if _, body := again("ada"); !strings.Contains(body, `"result":{"action":"accept","content":{"n":1}}`) {
			t.Errorf("its owner comes back with it: %s", body)
		}
	})
	t.Run("progress", func(t *testing.T) {
		r, _ := c.stream(call(6, `"progressToken":"p",`+modernMeta, "progress", "who", "ada"))
		events := r.rest()
		if len(events) != 4 || !strings.Contains(events[0].data, `"progressToken":"p"`) {
			t.Errorf("%+v", events)
		}
	})
	t.Run("the process ends", func(t *testing.T) {
		status, body, _ := c.post(call(11, modernMeta, "crash"))
		if status != 200 || member(t, body, "error", "code") != "502" {
			t.Errorf("%d %s", status, body)
		}
		await(t, func() bool {
			_, body, _ := c.post(call(12, modernMeta, "who"))
			return strings.Contains(body, `"resultType":"complete"`)
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			res := c.send(ctx, http.MethodPost, call(8, modernMeta, "hold", "name", "x"), "Accept", bothTypes)
			res.Body.Close()
		}()
		await(t, func() bool {
			_, body, _ := c.post(call(9, modernMeta, "holding"))
			return strings.Contains(body, `"x"`)
		})
		cancel()
		await(t, func() bool {
			_, body, _ := c.post(call(10, modernMeta, "seen"))
			return strings.Contains(body, "cancelled")
		})
	})
}

// TestEraIdle: what is held for a caller with the server ends when nothing is asked of
// it, but not while a call waits for its client.
func TestEraIdle(t *testing.T) {
	f := eraCommand(t, "2025", func(c *forward.EraConfig) { c.IdleTimeout = 50 * time.Millisecond })
	_, body, _ := f.modern("ada").post(call(1, asking, "ask", "method", "elicitation/create"))
	state := member(t, body, "result", "requestState")
	f.modern("bob").post(call(1, modernMeta, "who"))
	await(t, func() bool { return strings.Contains(f.log.String(), "idle child ended") }) // bob's, which is younger
	retry := asking + fmt.Sprintf(`},"requestState":%q,"inputResponses":{"q1":{"action":"accept"}`, state)
	if _, body, _ := f.modern("ada").post(call(2, retry, "ask", "method", "elicitation/create")); !strings.Contains(body, `"action":"accept"`) {
		t.Error(body)
	}
	await(t, func() bool { return strings.Count(f.log.String(), "idle child ended") == 2 })
}

// TestEraSilence: a server that does not answer a probe is taken for an older one.
func TestEraSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probes atomic.Int32
		e, err := forward.NewEra(forward.EraConfig{Log: slog.New(slog.DiscardHandler),
			Upstream: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				probes.Add(1)
				<-r.Context().Done()
			})})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for range 2 {
			if e.Modern(t.Context()) {
				t.Error("taken for one of 2026-07-28")
			}
		}
		if n := probes.Load(); n != 1 {
			t.Errorf("%d probes", n)
		}
	})
}

// TestEraOldClientNewCommand: clients of the 2025 revisions in front of a program of
// 2026-07-28.
func TestEraOldClientNewCommand(t *testing.T) {
	f := eraCommand(t, "2026", nil)
	c := f.open("ada")
	if _, body, _ := c.post(tool(7, "raw", "k", "é")); !strings.Contains(body, `\"arguments\":{\"k\":\"é`) || !strings.Contains(body, "clientCapabilities") ||
		strings.Contains(body, "resultType") {
		t.Errorf("what the server got: %s", body)
	}
	if status, _, _ := (&client{f: f, owner: "bob", session: c.session}).post(tool(1, "who")); status != 404 {
		t.Errorf("a stranger in the session: %d", status)
	}
	if status, body, _ := c.post(tool(2, "progress", "who", "x")); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	res := c.send(t.Context(), http.MethodDelete, "")
	res.Body.Close()
	if status, _, _ := c.post(tool(3, "who")); status != 404 {
		t.Errorf("after its end: %d", status)
	}
}

// TestEraLeavesItsOwnAlone: what the server speaks itself reaches it as it is.
func TestEraLeavesItsOwnAlone(t *testing.T) {
	for _, protocol := range []forward.Protocol{"", forward.ProtocolAuto} {
		f := eraCommand(t, "", func(c *forward.EraConfig) { c.Protocol = protocol })
		_, old, _ := f.open("ada").post(tool("a", "raw"))
		_, new, _ := f.modern("ada").post(call(1, modernMeta, "raw"))
		if !strings.Contains(old, `\"id\":\"a\"`) || strings.Contains(old, "clientCapabilities") || !strings.Contains(new, "clientCapabilities") {
			t.Errorf("old %s\nnew %s", old, new)
		}
	}
}

// TestEraKeepsSessions: a server that speaks both, and lists only the newer, does not
// lose its sessions when it is asked for its list.
func TestEraKeepsSessions(t *testing.T) {
	f := eraCommand(t, "", nil)
	old := f.open("ada")
	if _, new, _ := f.modern("ada").post(call(1, modernMeta, "raw")); !strings.Contains(new, "clientCapabilities") {
		t.Errorf("new: %s", new)
	}
	if status, body, _ := old.post(tool("b", "raw")); status != http.StatusOK || strings.Contains(body, "clientCapabilities") {
		t.Errorf("old: %d %s", status, body)
	}
}

// TestEraProtocol: what is set is not found out.
func TestEraProtocol(t *testing.T) {
	f := eraCommand(t, "", func(c *forward.EraConfig) { c.Protocol = forward.Protocol2025 })
	if _, body, _ := f.modern("ada").post(call(1, modernMeta, "raw")); strings.Contains(body, "clientCapabilities") {
		t.Errorf("2025: %s", body)
	}
	f = eraCommand(t, "", func(c *forward.EraConfig) { c.Protocol = forward.Protocol2026 })
	if _, body, _ := f.open("ada").post(tool(1, "raw")); !strings.Contains(body, "clientCapabilities") {
		t.Errorf("2026: %s", body)
	}
	_, err := forward.NewEra(forward.EraConfig{Protocol: "2024", MaxPerCaller: -1})
	var list problem.List
	if !errors.As(err, &list) || len(list) != 3 {
		t.Errorf("mistakes: %v", err)
	}
}

// TestEraFindsOut: which answers to a probe say what, and what is remembered.
func TestEraFindsOut(t *testing.T) {
	const modern, legacy, unclear = "modern", "legacy", "unclear"
	for _, c := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"discovered", `{"jsonrpc":"2.0","id":"stile-probe","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`, 200, modern},
		{"another revision", `{"jsonrpc":"2.0","id":"stile-probe","error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}}`, 400, modern},
		{"an error of its own", `{"jsonrpc":"2.0","id":"stile-probe","error":{"code":-32021,"message":""}}`, 400, modern},
		{"no such method", `{"jsonrpc":"2.0","id":"stile-probe","error":{"code":-32601,"message":""}}`, 200, legacy},
		{"no session", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}`, 400, legacy},
		{"nonsense", `Bad Request`, 400, legacy},
		{"not found", ``, 404, legacy},
		{"an empty result", `{"jsonrpc":"2.0","id":"stile-probe","result":{}}`, 200, legacy},
		{"down", ``, 503, unclear},
		{"not let in", ``, 401, unclear},
		{"forbidden", ``, 403, unclear},
	} {
		t.Run(c.name, func(t *testing.T) {
			var probes atomic.Int32
			f := eraOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				switch {
				case strings.Contains(string(body), "stile-probe"):
					probes.Add(1)
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
				case strings.Contains(string(body), "stile-initialize"):
					w.WriteHeader(http.StatusTeapot)
				default:
					_, _ = io.WriteString(w, "as it is")
				}
			}), nil)
			want := map[string]int32{modern: 1, legacy: 1, unclear: 2}[c.want]
			for range 2 {
				_, body, _ := f.modern("ada").post(call(1, modernMeta, "x"))
				if passed := body == "as it is"; passed != (c.want != legacy) {
					t.Errorf("answered %q", body)
				}
			}
			if n := probes.Load(); n != want {
				t.Errorf("%d probes, want %d", n, want)
			}
		})
	}
}

// TestEraDoesNotHoldStreams: an answer to initialize may be a stream that stays open.
func TestEraDoesNotHoldStreams(t *testing.T) {
	end := make(chan struct{})
	f := eraOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-end:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n")
	}), nil)
	r, _ := (&client{f: f}).stream(initialize("2025-11-25"))
	if e := r.message(); !strings.Contains(e.data, "result") {
		t.Errorf("%+v", e)
	}
	close(end)
	if e := r.message(); !strings.Contains(e.data, "notifications/x") {
		t.Errorf("%+v", e)
	}
}

// switchable is a server that becomes another one.
type switchable struct{ now atomic.Pointer[http.Handler] }

func (s *switchable) to(h http.Handler) { s.now.Store(&h) }

func (s *switchable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.now.Load()).ServeHTTP(w, r)
}

// TestEraFindsOutAnew: a server that was exchanged for one of the other generation.
func TestEraFindsOutAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := new(switchable)
		e, err := forward.NewEra(forward.EraConfig{Upstream: up, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		ask := func(version, body string) string {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("MCP-Protocol-Version", version)
			r.Header.Set("Accept", bothTypes)
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			return w.Body.String()
		}
		is := func(result string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				switch {
				case strings.Contains(string(body), "stile-probe"):
					_, _ = io.WriteString(w, result)
				case strings.Contains(string(body), "stile-initialize"):
					w.WriteHeader(http.StatusTeapot)
				default:
					_, _ = io.WriteString(w, "as it is")
				}
			})
		}
		modern := is(`{"jsonrpc":"2.0","id":"stile-probe","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`)
		legacy := is(`{"jsonrpc":"2.0","id":"stile-probe","error":{"code":-32601,"message":""}}`)
		down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })

		passes := func() {
			t.Helper()
			if got := ask("2026-07-28", call(1, modernMeta, "x")); got != "as it is" {
				t.Error(got)
			}
		}

		up.to(modern)
		passes()
		up.to(legacy) // which nobody has seen
		passes()
		up.to(down)
		ask("2026-07-28", call(1, modernMeta, "x"))
		up.to(legacy)
		if !e.Modern(t.Context()) {
			t.Error("asked again at once")
		}
		time.Sleep(time.Minute)
		if e.Modern(t.Context()) {
			t.Error("not asked again after a failure")
		}
		up.to(modern)
		if e.Modern(t.Context()) {
			t.Error("asked again without a reason")
		}
		up.to(down)
		ask("", initialize("2025-11-25"))
		time.Sleep(time.Minute)
		up.to(modern)
		passes()
	})
}

// twoGenerations are servers of the go-sdk that speak one generation, with a tool
// that asks for a name, and one that tells of its progress.
func twoGenerations(t *testing.T) map[string]http.Handler {
	t.Helper()
	options := &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	}
	old := mcp.NewServer(&mcp.Implementation{Name: "old", Version: "1"}, options)
	mcp.AddTool(old, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, in struct{ Who string }) (*mcp.CallToolResult, any, error) {
		answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: in.Who, RequestedSchema: nameSchema})
		if err != nil {
			return nil, nil, err
		}
		return text(fmt.Sprint(in.Who, " is ", answer.Content["name"])), nil, nil
	})
	new := mcp.NewServer(&mcp.Implementation{Name: "new", Version: "1"}, options)
	mcp.AddTool(new, &mcp.Tool{Name: "ask"}, func(_ context.Context, r *mcp.CallToolRequest, in struct{ Who string }) (*mcp.CallToolResult, any, error) {
		if answer, ok := r.Params.InputResponses["name"].(*mcp.ElicitResult); ok {
			return text(fmt.Sprint(in.Who, " is ", answer.Content["name"])), nil, nil
		}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"name": &mcp.ElicitParams{Message: in.Who, RequestedSchema: nameSchema}}}, nil, nil
	})
	for _, s := range []*mcp.Server{old, new} {
		mcp.AddTool(s, &mcp.Tool{Name: "progress"}, func(ctx context.Context, r *mcp.CallToolRequest, in struct{ Who string }) (*mcp.CallToolResult, any, error) {
			for i := range 5 {
				_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i), Message: in.Who})
			}
			return text(in.Who), nil, nil
		})
		mcp.AddTool(s, &mcp.Tool{Name: "touch"}, func(ctx context.Context, _ *mcp.CallToolRequest, in struct{ Who string }) (*mcp.CallToolResult, any, error) {
			return text("touched"), nil, s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: "note://" + in.Who})
		})
		s.AddResource(&mcp.Resource{URI: "note://all", Name: "all"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return nil, errors.New("nothing to read")
		})
	}
	modern := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return new }, &mcp.StreamableHTTPOptions{Stateless: true})
	return map[string]http.Handler{
		"old": mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return old }, nil),
		"new": modern,
	}
}

var nameSchema = &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{"name": {Type: "string"}}}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// asOwner is a transport that says who is asking.
type asOwner struct {
	owner string
	http.RoundTripper
}

func (a asOwner) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Owner", a.owner)
	return a.RoundTripper.RoundTrip(r)
}

// TestEraCallersNeverCross has several callers at once, each with several calls, ask
// and be asked across the generations, with real clients and servers. Each question,
// answer and progress reaches the caller it is about and nobody else.
func TestEraCallersNeverCross(t *testing.T) {
	for _, c := range []struct {
		server   string
		protocol forward.Protocol
		client   string
	}{{"old", forward.Protocol2025, "2026-07-28"}, {"new", forward.Protocol2026, "2025-11-25"}} {
		t.Run("client "+c.client, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Run("", func(t *testing.T) {
				f := eraOf(t, twoGenerations(t)[c.server], func(e *forward.EraConfig) { e.Protocol = c.protocol })
				var group sync.WaitGroup
				for _, owner := range []string{"ada", "bob", "eve"} {
					group.Go(func() { crossing(t, f.url, c.client, owner) })
				}
				group.Wait()
			})
			goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/modelcontextprotocol/go-sdk/mcp.(*StreamableHTTPHandler).ServeHTTP"))
		})
	}
}

// crossing is what one caller does.
func crossing(t *testing.T, url, version, owner string) {
	touched := make(chan struct{}, 100)
	strange := func(what string) { t.Errorf("%s heard of %s", owner, what) }
	client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			if !strings.HasPrefix(r.Params.Message, owner) {
				strange(r.Params.Message)
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "the " + r.Params.Message}}, nil
		},
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			if r.Params.URI != "note://"+owner {
				strange(r.Params.URI)
			}
			touched <- struct{}{}
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			if !strings.HasPrefix(r.Params.Message, owner) {
				strange(r.Params.Message)
			}
		},
	})
	s, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url,
		HTTPClient: &http.Client{Transport: asOwner{owner, http.DefaultTransport}}}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Error(owner, err)
		return
	}
	defer s.Close()
	if got := s.InitializeResult().ProtocolVersion; got != version {
		t.Errorf("the client speaks %s", got)
	}
	if err := s.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "note://" + owner}); err != nil {
		t.Error(owner, err)
		return
	}
	if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "touch", Arguments: map[string]any{"Who": owner}}); err != nil {
		t.Error(owner, err)
		return
	}
	select {
	case <-touched:
	case <-time.After(20 * time.Second):
		t.Errorf("%s did not hear of a change", owner)
	}
	var group sync.WaitGroup
	for i := range 5 {
		group.Go(func() {
			who := fmt.Sprintf("%s-%d", owner, i)
			for tool, want := range map[string]string{"ask": who + " is the " + who, "progress": who} {
				params := &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"Who": who}}
				params.SetProgressToken(who)
				result, err := s.CallTool(t.Context(), params)
				if err != nil {
					t.Error(owner, tool, err)
					continue
				}
				if got, _ := json.Marshal(result.Content); !strings.Contains(string(got), want) {
					t.Errorf("%s: %s answered %s", owner, tool, got)
				}
			}
		})
	}
	group.Wait()
}
