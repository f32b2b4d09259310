package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stile-mcp/stile/stiletest"
)

func TestMain(m *testing.M) {
	if playRole() {
		return
	}
	testscript.Main(m, map[string]func(){
		"stile": main,
		// A server for scripts to be asked, and one that fails.
		"hinted-server": func() { _ = hinted().Run(context.Background(), &mcp.StdioTransport{}) },
		"broken-server": func() { fmt.Fprintln(os.Stderr, "no \x1b[31mlicence"); os.Exit(1) },
	})
}

// Each script shows one behaviour of the command line.
func TestScripts(t *testing.T) {
	example, err := filepath.Abs(filepath.Join("testdata", "stile.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       stiletest.Update(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLE", example)
			env.Setenv("COLUMNS", "80")
			return nil
		},
	})
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for name, text := range map[string]string{good: smallest, bad: "listn: x\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args string
		want int
	}{
		{"--help", 0},
		{"check --help", 0},
		{"version", 0},
		{"check -c " + good, 0},
		{"check --config=" + good, 0},
		{"check -c " + bad, 1},
		{"check -c " + filepath.Join(dir, "absent.yaml"), 1},
		{"check -c " + dir, 1},
		{"explain -c " + good + " --scopes notes:read tools/list", 0},
		{"explain -c " + good + " --scopes notes:read tools/call x", 0},
		{"explain --fail -c " + good + " --scopes notes:read tools/call x", 1},
		{"explain -c " + bad + " tools/list", 1},
		{"", 2},
		{"doctor", 2},
		{"check --colour", 2},
		{"check extra", 2},
		{"explain", 2},
		{"explain -c " + good + " tools/call", 2},
		{"serve https://user:secret@mcp.example.com/mcp", 2},
		{"serve --listen nowhere https://mcp.example.com/mcp", 2},
		{"serve --listen 0.0.0.0:8080 https://mcp.example.com/mcp", 2},
		{"serve -- no-such-server-anywhere", 2},
		{"serve stile.yaml", 2},
		{"serve --env NO_SUCH_VARIABLE -- sh", 2},
	} {
		var stdout, stderr strings.Builder
		got := run(t.Context(), strings.Fields(tc.args), strings.NewReader(""), &stdout, &stderr)
		if got != tc.want {
			t.Errorf("stile %s: exit code %d, want %d\n%s%s", tc.args, got, tc.want, &stdout, &stderr)
		}
		if (got == exitOK) != (stderr.Len() == 0) && !strings.Contains(tc.args, "--fail") {
			t.Errorf("stile %s: exit code %d and on standard error %q", tc.args, got, &stderr)
		}
	}
}
