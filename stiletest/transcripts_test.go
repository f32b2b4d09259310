package stiletest_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// TestTranscripts plays whole exchanges against the handler of the step-up test
// and a real MCP server.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/flow/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
			notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
			g := newGuard(t, issuer, notes)
			env := stiletest.FlowEnv{
				Handler: http.HandlerFunc(g.ServeHTTP), Issuer: issuer, Upstream: notes,
				Audience: g.url + "/mcp", Vars: map[string]string{"GUARD": g.url},
			}
			if stiletest.Update() {
				env.Timeout = time.Second // a stream that goes on is cut there
			}
			stiletest.RunFlow(t, file, env)
			if notes.Saw("Authorization") {
				t.Error("a token reached the upstream")
			}
		})
	}
}
