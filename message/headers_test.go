package message_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/message"
)

// modern returns a request of 2026-07-28 with these further params.
func modern(method, params string) string {
	if params != "" {
		params += ","
	}
	return request(method, `{`+params+modernMeta+`}`)
}

// headers makes a header of name, value pairs.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

const (
	version = "MCP-Protocol-Version"
	method  = "Mcp-Method"
	name    = "Mcp-Name"
)

func TestCheckHeaders(t *testing.T) {
	toolsCall := modern("tools/call", `"name":"get_note"`)
	legacyCall := call(`{"name":"get_note"}`)
	notification := `{"jsonrpc":"2.0","method":"notifications/cancelled"}`
	modernNotification := `{"jsonrpc":"2.0","method":"notifications/x","params":{` + modernMeta + `}}`
	response := `{"jsonrpc":"2.0","id":7,"result":{}}`
	initialize := request("initialize", `{"protocolVersion":"2025-11-25"}`)
	oldMeta := request("ping", `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}`)

	for _, tt := range []struct {
		name string
		body string
		h    http.Header
		code int    // 0: accepted
		text string // part of the message
	}{
		// Modern requests that agree.
		{"tools/call", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "get_note"), 0, ""},
		{"spaces around", toolsCall, headers(version, " 2026-07-28\t", method, " tools/call ", name, "  get_note  "), 0, ""},
		{"names in any case", toolsCall, headers("mcp-PROTOCOL-version", "2026-07-28", "MCP-METHOD", "tools/call", "mcp-name", "get_note"), 0, ""},
		{"sentinel without need", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "=?base64?Z2V0X25vdGU=?="), 0, ""},
		{"sentinel", modern("tools/call", `"name":"Hello, 世界"`), headers(version, "2026-07-28", method, "tools/call", name, "=?base64?SGVsbG8sIOS4lueVjA==?="), 0, ""},
		{"half a sentinel is literal", modern("tools/call", `"name":"=?base64?SGVsbG8="`), headers(version, "2026-07-28", method, "tools/call", name, "=?base64?SGVsbG8="), 0, ""},
		{"read", modern("resources/read", `"uri":"note://a"`), headers(version, "2026-07-28", method, "resources/read", name, "note://a"), 0, ""},
		{"prompt", modern("prompts/get", `"name":"p"`), headers(version, "2026-07-28", method, "prompts/get", name, "p"), 0, ""},
		{"task", modern("tasks/get", `"taskId":"t1"`), headers(version, "2026-07-28", method, "tasks/get", name, "t1"), 0, ""},
		{"list", modern("tools/list", ""), headers(version, "2026-07-28", method, "tools/list"), 0, ""},
		{"completion without name", modern("completion/complete", `"ref":{"type":"ref/prompt","name":"p"}`), headers(version, "2026-07-28", method, "completion/complete"), 0, ""},
		{"completion with name", modern("completion/complete", `"ref":{"type":"ref/prompt","name":"p"}`), headers(version, "2026-07-28", method, "completion/complete", name, "p"), 0, ""},
		{"parameters are the upstream's", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "get_note", "Mcp-Param-X", "\x80"), 0, ""},
		{"extension with a name of its own", modern("acme/x", ""), headers(version, "2026-07-28", method, "acme/x", name, "y"), 0, ""},

		// Modern requests that do not.
		{"no version", toolsCall, headers(method, "tools/call", name, "get_note"), -32020, "MCP-Protocol-Version is missing"},
		{"another version", toolsCall, headers(version, "2025-11-25", method, "tools/call", name, "get_note"), -32020, "2025-11-25, but the body says 2026-07-28"},
		{"version empty", toolsCall, headers(version, "", method, "tools/call", name, "get_note"), -32020, "is empty, but"},
		{"two versions", toolsCall, headers(version, "2026-07-28", version, "2026-07-28", method, "tools/call", name, "get_note"), -32020, "MCP-Protocol-Version was sent more than once"},
		{"unknown version in the body only", strings.Replace(toolsCall, "2026-07-28", "v999.0.0", 1), headers(version, "2026-07-28", method, "tools/call", name, "get_note"), -32020, "the body says v999.0.0"},
		{"no method", toolsCall, headers(version, "2026-07-28", name, "get_note"), -32020, "Mcp-Method is missing"},
		{"another method", toolsCall, headers(version, "2026-07-28", method, "tools/list", name, "get_note"), -32020, "Mcp-Method is tools/list"},
		{"method in other case", toolsCall, headers(version, "2026-07-28", method, "Tools/Call", name, "get_note"), -32020, "Mcp-Method is Tools/Call"},
		{"two methods", toolsCall, headers(version, "2026-07-28", method, "tools/call", method, "tools/list", name, "get_note"), -32020, "Mcp-Method was sent more than once"},
		{"two methods in one line", toolsCall, headers(version, "2026-07-28", method, "tools/call, tools/call", name, "get_note"), -32020, "Mcp-Method is tools/call, tools/call"},
		{"method encoded", toolsCall, headers(version, "2026-07-28", method, "=?base64?dG9vbHMvY2FsbA==?=", name, "get_note"), -32020, "Mcp-Method is"},
		{"method with underscore", toolsCall, headers(version, "2026-07-28", method, "tools/call", "Mcp_Method", "tools/list", name, "get_note"), -32020, "Mcp-Method was sent more than once"},
		{"no name", toolsCall, headers(version, "2026-07-28", method, "tools/call"), -32020, "Mcp-Name is missing: tools/call must repeat params.name"},
		{"no name on read", modern("resources/read", `"uri":"note://a"`), headers(version, "2026-07-28", method, "resources/read"), -32020, "must repeat params.uri"},
		{"no name on task", modern("tasks/cancel", `"taskId":"t1"`), headers(version, "2026-07-28", method, "tasks/cancel"), -32020, "must repeat params.taskId"},
		{"another name", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "delete_note"), -32020, "Mcp-Name is delete_note, but the body says get_note"},
		{"name in other case", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "Get_note"), -32020, "Mcp-Name is Get_note"},
		{"name empty", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, ""), -32020, "Mcp-Name is empty"},
		{"two names", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "get_note", name, "get_note"), -32020, "Mcp-Name was sent more than once"},
		{"another task", modern("tasks/get", `"taskId":"t1"`), headers(version, "2026-07-28", method, "tasks/get", name, "t2"), -32020, "Mcp-Name is t2"},
		{"another uri", modern("resources/read", `"uri":"note://a"`), headers(version, "2026-07-28", method, "resources/read", name, "note://A"), -32020, "Mcp-Name is note://A"},
		{"another completion", modern("completion/complete", `"ref":{"type":"ref/prompt","name":"p"}`), headers(version, "2026-07-28", method, "completion/complete", name, "q"), -32020, "Mcp-Name is q"},
		{"name where there is none", modern("tools/list", ""), headers(version, "2026-07-28", method, "tools/list", name, "x"), -32020, "nothing that it could repeat"},
		{"sentinel of another name", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "=?base64?ZGVsZXRl?="), -32020, "Mcp-Name is delete"},
		{"sentinel without padding", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "=?base64?Z2V0X25vdGU?="), -32020, "Mcp-Name is malformed"},
		{"sentinel with other characters", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "=?base64?Z2V0!!!X25vdGU=?="), -32020, "Mcp-Name is malformed"},
		{"sentinel with stray bits", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "=?base64?Z2V0X25vdGV=?="), -32020, "Mcp-Name is malformed"},
		{"sentinel in upper case", toolsCall, headers(version, "2026-07-28", method, "tools/call", name, "=?BASE64?Z2V0X25vdGU=?="), -32020, "but the body says get_note"},
		{"name in raw UTF-8", modern("tools/call", `"name":"é"`), headers(version, "2026-07-28", method, "tools/call", name, "é"), -32020, "Mcp-Name is malformed: ??"},

		// Modern notifications: nothing is required, what is there must agree.
		{"bare notification", modernNotification, headers(), 0, ""},
		{"notification", modernNotification, headers(version, "2026-07-28", method, "notifications/x"), 0, ""},
		{"notification of another version", modernNotification, headers(version, "2025-11-25"), -32020, "MCP-Protocol-Version is 2025-11-25"},
		{"notification of another method", modernNotification, headers(method, "notifications/y"), -32020, "Mcp-Method is notifications/y"},
		{"notification without _meta", notification, headers(version, "2026-07-28", method, "notifications/cancelled"), 0, ""},

		// The 2025 revisions.
		{"no headers", legacyCall, headers(), 0, ""},
		{"version of 2025", legacyCall, headers(version, "2025-06-18"), 0, ""},
		{"mirrors on 2025", legacyCall, headers(version, "2025-11-25", method, "tools/call", name, "get_note"), 0, ""},
		{"initialize", initialize, headers(), 0, ""},
		{"initialize with another version", initialize, headers(version, "2025-06-18"), 0, ""},
		{"response", response, headers(version, "2025-11-25"), 0, ""},
		{"two versions on 2025", legacyCall, headers(version, "2025-06-18", version, "2025-11-25"), -32020, "more than once"},
		{"modern version without _meta", legacyCall, headers(version, "2026-07-28", method, "tools/call", name, "get_note"), -32602, "params._meta lacks"},
		{"later version without _meta", legacyCall, headers(version, "2027-01-01"), -32602, "params._meta lacks"},
		{"nonsense version", legacyCall, headers(version, "latest"), -32602, "params._meta lacks"},
		{"initialize with a modern version", initialize, headers(version, "2026-07-28"), -32602, "params._meta lacks"},
		{"response with a modern version", response, headers(version, "2026-07-28"), -32020, "before 2026-07-28"},
		{"old _meta", oldMeta, headers(version, "2025-11-25"), 0, ""},
		{"old _meta without header", oldMeta, headers(), 0, ""},
		{"old _meta with a modern version", oldMeta, headers(version, "2026-07-28"), -32020, "but the body says 2025-11-25"},
		{"another method on 2025", legacyCall, headers(method, "tools/list"), -32020, "Mcp-Method is tools/list"},
		{"method on a response", response, headers(method, "tools/call"), -32020, "but the body has none"},
		{"another name on 2025", legacyCall, headers(name, "delete_note"), -32020, "Mcp-Name is delete_note"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := message.Read([]byte(tt.body))
			if err != nil {
				t.Fatalf("Read: %s", err.Message)
			}
			err = message.CheckHeaders(tt.h, c)
			if tt.code == 0 {
				if err != nil {
					t.Fatalf("refused: %d %s", err.Code, err.Message)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Status != 400 || err.Code != tt.code || !strings.Contains(err.Message, tt.text) {
				t.Errorf("got %d %d %q, want 400 %d ...%s...", err.Status, err.Code, err.Message, tt.code, tt.text)
			}
			if string(err.ID) != string(c.ID) {
				t.Errorf("id %s, want %s", err.ID, c.ID)
			}
		})
	}
}

