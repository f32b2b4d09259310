package interop_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// legacyServer is a server of the legacy transport: npm mcp-proxy 6.7.19 with the
// SSEServerTransport of @modelcontextprotocol/sdk, in front of server-everything.
func legacyServer(t *testing.T) (url string) {
	t.Helper()
	address := freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	p := start(t, nil, node(t), absolute(t, "node_modules/mcp-proxy/dist/bin/mcp-proxy.mjs"), "--host", host, "--port", port, "--server", "sse",
		"--", node(t), absolute(t, "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "stdio")
	for limit := time.Now().Add(startLimit); ; {
		res, err := http.Get("http://" + address + "/ping")
		if err == nil {
			res.Body.Close()
			return "http://" + address + "/sse"
		}
		if time.Now().After(limit) {
			t.Fatalf("mcp-proxy does not answer: %s", p.stderr)
		}
	}
}

// TestClientsStepUpToLegacyServers drives real clients of Streamable HTTP through a
// step-up to a server that speaks only the legacy transport.
func TestClientsStepUpToLegacyServers(t *testing.T) {
	as := startIssuer(t, "SCOPES=use tools resources prompts")
	upstream := legacyServer(t)
	echo := target{Name: "echo", Arguments: map[string]string{"message": "é😀"}}
	for _, how := range []struct{ transport, era string }{{"sse", era2025}, {"auto", era2025}, {"sse", era2026}} {
		for name, client := range map[string]flow{"ts": nodeFlow("client-ts/flow.mjs"), "go-sdk": goFlow} {
			for _, op := range operationsOf(echo, "demo://resource/static/document/features.md", "simple-prompt") {
				t.Run(how.transport+"/"+how.era+"/"+name+"/"+op.kind, func(t *testing.T) {
					g := startStile(t, stileConfig{upstream: upstream, server: "transport: " + how.transport, issuer: as.url, policy: everythingPolicy})
					before := as.log(t)
					r := client(t, g.endpoint, how.era, op)
					checkLoginsFrom(t, "use", as.since(t, before).Authorizations, g.endpoint, op)
					checkExchanges(t, r, how.era, op)
					checkSession(t, r, how.era)
					if !r.OK || t.Failed() {
						t.Errorf("%s\nexchanges:\n%s\nstile:\n%s", r.Error, r, g.program.stderr)
					}
				})
			}
		}
	}
}

// TestLegacyClient drives the legacy client of the TypeScript SDK, which most old
// hosts are built on, to a server of today. It logs in, but cannot step up: it
// needs everything at first.
func TestLegacyClient(t *testing.T) {
	as := startIssuer(t, notesScopes)
	client := nodeFlow("client-v1/legacy.mjs")
	for _, op := range operations {
		if op.kind == "template" {
			continue // its scope names the item: nobody can ask for all of those at first
		}
		t.Run("broad/"+op.kind, func(t *testing.T) {
			notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
			g := startStile(t, stileConfig{upstream: notes.URL, server: "sse: true\nadvertise: broad", issuer: as.url, policy: notesPolicy})
			before := as.log(t)
			r := client(t, g.endpoint+"/sse", era2025, op)
			logins := as.since(t, before).Authorizations
			if !r.OK || len(logins) != 1 {
				t.Errorf("ok %v, error %q, %d logins\n%s\nstile:\n%s", r.OK, r.Error, len(logins), r, g.program.stderr)
			}
			if len(logins) == 1 && logins[0].Resource != g.endpoint {
				t.Errorf("the login was for %q, want the endpoint's own resource %s", logins[0].Resource, g.endpoint)
			}
			checkUpstream(t, notes, op)
		})
	}
	t.Run("refused", func(t *testing.T) {
		notes := stiletest.NewNotesServer(t, stiletest.NotesOptions{})
		g := startStile(t, stileConfig{upstream: notes.URL, server: "sse: true", issuer: as.url, policy: notesPolicy})
		r := client(t, g.endpoint+"/sse", era2025, operations[0])
		if r.OK || !strings.Contains(r.Error, "HTTP 403") || !strings.Contains(r.Error, operations[0].asks[strings.LastIndex(operations[0].asks, " ")+1:]) {
			t.Errorf("ok %v, error %q; want the refusal and what is missing\n%s", r.OK, r.Error, r)
		}
		if got := notes.Served("tools/call"); got != 0 {
			t.Errorf("the refused call reached the upstream %d times", got)
		}
	})
}
