package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// everythingPolicy has one scope for each kind of operation, whatever the names.
const everythingPolicy = `
baseline: use
default: use
rules:
  - tools: ["*"]
    scopes: "use tools"
  - resources: ["demo://*", "demo://**", "test://*", "test://**"]
    scopes: "use resources"
  - prompts: ["*"]
    scopes: "use prompts"
`

// commands are servers that speak stdio, with what they have of each kind of
// operation; those that others wrote and one that shows what can go wrong.
var commands = []struct {
	name, era string
	command   func(t *testing.T) string
	tool      target
	uri       string // empty: it has no resources
	prompt    string // and no prompts
}{
	{name: "npm server-everything 2026.8.31", era: era2025, command: npmServer("server-everything", "stdio"),
		tool: target{Name: "echo", Arguments: map[string]string{"message": "é😀"}},
		uri:  "demo://resource/static/document/features.md", prompt: "simple-prompt"},
	{name: "npm server-filesystem 2026.8.31", era: era2025, command: npmServer("server-filesystem", os.TempDir()),
		tool: target{Name: "list_allowed_directories", Arguments: map[string]string{}}},
	{name: "go-sdk v1.8.0 everything-server", era: era2025, command: goServer(everythingServer),
		tool: target{Name: "test_simple_text", Arguments: map[string]string{}}, uri: "test://static-text", prompt: "test_simple_prompt"},
	{name: "go-sdk v1.8.0 everything-server", era: era2026, command: goServer(everythingServer),
		tool: target{Name: "test_simple_text", Arguments: map[string]string{}}, uri: "test://static-text", prompt: "test_simple_prompt"},
	// It writes what its hooks see to standard output, between the messages.
	{name: "mcp-go v1.2.1 everything", era: era2025, command: goServer(mcpGoEverything),
		tool: target{Name: "echo", Arguments: map[string]string{"message": "é😀"}}, uri: "test://static/resource", prompt: "simple_prompt"},
	{name: "mcp-go v1.2.1 everything", era: era2026, command: goServer(mcpGoEverything),
		tool: target{Name: "echo", Arguments: map[string]string{"message": "é😀"}}, uri: "test://static/resource", prompt: "simple_prompt"},
	{name: "a shell script", era: era2025,
		command: func(t *testing.T) string { return fmt.Sprintf("[sh, %q]", absolute(t, "server-sh/server.sh")) },
		tool:    target{Name: "greet", Arguments: map[string]string{}}, uri: "demo://note", prompt: "greeting"},
}

const mcpGoEverything = "github.com/mark3labs/mcp-go/examples/everything"

// npmServer is a server of the npm organisation of MCP.
func npmServer(name string, arguments ...string) func(t *testing.T) string {
	return func(t *testing.T) string {
		line := fmt.Sprintf("[%q, %q", node(t), absolute(t, "node_modules/@modelcontextprotocol/"+name+"/dist/index.js"))
		for _, argument := range arguments {
			line += fmt.Sprintf(", %q", argument)
		}
		return line + "]"
	}
}

// goServer is a server that is built from a Go package.
func goServer(pkg string) func(t *testing.T) string {
	return func(t *testing.T) string { return fmt.Sprintf("[%q]", build(t, pkg)) }
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// operationsOf are the kinds of operation that a command has.
func operationsOf(tool target, uri, prompt string) []operation {
	list := []operation{{kind: "tool", method: "tools/call", asks: "use tools", target: tool}}
	if uri != "" {
		list = append(list, operation{kind: "resource", method: "resources/read", asks: "use resources", target: target{URI: uri}})
	}
	if prompt != "" {
		list = append(list, operation{kind: "prompt", method: "prompts/get", asks: "use prompts", target: target{Name: prompt}})
	}
	return list
}

// TestClientsStepUpToCommands drives the real clients through a step-up on every
// kind of operation of servers that Stile runs as commands.
func TestClientsStepUpToCommands(t *testing.T) {
	as := startIssuer(t, "SCOPES=use tools resources prompts")
	for _, c := range commands {
		for name, client := range map[string]flow{"ts": nodeFlow("client-ts/flow.mjs"), "go-sdk": goFlow} {
			for _, op := range operationsOf(c.tool, c.uri, c.prompt) {
				t.Run(c.name+"/"+c.era+"/"+name+"/"+op.kind, func(t *testing.T) {
					g := startStile(t, stileConfig{command: c.command(t), issuer: as.url, policy: everythingPolicy})
					before := as.log(t)
					r := client(t, g.endpoint, c.era, op)
					checkLoginsFrom(t, "use", as.since(t, before).Authorizations, g.endpoint, op)
					checkExchanges(t, r, c.era, op)
					checkSession(t, r, c.era)
					if !r.OK || t.Failed() {
						t.Errorf("%s\nexchanges:\n%s\nstile:\n%s", r.Error, r, g.program.stderr)
					}
				})
			}
		}
	}
}
