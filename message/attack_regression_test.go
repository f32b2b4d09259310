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
