package challenge_test

import (
	"net/http"
	"testing"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/scope"
)

// counting is a ResponseWriter that keeps the number of bytes alone.
type counting struct {
	header http.Header
	bytes  int
}

func (c *counting) Header() http.Header { return c.header }
func (c *counting) WriteHeader(int)     {}
func (c *counting) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

// BenchmarkRefusalWrite is a whole 403 of a step-up: header and body.
func BenchmarkRefusalWrite(b *testing.B) {
	need := scope.Set{"notes:read", "notes:write"}
	r := challenge.Refusal{Status: http.StatusForbidden, ID: []byte(`"1"`), Code: http.StatusForbidden, Error: "insufficient_scope",
		Message: "create_note needs notes:write. Sign in again and grant it.", Scope: need, Required: need, RequestID: "abcdefghi-b",
		Challenge: &challenge.Challenge{Error: "insufficient_scope", Scope: need, Description: "create_note needs notes:write. Sign in again and grant it.",
			ResourceMetadata: "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"}}
	w := &counting{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		r.Write(w)
	}
	if w.bytes == 0 || w.header.Get("WWW-Authenticate") == "" {
		b.Fatal("nothing was written")
	}
}
