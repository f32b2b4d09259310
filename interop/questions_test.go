package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// everythingOverHTTP runs npm's server-everything on a port of its own.
func everythingOverHTTP(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"PORT=" + port}, node(t), absolute(t, "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "streamableHttp")
	limit := time.After(startLimit)
	for {
		connection, err := net.Dial("tcp", "localhost:"+port)
		if err == nil {
			connection.Close()
			return "http://localhost:" + port + "/mcp"
		}
		select {
		case <-p.exited:
			t.Fatalf("server-everything ended:\n%s", p.stderr)
		case <-limit:
			t.Fatalf("server-everything does not listen: %v\n%s", err, p.stderr)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestQuestionsAcross has a client of 2026-07-28 asked for everything that
// server-everything, of the 2025 revisions, can ask for: by a form, by a URL, by the
// error that demands a URL, for a sample and for roots; and told of progress and of
// changes to a resource.
func TestQuestionsAcross(t *testing.T) {
	for name, config := range map[string]func(t *testing.T) stileConfig{
		"by URL":       func(t *testing.T) stileConfig { return stileConfig{upstream: everythingOverHTTP(t)} },
		"as a command": func(t *testing.T) stileConfig { return stileConfig{command: commands[0].command(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			var asked, progress, updates atomic.Int32
			s := questioned(t, injectToken(t, config(t)), &asked, &progress, &updates)
			for _, c := range []struct {
				tool      string
				arguments map[string]any
				questions int32
				want      string
			}{
				{"trigger-elicitation-request", map[string]any{}, 1, "Ada"},
				{"trigger-sampling-request", map[string]any{"prompt": "x", "maxTokens": 10}, 1, "a sample"},
				{"get-roots-list", map[string]any{}, 0, "file:///home/ada"}, // the client answers by itself
				{"trigger-url-elicitation", map[string]any{"url": "https://example.com/a", "message": "Go", "elicitationId": "a"}, 1, "accept"},
				{"trigger-url-elicitation", map[string]any{"url": "https://example.com/b", "message": "Go", "elicitationId": "b", "errorPath": true}, 2, "accept"},
				{"trigger-long-running-operation", map[string]any{"duration": 1, "steps": 3}, 0, "completed"},
			} {
				asked.Store(0)
				params := &mcp.CallToolParams{Name: c.tool, Arguments: c.arguments}
				params.SetProgressToken(c.tool)
				result, err := s.CallTool(t.Context(), params)
				if err != nil {
					t.Errorf("%s: %v", c.tool, err)
					continue
				}
				text, _ := json.Marshal(result.Content)
				if n := asked.Load(); result.IsError || n != c.questions || !strings.Contains(string(text), c.want) {
					t.Errorf("%s: %d questions, %s", c.tool, n, text)
				}
			}
			if progress.Load() == 0 {
				t.Error("no progress was told")
			}
			hearsOfUpdates(t, s, &updates)
		})
	}
}

// questioned is a session of a client that answers everything.
func questioned(t *testing.T, endpoint string, asked, progress, updates *atomic.Int32) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "questioned", Version: "1"}, &mcp.ClientOptions{
		//nolint:staticcheck // deprecated, and what older servers ask for
		Capabilities: &mcp.ClientCapabilities{RootsV2: &mcp.RootCapabilities{},
			Elicitation: &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked.Add(1)
			if r.Params.Mode == "url" {
				return &mcp.ElicitResult{Action: "accept"}, nil
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		//nolint:staticcheck // deprecated, and what older servers ask for
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			asked.Add(1)
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "a sample"}}, nil
		},
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { progress.Add(1) },
		ResourceUpdatedHandler:      func(context.Context, *mcp.ResourceUpdatedNotificationRequest) { updates.Add(1) },
	})
	//nolint:staticcheck // as above
	client.AddRoots(&mcp.Root{URI: "file:///home/ada", Name: "home"})
	s, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: endpoint}, &mcp.ClientSessionOptions{ProtocolVersion: era2026})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if got := s.InitializeResult().ProtocolVersion; got != era2026 {
		t.Fatal(fmt.Errorf("negotiated %s", got))
	}
	return s
}

