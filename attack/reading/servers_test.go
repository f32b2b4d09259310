package reading_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	mcpgo "github.com/mark3labs/mcp-go/mcp"
	mcpgoserver "github.com/mark3labs/mcp-go/server"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/stiletest"
)

// Names of the tools and prompts that the servers have, and their resource.
var toolNames = []string{"safe", "danger", "delete_note", "Safe", "safe "}

// ran is what a server did.
type ran struct {
	method, target string
	arguments      any // a tree; absent{} where the server does not tell
}

// deeds collects what a server does.
type deeds struct {
	mu  sync.Mutex
	all []ran
}

func (d *deeds) add(r ran) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, r)
}

func (d *deeds) take() []ran {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.all
	d.all = nil
	return all
}

// realServer is an MCP server that others wrote.
type realServer struct {
	name     string
	handler  http.Handler
	spelling spelling // of the arguments its tools get
	deeds    *deeds
}

func realServers(t *testing.T) []realServer {
	return []realServer{goSDK(t), mcpGo()}
}

// goSDK is a server of the go-sdk, without sessions.
func goSDK(t *testing.T) realServer {
	d := &deeds{}
	s := mcp.NewServer(&mcp.Implementation{Name: "reading", Version: "1"}, nil)
	for _, tool := range toolNames {
		if strings.TrimSpace(tool) != tool {
			continue // the go-sdk does not register it
		}
		s.AddTool(&mcp.Tool{Name: tool, InputSchema: map[string]any{"type": "object"}},
			func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				d.add(ran{"tools/call", tool, rawTree(r.Params.Arguments)})
				return &mcp.CallToolResult{Content: []mcp.Content{}}, nil
			})
	}
	s.AddPrompt(&mcp.Prompt{Name: "safe"}, func(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		d.add(ran{"prompts/get", "safe", absent{}})
		return &mcp.GetPromptResult{}, nil
	})
	s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "note", URITemplate: "note://{+id}"},
		func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			d.add(ran{"resources/read", r.Params.URI, absent{}})
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "x"}}}, nil
		})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true, DisableLocalhostProtection: true})
	t.Cleanup(func() {
		for _, session := range slices.Collect(s.Sessions()) {
			_ = session.Close()
		}
	})
	return realServer{"go-sdk", handler, asWritten, d}
}

// mcpGo is a server of mcp-go, without sessions.
func mcpGo() realServer {
	d := &deeds{}
	s := mcpgoserver.NewMCPServer("reading", "1", mcpgoserver.WithToolCapabilities(false),
		mcpgoserver.WithPromptCapabilities(false), mcpgoserver.WithResourceCapabilities(false, false))
	for _, tool := range toolNames {
		s.AddTool(mcpgo.NewTool(tool), func(_ context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
			arguments := any(absent{})
			if r.Params.Arguments != nil {
				arguments = stdTree(r.Params.Arguments)
			}
			d.add(ran{"tools/call", tool, arguments})
			return mcpgo.NewToolResultText("x"), nil
		})
	}
	s.AddPrompt(mcpgo.NewPrompt("safe"), func(_ context.Context, r mcpgo.GetPromptRequest) (*mcpgo.GetPromptResult, error) {
		d.add(ran{"prompts/get", "safe", absent{}})
		return &mcpgo.GetPromptResult{}, nil
	})
	s.AddResourceTemplate(mcpgo.NewResourceTemplate("note://{+id}", "note"),
		func(_ context.Context, r mcpgo.ReadResourceRequest) ([]mcpgo.ResourceContents, error) {
			d.add(ran{"resources/read", r.Params.URI, absent{}})
			return []mcpgo.ResourceContents{mcpgo.TextResourceContents{URI: r.Params.URI, Text: "x"}}, nil
		})
	return realServer{"mcp-go", mcpgoserver.NewStreamableHTTPServer(s, mcpgoserver.WithStateLess(true)), asDouble, d}
}

// auditLine is what Stile writes about a decision.
type auditLine struct {
	Outcome string `json:"outcome"`
	Method  string `json:"method"`
	Name    string `json:"name"`
	URI     string `json:"uri"`
}

const publicURL = "https://mcp.example.com"

// gate is Stile in front of a real server.
type gate struct {
	handler *stile.Gateway
	token   string
	audit   *bytes.Buffer
}

