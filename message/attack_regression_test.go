package message_test

import (
	"strings"
	"testing"

	"github.com/stile-mcp/stile/message"
)

// TestNamesHaveALimit sends names as long as bodies may be, of which each is
// matched by patterns, written to the audit and repeated in answers.
func TestNamesHaveALimit(t *testing.T) {
	for _, c := range []struct{ where, before, after string }{
		{"method", `{"jsonrpc":"2.0","id":1,"method":"`, `"}`},
		{"params.name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`, `"}}`},
		{"params.uri", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"`, `"}}`},
		{"params.taskId", `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"`, `"}}`},
		{"params.ref.name", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"`, `"}}}`},
		{"each of params.notifications.resourceSubscriptions", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"_meta":{` +
			`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},` +
			`"notifications":{"resourceSubscriptions":["`, `"]}}}`},
	} {
		if _, err := message.Read([]byte(c.before + strings.Repeat("a", message.MaxName) + c.after)); err != nil {
			t.Errorf("%s of %d bytes: %v", c.where, message.MaxName, err)
		}
		_, err := message.Read([]byte(c.before + strings.Repeat("a", message.MaxName+1) + c.after))
		if err == nil || !strings.HasPrefix(err.Message, c.where+" is longer than") || string(err.ID) != "1" {
			t.Errorf("%s of one byte more: %v", c.where, err)
		}
	}
}

// TestMethodsInAnotherCase sends methods that only a server that ignores case
// would run. A policy would judge them by its rules for unknown methods.
func TestMethodsInAnotherCase(t *testing.T) {
	for _, method := range []string{"Tools/Call", "tools/CALL", "tool\u017f/call", "TOOLS/LIST", "re\u017fources/read", "comp\u006cETION/complete"} {
		for _, id := range []string{`"id":1,`, ""} {
			body := `{"jsonrpc":"2.0",` + id + `"method":"` + method + `","params":{"name":"a"}}`
			if call, err := message.Read([]byte(body)); err == nil || err.Code != message.CodeInvalidRequest {
				t.Errorf("%s: %+v, %v; want it refused", body, call, err)
			}
		}
	}
	for _, method := range []string{"tools/callx", "acme/Report", "tools"} {
		if _, err := message.Read([]byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `"}`)); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
}
