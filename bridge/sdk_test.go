package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/bridge"
)

const (
	era2025 = "2025-11-25"
	era2026 = "2026-07-28"
)

// newServer is a server that can do what crosses a bridge in every way. Its tool "wait"
// ends with quit, if not before.
func newServer(quit <-chan struct{}) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "far", Version: "1"}, nil)
	if quit != nil {
		go func() {
			<-quit
			for one := range s.Sessions() {
				_ = one.Close()
			}
		}()
	}
	type in struct {
		Text string `json:"text,omitempty"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(ctx context.Context, r *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		if token := r.Params.GetProgressToken(); token != nil {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1, Message: "half"})
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(_ context.Context, r *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
		// A client of the 2025 revisions is asked by a request of the server's.
		if answer, ok := r.Params.InputResponses["who"].(*mcp.ElicitResult); ok {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: answer.Action}}}, nil, nil
		}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"who": &mcp.ElicitParams{Message: "who?"}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
		select {
		case <-ctx.Done():
		case <-quit:
		}
		return nil, nil, context.Canceled
	})
	s.AddResource(&mcp.Resource{Name: "note", URI: "note://1"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "note://1", Text: strings.Repeat("line\n", 1000)}}}, nil
	})
	s.AddPrompt(&mcp.Prompt{Name: "p"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Description: "said"}, nil
	})
	return s
}

// farServer serves h where the test can reach it.
func farServer(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

// logged is a log that a failed test shows.
func logged(t *testing.T) *slog.Logger {
	var (
		mu  sync.Mutex
		all bytes.Buffer
	)
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() {
			t.Log(all.String())
		}
	})
	return slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return all.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// across connects a client by a bridge to a URL.
func across(t *testing.T, url, era string, o *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	in, toBridge := io.Pipe()
	fromBridge, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- bridge.Run(context.Background(), bridge.Config{URL: url, In: in, Out: out, Log: logged(t)})
		_ = out.Close()
	}()
	c := mcp.NewClient(&mcp.Implementation{Name: "near", Version: "1"}, o)
	s, err := c.Connect(t.Context(), &mcp.IOTransport{Reader: fromBridge, Writer: toBridge}, &mcp.ClientSessionOptions{ProtocolVersion: era})
	if err != nil {
		_ = toBridge.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		_ = toBridge.Close()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// kinds are servers of every kind there is.
var kinds = []struct {
	name    string
	handler func(quit <-chan struct{}) http.Handler
}{
	{"sessions", func(quit <-chan struct{}) http.Handler {
		s := newServer(quit)
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	}},
	{"json", func(quit <-chan struct{}) http.Handler {
		s := newServer(quit)
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{JSONResponse: true})
	}},
	{"stateless", func(quit <-chan struct{}) http.Handler {
		s := newServer(quit)
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true})
	}},
	{"resumable", func(quit <-chan struct{}) http.Handler {
		s := newServer(quit)
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)})
	}},
	{"legacy SSE", func(quit <-chan struct{}) http.Handler {
		s := newServer(quit)
		return mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s }, nil)
	}},
}

func TestClientsOfBothGenerationsAtEveryServer(t *testing.T) {
	for _, kind := range kinds {
		for _, era := range []string{era2025, era2026} {
			t.Run(kind.name+"/"+era, func(t *testing.T) {
				progress := make(chan string, 10)
				s := across(t, farServer(t, kind.handler(nil)), era, &mcp.ClientOptions{
					ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
						return &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
					},
					ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
						progress <- r.Params.Message
					},
				})
				useAll(t, s, kind.name, era, progress)
			})
		}
	}
}

func useAll(t *testing.T, s *mcp.ClientSession, kind, era string, progress <-chan string) {
	ctx := t.Context()
	if got := s.InitializeResult().ProtocolVersion; got != era {
		t.Errorf("revision %s", got)
	}
	tools, err := s.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) != 3 {
		t.Fatalf("tools %v, %v", tools, err)
	}
	params := &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "grün\n\u2028"}}
	params.SetProgressToken("p1")
	if got := callText(t, s, params); got != "grün\n\u2028" {
		t.Errorf("echo says %q", got)
	}
	if kind != "json" { // which has no stream for it
		select {
		case got := <-progress:
			if got != "half" {
				t.Errorf("progress %q", got)
			}
		case <-time.After(10 * time.Second):
			t.Error("no progress")
		}
	}
	if kind != "json" && !(kind == "stateless" && era == era2025) { // which cannot ask
		if got := callText(t, s, &mcp.CallToolParams{Name: "ask"}); got != "accept" {
			t.Errorf("ask says %q", got)
		}
	}
	note, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: "note://1"})
	if err != nil || len(note.Contents) != 1 || len(note.Contents[0].Text) != 5000 {
		t.Errorf("resource %v, %v", note, err)
	}
	if p, err := s.GetPrompt(ctx, &mcp.GetPromptParams{Name: "p"}); err != nil || p.Description != "said" {
		t.Errorf("prompt %v, %v", p, err)
	}
	if _, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "none"}); err == nil {
		t.Error("a tool that is not there answers")
	}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			text := fmt.Sprint("n", i)
			if got := callText(t, s, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": text}}); got != text {
				t.Errorf("%s: %q", text, got)
			}
		})
	}
	all.Wait()
}

func callText(t *testing.T, s *mcp.ClientSession, p *mcp.CallToolParams) string {
	t.Helper()
	r, err := s.CallTool(t.Context(), p)
	if err != nil {
		t.Errorf("%s: %v", p.Name, err)
		return ""
	}
	text, _ := r.Content[0].(*mcp.TextContent)
	return text.Text
}
