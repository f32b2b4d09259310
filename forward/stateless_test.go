package forward_test

import (
	"net/http"
	"testing"

	"github.com/stile-mcp/stile/forward"
)

// TestCommandStateless sends requests of the 2025 revisions without sessions.
func TestCommandStateless(t *testing.T) {
	f := command(t, "", func(c *forward.CommandConfig) {
		c.Isolation, c.Stateless = forward.IsolateCaller, true
	})
	ada, bob := &client{f: f, owner: "ada", version: "2025-11-25"}, &client{f: f, owner: "bob"}
	status, body, header := ada.post(initialize("2025-06-18"))
	if status != 200 || member(t, body, "id") != "0" || member(t, body, "result", "protocolVersion") != "2025-06-18" || header.Get("Mcp-Session-Id") != "" {
		t.Errorf("initialize: %d %s %v", status, body, header)
	}
	for body, want := range map[string]int{
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:                              202,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`:       202,
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                                                400,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`:      200,
		`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"note://1"}}`: 200,
	} {
		if status, answer, _ := ada.post(body); status != want {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if _, body, _ := ada.post(`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"note://1"}}`); member(t, body, "error", "code") != "-32601" {
		t.Errorf("subscribe: %s", body)
	}
	// One process a caller, at once and without a greeting of the client's own.
	if one, two, other := pid(t, ada), pid(t, ada), pid(t, bob); one != two || one == other {
		t.Errorf("processes %s, %s and %s", one, two, other)
	}
	r, stop := ada.stream(call("p", `"progressToken":"mine"`, "progress", "who", "ada"))
	defer stop()
	got := r.rest()
	if len(got) != 4 || member(t, got[0].data, "params", "progressToken") != "mine" || got[0].id != "" || member(t, got[3].data, "id") != "p" {
		t.Errorf("progress: %q", got)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		res := ada.send(t.Context(), method, "", "Mcp-Session-Id", "x")
		res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "POST" {
			t.Errorf("%s: %d, Allow %q", method, res.StatusCode, res.Header.Get("Allow"))
		}
	}
	if status, _, _ := bob.post(tool(1, "echo"), "MCP-Protocol-Version", "1999-01-01"); status != http.StatusBadRequest {
		t.Errorf("an unknown revision: %d", status)
	}
	if _, err := forward.NewCommand(forward.CommandConfig{Command: []string{"x"}, Stateless: true}); err == nil {
		t.Error("stateless with a process for each session was taken")
	}
}