// TestCheckHeadersRaw gives keys as no Go server would, but a handler might.
func TestCheckHeadersRaw(t *testing.T) {
	c, err := message.Read([]byte(modern("tools/list", "")))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{"mcp-protocol-version": {"2026-07-28"}, "MCP-METHOD": {"tools/list"}}
	if err := message.CheckHeaders(h, c); err != nil {
		t.Errorf("refused: %s", err.Message)
	}
	h["Mcp-Method"] = []string{"tools/list"}
	if err := message.CheckHeaders(h, c); err == nil {
		t.Error("one header under two spellings was accepted")
	}
	delete(h, "Mcp-Method")
	h["MCP-METHOD"] = nil
	if err := message.CheckHeaders(h, c); err == nil {
		t.Error("a header without values was taken for present")
	}
}

// TestMismatchShowsLittle keeps what a stranger sent from filling the answer.
func TestMismatchShowsLittle(t *testing.T) {
	c, err := message.Read([]byte(modern("tools/call", `"name":"`+strings.Repeat("é\\\"", 1000)+`"`)))
	if err != nil {
		t.Fatal(err)
	}
	err = message.CheckHeaders(headers(version, "2026-07-28", method, "tools/call", name, strings.Repeat("x", 1000)), c)
	if err == nil || len(err.Message) > 250 {
		t.Fatalf("got %v", err)
	}
	for _, b := range []byte(err.Message) {
		if b < ' ' || b > '~' || b == '"' || b == '\\' {
			t.Fatalf("%q in %q", b, err.Message)
		}
	}
}

