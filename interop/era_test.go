package interop_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/stiletest"
)

// only has in front of a server of both generations what answers as one of a single
// generation would.
func only(t *testing.T, upstream, era string) string {
	t.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval:  -1,
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL, r.Out.Host = target, target.Host },
		ModifyResponse: nameNoOldRevision,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if modern := r.Method == http.MethodPost && r.Header.Get("MCP-Protocol-Version") == era2026; modern != (era == era2026) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, refusals[era])
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL + "/mcp"
}

// refusals are what servers say to clients of the other generation.
var refusals = map[string]string{
	era2025: `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}`,
	era2026: `{"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"MCP-Protocol-Version is missing; supported: 2026-07-28"}}`,
}

// nameNoOldRevision takes the older revisions out of the answer to server/discover.
func nameNoOldRevision(res *http.Response) error {
	if res.Request.Header.Get("Mcp-Method") != "server/discover" {
		return nil
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	const name = `"supportedVersions":[`
	if at := bytes.Index(body, []byte(name)); at >= 0 {
		end := at + bytes.IndexByte(body[at:], ']')
		body = slices.Concat(body[:at], []byte(name+`"`+era2026+`"`), body[end:])
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res.Header.Del("Content-Length")
	return nil
}

// TestConformanceAcross runs the suite of each generation through Stile against
// servers of the other, by URL and as commands. Every required scenario passes but
// those of baseline.yml, which cannot be on such a server.
func TestConformanceAcross(t *testing.T) {
	table := newTable("suite", "server", "by URL", "as a command", "cannot be there")
	for _, c := range []struct {
		suite, server string
		stateful      bool
		command       string // what the server is said to speak
	}{
		{era2026, era2025, true, `protocol: "2025"`},
		{era2025, era2026, false, `protocol: "2026"`},
	} {
		t.Run(c.suite+" on "+c.server, func(t *testing.T) {
			required := requiredScenarios(t, c.suite)
			known := baseline(t)[c.suite+" on "+c.server]
			byURL, _ := trySuite(t, injectToken(t, stileConfig{upstream: only(t, startEverything(t, c.stateful), c.server)}), c.suite)
			command := everythingCommand(t)
			command.server += "\n" + c.command
			asCommand, _ := trySuite(t, injectToken(t, command), c.suite)
			// The everything-server cannot ask in these of the other generation.
			asking := injectToken(t, stileConfig{upstream: only(t, askingServer(t, c.server), c.server)})
			for _, scenario := range askingScenarios[c.suite] {
				found := runScenario(t, asking, c.suite, scenario)
				byURL[scenario], asCommand[scenario] = found, found
			}
			table.add(c.suite, c.server,
				ratio(byURL.passedBut(t, "by URL", required, known), len(required)),
				ratio(asCommand.passedBut(t, "as a command", required, known), len(required)), fmt.Sprint(len(known)))
		})
	}
	table.publish(t, "across.md")
}

// passedBut counts the required scenarios that passed, and fails the test for those
// that did not and are not known, and for those that are known and did.
func (v verdicts) passedBut(t *testing.T, how string, required []string, known map[string]string) int {
	t.Helper()
	passed := 0
	for _, scenario := range required {
		found, ran := v[scenario]
		reason, listed := known[scenario]
		switch failed := !ran || len(found.failures) > 0; {
		case failed && !listed:
			t.Errorf("%s %s: ran %t: %s", scenario, how, ran, strings.Join(found.failures, "\n"))
		case !failed && listed:
			t.Errorf("%s %s: baseline.yml says that it cannot be (%s), and it passed", scenario, how, reason)
		case !failed:
			passed++
		}
	}
	for scenario := range known {
		if !slices.Contains(required, scenario) {
			t.Errorf("%s: baseline.yml names a scenario that is not required", scenario)
		}
	}
	return passed
}

// runScenario runs one scenario.
func runScenario(t *testing.T, server, revision, scenario string) verdict {
	t.Helper()
	results := t.TempDir()
	out, err := run(t, nil, node(t), "--require", "./conformance/globsync.cjs", suite+"/dist/index.js",
		"server", "--url", server, "--scenario", scenario, "--spec-version", revision, "--output-dir", results)
	files, _ := filepath.Glob(filepath.Join(results, "server-*", "checks.json"))
	if len(files) != 1 {
		t.Errorf("%s left %d results: %v\n%s", scenario, len(files), err, tail(string(out), 30))
		return verdict{failures: []string{"did not run"}}
	}
	return readChecks(t, files[0])
}

// askingScenarios are those in which the everything-server of the go-sdk cannot ask:
// in 2026-07-28 it has no sessions to ask by, and with older clients it asks once
// only.
var askingScenarios = map[string][]string{
	era2025: {"tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults", "elicitation-sep1330-enums"},
	era2026: {"input-required-result-multi-round"},
}

// askingServer has the tools of those scenarios, in the way of one generation.
func askingServer(t *testing.T, era string) string {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "asking", Version: "1"}, nil)
	if era == era2025 {
		mcp.AddTool(s, &mcp.Tool{Name: "test_input_required_result_multi_round"}, askTwice)
	} else {
		for name, q := range questions {
			mcp.AddTool(s, &mcp.Tool{Name: name}, func(_ context.Context, r *mcp.CallToolRequest, in map[string]any) (*mcp.CallToolResult, any, error) {
				if answer, ok := r.Params.InputResponses["q"]; ok {
					return said(fmt.Sprintf("%s: %s", name, summary(answer))), nil, nil
				}
				return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": q(in)}}, nil, nil
			})
		}
	}
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: era == era2026})
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func said(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

func summary(answer mcp.InputResponse) string {
	if e, ok := answer.(*mcp.ElicitResult); ok {
		return fmt.Sprintf("action=%s, content=%v", e.Action, e.Content)
	}
	return fmt.Sprintf("%T", answer)
}

// askTwice asks a client of the 2025 revisions for two things, one after the other.
func askTwice(ctx context.Context, r *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, any, error) {
	first, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "Step 1", RequestedSchema: schemaOf(map[string]any{"name": kind("string")})})
	if err != nil {
		return nil, nil, err
	}
	second, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "Step 2", RequestedSchema: schemaOf(map[string]any{"size": kind("string")})})
	if err != nil {
		return nil, nil, err
	}
	return said(fmt.Sprint(first.Content["name"], " likes ", second.Content["size"])), nil, nil
}