// hearsOfUpdates has the server send news of a resource until one is heard.
func hearsOfUpdates(t *testing.T, s *mcp.ClientSession, updates *atomic.Int32) {
	t.Helper()
	const uri = "demo://resource/static/document/features.md"
	if err := s.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
		t.Error(err)
		return
	}
	if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "toggle-subscriber-updates", Arguments: map[string]any{}}); err != nil {
		t.Error(err)
		return
	}
	limit := time.After(runLimit)
	for updates.Load() == 0 {
		select {
		case <-limit:
			t.Error("no news of the resource")
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestTypescriptServersAcross calls the TypeScript servers of either generation from
// the other: sdk 1.32.2, without sessions, and server 2.4.0.
func TestTypescriptServersAcross(t *testing.T) {
	ts := startTypescript(t)
	for _, c := range []struct{ name, url, client string }{
		{"sdk 1.32.2", ts.url + "/v1", era2026},
		{"server 2.4.0", only(t, ts.url+"/mcp", era2026), era2025},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := mcp.NewClient(&mcp.Implementation{Name: "across", Version: "1"}, nil)
			s, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: injectToken(t, stileConfig{upstream: c.url})},
				&mcp.ClientSessionOptions{ProtocolVersion: c.client})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := s.InitializeResult().ProtocolVersion; got != c.client {
				t.Fatalf("negotiated %s", got)
			}
			ts.deeds(t)
			if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_note", Arguments: map[string]any{"title": "é😀"}}); err != nil {
				t.Error(err)
			}
			if _, err := s.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "summarise", Arguments: map[string]string{"id": "1"}}); err != nil {
				t.Error(err)
			}
			if _, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "note://index"}); err != nil {
				t.Error(err)
			}
			deeds := ts.deeds(t)
			if len(deeds) != 3 || string(deeds[0].Arguments) != `{"title":"é😀"}` || deeds[1].Target != "summarise" || deeds[2].Target != "note://index" {
				t.Errorf("done: %+v", deeds)
			}
		})
	}
}

// TestTypescriptClientsAreAskedAcross has the TypeScript clients step up to a tool that
// then asks them for a name: by a request, for which the client of 2026-07-28 is asked
// by a result, and the reverse.
func TestTypescriptClientsAreAskedAcross(t *testing.T) {
	as := startIssuer(t, "SCOPES=use tools resources prompts")
	for _, c := range []struct {
		name, era, tool string
		drive           flow
		config          func(t *testing.T) stileConfig
	}{
		{"client 2.4.0", era2026, "trigger-elicitation-request", nodeFlow("client-ts/flow.mjs"),
			func(t *testing.T) stileConfig { return stileConfig{command: commands[0].command(t)} }},
		{"client 2.4.0", era2025, "test_elicitation", nodeFlow("client-ts/flow.mjs"),
			func(t *testing.T) stileConfig {
				return stileConfig{upstream: only(t, askingServer(t, era2026), era2026)}
			}},
		{"sdk 1.32.2", era2025, "test_elicitation", nodeFlow("client-v1/flow.mjs"),
			func(t *testing.T) stileConfig {
				return stileConfig{upstream: only(t, askingServer(t, era2026), era2026)}
			}},
	} {
		t.Run(c.name+"/"+c.era, func(t *testing.T) {
			config := c.config(t)
			config.issuer, config.policy = as.url, everythingPolicy
			g := startStile(t, config)
			r := c.drive(t, g.endpoint, c.era, operation{kind: "tool", method: "tools/call", asks: "use tools",
				target: target{Name: c.tool, Arguments: map[string]string{}}})
			if refused := r.withStatus(403); !r.OK || len(refused) != 1 || !strings.Contains(string(r.Result), "Ada") {
				t.Errorf("%d × 403, %s: %s\n%s\n%s", len(refused), r.Error, r.Result, r, g.program.stderr)
			}
		})
	}
}
