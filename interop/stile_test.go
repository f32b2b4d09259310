package interop_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// gateway is a running `stile serve`.
type gateway struct {
	endpoint string // the URL a client is given
	program  *program
}

// stileConfig is what differs between the configurations under test.
type stileConfig struct {
	upstream string // URL of the MCP server
	command  string // or the command that runs it, as a YAML list
	server   string // further lines of the server, indented by nothing
	issuer   string // empty: the embedded authorization server
	asking   string // further lines of the issuer, indented by nothing
	options  string // further lines of the file's top level
	dataDir  string // empty: one of its own
	address  string // where it listens; empty: a free one
	policy   string // the policy's lines, indented by nothing
}

// startStile runs the real binary in front of an upstream, and checks at the end
// of the test that SIGTERM ends it with exit code 0 and that it wrote no token.
func startStile(t *testing.T, config stileConfig) *gateway {
	t.Helper()
	g := serveStile(t, config)
	t.Cleanup(func() { g.stop(t) })
	return g
}

// stileBinary is the real binary. STILE_BINARY names one to be driven in place of a
// freshly built one.
func stileBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("STILE_BINARY"); path != "" {
		return path
	}
	return build(t, "github.com/stile-mcp/stile/cmd/stile")
}

// serveStile is startStile for who ends it otherwise.
func serveStile(t *testing.T, config stileConfig) *gateway {
	t.Helper()
	address := config.address
	if address == "" {
		address = freeAddress(t)
	}
	dataDir := config.dataDir
	if dataDir == "" {
		dataDir = t.TempDir()
	}
	file := filepath.Join(t.TempDir(), "stile.yaml")
	if err := os.WriteFile(file, []byte(config.yaml(address, dataDir)), 0o600); err != nil {
		t.Fatal(err)
	}
	g := &gateway{endpoint: "http://" + address + "/mcp"}
	g.program = start(t, nil, stileBinary(t), "serve", "-c", file)
	g.program.line(g.endpoint)
	return g
}

func (c stileConfig) yaml(address, dataDir string) string {
	return strings.Join([]string{
		"listen: " + address,
		"public_url: http://" + address,
		"data_dir: " + dataDir,
		c.options,
		c.issuers(),
		"servers:",
		"  notes:",
		"    path: /mcp",
		"    " + c.target(),
		indent(c.server, "    "),
		"    policy:",
		indent(c.policy, "      "),
	}, "\n") + "\n"
}

// issuers are the lines that say who may issue tokens: without an issuer the
// embedded authorization server does.
func (c stileConfig) issuers() string {
	if c.issuer == "" {
		return ""
	}
	return "issuers:\n  - issuer: " + c.issuer + "\n" + indent(c.asking, "    ")
}

// target is the line that says where the MCP server is.
func (c stileConfig) target() string {
	if c.command != "" {
		return "command: " + c.command
	}
	return "url: " + c.upstream
}

func indent(text, by string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	return by + strings.Join(lines, "\n"+by)
}

// webToken is a JSON Web Token: the base64 of `{"`, and two more parts. A random
// client id may have the beginning alone.
var webToken = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.`)

// stop ends the gateway as an operator would.
func (g *gateway) stop(t *testing.T) {
	t.Helper()
	if code := g.program.terminate(); code != 0 {
		t.Errorf("stile serve ended with exit code %d after SIGTERM, want 0; standard error:\n%s", code, g.program.stderr)
	}
	if log := g.program.stderr.String(); webToken.MatchString(log) {
		t.Errorf("stile serve logged a token:\n%s", log)
	}
}