func kind(name string) map[string]any { return map[string]any{"type": name} }

func schemaOf(properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "properties": properties}
}

// with adds to a property.
func with(property map[string]any, name string, value any) map[string]any {
	property[name] = value
	return property
}

// questions are what the tools of the suite ask a client of the 2025 revisions for.
var questions = map[string]func(in map[string]any) mcp.InputRequest{
	"test_sampling": func(in map[string]any) mcp.InputRequest {
		//nolint:staticcheck // deprecated, and what the suite asks for
		return &mcp.CreateMessageParams{MaxTokens: 100, Messages: []*mcp.SamplingMessage{
			{Role: "user", Content: &mcp.TextContent{Text: fmt.Sprint(in["prompt"])}}}}
	},
	"test_elicitation": func(in map[string]any) mcp.InputRequest {
		return &mcp.ElicitParams{Message: fmt.Sprint(in["message"]), RequestedSchema: &jsonschema.Schema{Type: "object",
			Properties: map[string]*jsonschema.Schema{"username": {Type: "string"}, "email": {Type: "string"}}}}
	},
	"test_elicitation_sep1034_defaults": func(map[string]any) mcp.InputRequest {
		return &mcp.ElicitParams{Message: "defaults", RequestedSchema: schemaOf(map[string]any{
			"name":     with(kind("string"), "default", "John Doe"),
			"age":      with(kind("integer"), "default", 30),
			"score":    with(kind("number"), "default", 95.5),
			"status":   with(with(kind("string"), "enum", []string{"active", "inactive", "pending"}), "default", "active"),
			"verified": with(kind("boolean"), "default", true),
		})}
	},
	"test_elicitation_sep1330_enums": func(map[string]any) mcp.InputRequest {
		titled := func(prefix string) []map[string]any {
			return []map[string]any{{"const": prefix + "1", "title": "First"}, {"const": prefix + "2", "title": "Second"}, {"const": prefix + "3", "title": "Third"}}
		}
		options := []string{"option1", "option2", "option3"}
		return &mcp.ElicitParams{Message: "enums", RequestedSchema: schemaOf(map[string]any{
			"untitledSingle": with(kind("string"), "enum", options),
			"titledSingle":   with(kind("string"), "oneOf", titled("value")),
			"legacyEnum":     with(with(kind("string"), "enum", []string{"opt1", "opt2", "opt3"}), "enumNames", []string{"One", "Two", "Three"}),
			"untitledMulti":  with(kind("array"), "items", with(kind("string"), "enum", options)),
			"titledMulti":    with(kind("array"), "items", map[string]any{"anyOf": titled("value")}),
		})}
	},
}

