package interop_test

import (
	"fmt"
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

// commands are servers that others wrote and that speak stdio, with what they have
// of each kind of operation.
var commands = []struct {
	name, era string
	command   func(t *testing.T) string
	tool      target
	uri       string
	prompt    string
}{
	{name: "npm server-everything 2026.8.31", era: era2025,
		command: func(t *testing.T) string {
			path, err := filepath.Abs("node_modules/@modelcontextprotocol/server-everything/dist/index.js")
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("[%q, %q, stdio]", node(t), path)
		},
		tool: target{Name: "echo", Arguments: map[string]string{"message": "é😀"}},
		uri:  "demo://resource/static/document/features.md", prompt: "simple-prompt"},
	{name: "go-sdk v1.8.0 everything-server", era: era2025, command: goEverything,
		tool: target{Name: "test_simple_text", Arguments: map[string]string{}}, uri: "test://static-text", prompt: "test_simple_prompt"},
	{name: "go-sdk v1.8.0 everything-server", era: era2026, command: goEverything,
		tool: target{Name: "test_simple_text", Arguments: map[string]string{}}, uri: "test://static-text", prompt: "test_simple_prompt"},
}

func goEverything(t *testing.T) string { return fmt.Sprintf("[%q]", build(t, everythingServer)) }

// TestClientsStepUpToCommands drives the real clients through a step-up on every
// kind of operation of servers that Stile runs as commands.
func TestClientsStepUpToCommands(t *testing.T) {
	as := startIssuer(t, "SCOPES=use tools resources prompts")
	for _, c := range commands {
		for name, client := range map[string]flow{"ts": nodeFlow("client-ts/flow.mjs"), "go-sdk": goFlow} {
			for _, op := range []operation{
				{kind: "tool", method: "tools/call", asks: "use tools", target: c.tool},
				{kind: "resource", method: "resources/read", asks: "use resources", target: target{URI: c.uri}},
				{kind: "prompt", method: "prompts/get", asks: "use prompts", target: target{Name: c.prompt}},
			} {
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