// newGate lets a token with the scope "all" do anything, so that only the
// reading of the message can keep a call from the server.
func newGate(t *testing.T, upstream http.Handler) *gate {
	t.Helper()
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	keys, err := authenticate.NewKeySet(authenticate.KeySetConfig{Issuer: issuer.URL()})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuer.URL(), Audiences: []string{publicURL + "/mcp"}, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := authorize.New(authorize.Config{Baseline: "all", Default: authorize.Strings{"all"}})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{audit: &bytes.Buffer{}, token: issuer.Token(stiletest.Claims{Scope: "all", Audience: []string{publicURL + "/mcp"}})}
	g.handler, err = stile.New(stile.Config{
		PublicURL: publicURL,
		Servers: []stile.Server{{Name: "reading", Path: "/mcp", Upstream: upstream, Policy: policy,
			Verifiers: []authenticate.Verifier{verifier}, Issuers: []*authenticate.Profile{{Issuer: issuer.URL()}}}},
		Audit: g.audit, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// send posts a body with the headers that it would have if it were what Stile
// takes it for, and returns the status and the audit record.
func (g *gate) send(t *testing.T, body []byte) (int, auditLine) {
	t.Helper()
	g.audit.Reset()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, publicURL+"/mcp", bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+g.token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if c, err := message.Read(body); err == nil {
		message.SetHeaders(r.Header, c)
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	_, _ = io.Copy(io.Discard, w.Body)
	var line auditLine
	if text := g.audit.Bytes(); len(text) > 0 {
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatalf("audit: %v: %s", err, text)
		}
	}
	return w.Code, line
}

// TestRealServers sends every message through Stile to real servers: what ran is
// what the audit record says, and where Stile refused nothing ran.
func TestRealServers(t *testing.T) {
	for _, server := range realServers(t) {
		t.Run(server.name, func(t *testing.T) {
			g := newGate(t, server.handler)
			ranAny := 0
			for _, e := range append(messages(t), transcripts(t)...) {
				if c, _ := message.Read(e.body); c != nil && c.Method == "subscriptions/listen" {
					continue // a stream without an end, and nothing runs
				}
				ranAny += g.checkServer(t, server, e)
			}
			if ranAny < 20 {
				t.Errorf("only %d messages made the server do something", ranAny)
			}
		})
	}
}

// checkServer sends one message and returns how many deeds followed.
func (g *gate) checkServer(t *testing.T, server realServer, e entry) int {
	t.Helper()
	status, record := g.send(t, e.body)
	did := server.deeds.take()
	if len(did) > 1 {
		t.Errorf("%s: one message, and the server did %v", e.name, did)
	}
	if e.refused && (len(did) > 0 || status != http.StatusBadRequest) {
		t.Errorf("%s: status %d, want 400, and the server did %v", e.name, status, did)
	}
	for _, r := range did {
		target := record.Name
		if r.method == "resources/read" {
			target = record.URI
		}
		if record.Outcome != "allow" || r.method != record.Method || r.target != target {
			t.Errorf("%s: the server did %s %q, the audit record says %+v", e.name, r.method, r.target, record)
		}
		c, err := message.Read(e.body)
		if err != nil {
			t.Errorf("%s: done although Stile cannot read it: %v", e.name, err)
			continue
		}
		if _, untold := r.arguments.(absent); untold {
			continue
		}
		if got, want := canonical(r.arguments, server.spelling), canonical(strictTree(c.Args), server.spelling); got != want && c.Args != nil {
			t.Errorf("%s: the tool got %s, Stile judged %s", e.name, got, want)
		}
	}
	return len(did)
}

// TestServersWithoutStile shows that the refusals matter: without Stile in front
// these servers run a tool on messages of which another reader sees another.
func TestServersWithoutStile(t *testing.T) {
	wanted := map[string]map[string]string{ // message → server → the tool that runs
		"name-twice":           {"go-sdk": "danger", "mcp-go": "danger"},
		"name-capital-beside":  {"go-sdk": "safe", "mcp-go": "danger"},
		"params-long-s":        {"go-sdk": "safe", "mcp-go": "danger"},
		"argument-twice":       {"go-sdk": "delete_note", "mcp-go": "delete_note"},
		"name-twice-escaped":   {"go-sdk": "danger", "mcp-go": "danger"},
		"name-capital-alone":   {"go-sdk": "", "mcp-go": "danger"},
		"unknown-member-twice": {"go-sdk": "safe", "mcp-go": "safe"},
	}
	for _, server := range realServers(t) {
		for _, e := range messages(t) {
			want, ok := wanted[e.name][server.name]
			if !ok {
				continue
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", bytes.NewReader(e.body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			server.handler.ServeHTTP(httptest.NewRecorder(), r)
			got := ""
			for _, d := range server.deeds.take() {
				got += d.target
			}
			if got != want {
				t.Errorf("%s runs %q on %s, want %q", server.name, got, e.name, want)
			}
		}
	}
}