// TestClientsStepUpAcross drives real clients of each generation through a step-up
// on every kind of operation of servers of the other.
func TestClientsStepUpAcross(t *testing.T) {
	as := startIssuer(t, notesScopes)
	table := newTable("client", "speaks", "server speaks", "operation", "challenges", "call", "session")
	for _, c := range []struct {
		name, era, server string
		flow              flow
	}{
		{"@modelcontextprotocol/client 2.4.0", era2026, era2025, nodeFlow("client-ts/flow.mjs")},
		{"go-sdk v1.8.0", era2026, era2025, goFlow},
		{"@modelcontextprotocol/client 2.4.0", era2025, era2026, nodeFlow("client-ts/flow.mjs")},
		{"@modelcontextprotocol/sdk 1.32.2", era2025, era2026, nodeFlow("client-v1/flow.mjs")},
		{"go-sdk v1.8.0", era2025, era2026, goFlow},
	} {
		for _, op := range operations {
			t.Run(c.name+"/"+c.era+" on "+c.server+"/"+op.kind, func(t *testing.T) {
				notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
				g := startStile(t, stileConfig{upstream: only(t, notes.URL, c.server), issuer: as.url, policy: notesPolicy})
				before := as.log(t)
				r := c.flow(t, g.endpoint, c.era, op)
				logins := as.since(t, before).Authorizations
				if !r.OK {
					t.Errorf("flow failed: %s", r.Error)
				}
				checkLogins(t, logins, g.endpoint, op)
				checkExchanges(t, r, c.era, op)
				checkSession(t, r, c.era)
				checkUpstream(t, notes, op)
				if t.Failed() {
					t.Logf("exchanges:\n%s\nstile:\n%s", r, g.program.stderr)
				}
				row := r.row(logins, c.era)
				table.add(c.name, c.era, c.server, op.method+" ("+op.kind+")", row[1], row[3], row[4])
			})
		}
	}
	table.publish(t, "clients-across.md")
}

// TestClientsStepUpToCommandsAcross does the same with servers that speak stdio, each
// taken for one of a single generation.
func TestClientsStepUpToCommandsAcross(t *testing.T) {
	as := startIssuer(t, "SCOPES=use tools resources prompts")
	for _, c := range commands {
		client, protocol := era2026, "auto"
		if c.era == era2026 {
			client = era2025
		}
		if strings.HasPrefix(c.name, "go") || strings.HasPrefix(c.name, "mcp-go") { // these speak both
			protocol = fmt.Sprintf("%q", c.era[:4])
		}
		for name, drive := range map[string]flow{"ts": nodeFlow("client-ts/flow.mjs"), "go-sdk": goFlow} {
			t.Run(c.name+"/"+client+" on "+c.era+"/"+name, func(t *testing.T) {
				op := operation{kind: "tool", method: "tools/call", asks: "use tools", target: c.tool}
				g := startStile(t, stileConfig{command: c.command(t), issuer: as.url, policy: everythingPolicy, server: "protocol: " + protocol})
				before := as.log(t)
				r := drive(t, g.endpoint, client, op)
				checkLoginsFrom(t, "use", as.since(t, before).Authorizations, g.endpoint, op)
				checkExchanges(t, r, client, op)
				checkSession(t, r, client)
				if !r.OK || t.Failed() {
					t.Errorf("%s\nexchanges:\n%s\nstile:\n%s", r.Error, r, g.program.stderr)
				}
			})
		}
	}
}

// TestErasDocument holds docs/eras.md to the suite: what it says cannot be is what
// baseline.yml says.
func TestErasDocument(t *testing.T) {
	data, err := os.ReadFile("../docs/eras.md")
	if errors.Is(err, os.ErrNotExist) {
		t.Fatal("docs/eras.md is missing")
	}
	if err != nil {
		t.Fatal(err)
	}
	for section, known := range baseline(t) {
		if !strings.Contains(section, " on ") {
			continue
		}
		for scenario := range known {
			if !strings.Contains(string(data), "`"+scenario+"`") {
				t.Errorf("%s: docs/eras.md does not say that %s cannot be", section, scenario)
			}
		}
	}
}