// TestSetHeaders checks that what it sets is what CheckHeaders wants.
func TestSetHeaders(t *testing.T) {
	for _, body := range []string{
		modern("tools/call", `"name":"a"`), modern("tools/call", `"name":" é "`), modern("tools/call", `"name":"=?base64?x?="`),
		modern("resources/read", `"uri":"note://a"`), modern("tasks/get", `"taskId":"t"`), modern("tools/list", ""),
		modern("acme/x", ""), call(`{"name":"a"}`),
	} {
		c, err := message.Read([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		message.SetHeaders(h, c)
		if err := message.CheckHeaders(h, c); err != nil {
			t.Errorf("%s: %s", body, err.Message)
		}
		if c.Era == message.Era2025 && len(h) > 0 {
			t.Errorf("%s: headers %v on a 2025 message", body, h)
		}
	}
}

func TestHeaderValues(t *testing.T) {
	for _, tt := range []struct{ plain, encoded string }{ // the specification's own examples first
		{"us-west1", "us-west1"},
		{"Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="},
		{" padded ", "=?base64?IHBhZGRlZCA=?="},
		{"line1\nline2", "=?base64?bGluZTEKbGluZTI=?="},
		{"=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="},
		{"two words", "two words"},
		{"", "=?base64??="},
		{"=?base64?=", "=?base64?PT9iYXNlNjQ/PQ==?="},
		{"=?base64?half", "=?base64?half"},
		{"half?=", "half?="},
		{"a\tb", "=?base64?YQli?="},
		{"\x7f", "=?base64?fw==?="},
	} {
		if got := message.EncodeHeaderValue(tt.plain); got != tt.encoded {
			t.Errorf("encode %q: %q, want %q", tt.plain, got, tt.encoded)
		}
		if got, err := message.DecodeHeaderValue(tt.encoded); err != nil || got != tt.plain {
			t.Errorf("decode %q: %q %v, want %q", tt.encoded, got, err, tt.plain)
		}
	}
	for _, bad := range []string{"=?base64?=", "=?base64?SGVsbG8?=", "=?base64?SGVs!!!bG8=?=", "=?base64?SGVsbG9=?=",
		"=?base64?SGVs\nbG8=?=", "=?base64?_-__?=", "=?base64?gA==?=", "=?base64?SGVsbG8=x?=", "a\x00", "é", "a\x7fb"} {
		if got, err := message.DecodeHeaderValue(bad); err == nil {
			t.Errorf("decode %q: %q, want an error", bad, got)
		}
	}
	if got, err := message.DecodeHeaderValue(" \tx y\t "); err != nil || got != "x y" {
		t.Errorf("spaces around were not taken off: %q %v", got, err)
	}
}
