package stile_test

import (
	"net/http"
	"testing"

	"github.com/stile-mcp/stile/forward"
)

// forwardTo is a forwarder to a URL.
func forwardTo(t testing.TB, url string) http.Handler {
	t.Helper()
	proxy, err := forward.NewHTTP(forward.HTTPConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy
}

// initialize opens a session and returns its id as the client sees it.
func initialize(t testing.TB, h http.Handler, token string) string {
	t.Helper()
	w := do(t, h, rpc(era2025, token, "initialize", `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}`))
	id := w.Header().Get("Mcp-Session-Id")
	if w.Code != http.StatusOK || id == "" {
		t.Fatalf("initialize: %d, session %q: %s", w.Code, id, w.Body)
	}
	w = do(t, h, ask{token: token, body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`}.
		with("Accept", "application/json, text/event-stream").with("MCP-Protocol-Version", era2025).inSession(id))
	if w.Code != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %d: %s", w.Code, w.Body)
	}
	return id
}

// inSession adds a session id, where there is one.
func (a ask) inSession(id string) ask {
	if id == "" {
		return a
	}
	return a.with("Mcp-Session-Id", id)
}
