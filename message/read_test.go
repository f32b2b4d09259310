package message_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/message"
)

// modernMeta is a complete _meta of a 2026-07-28 request.
const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// call returns a tools/call of the 2025 era with these params.
func call(params string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":` + params + `}`
}

// request returns a request of the 2025 era.
func request(method, params string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":` + params + `}`
}

var accepted = []struct {
	name string
	body string
	want message.Call
}{
	{"tools/call", call(`{"name":"get_note","arguments":{"id":1}}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "tools/call", Name: "get_note",
			Args: jsontext.Value(`{"id":1}`), Params: jsontext.Value(`{"name":"get_note","arguments":{"id":1}}`)}},
	{"tools/call without arguments", call(`{"name":"ping"}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "tools/call", Name: "ping",
			Params: jsontext.Value(`{"name":"ping"}`)}},
	{"modern tools/call", call(`{"name":"a",` + modernMeta + `}`),
		message.Call{Kind: message.Request, Era: message.Era2026, Version: "2026-07-28", ID: jsontext.Value("7"), Method: "tools/call",
			Name: "a", Params: jsontext.Value(`{"name":"a",` + modernMeta + `}`)}},
	{"unknown modern revision", call(`{"name":"a",` + strings.Replace(modernMeta, "2026-07-28", "v999.0.0", 1) + `}`),
		message.Call{Kind: message.Request, Era: message.Era2026, Version: "v999.0.0", ID: jsontext.Value("7"), Method: "tools/call",
			Name: "a", Params: jsontext.Value(`{"name":"a",` + strings.Replace(modernMeta, "2026-07-28", "v999.0.0", 1) + `}`)}},
	{"old revision in _meta", request("ping", `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}`),
		message.Call{Kind: message.Request, Era: message.Era2025, Version: "2025-11-25", ID: jsontext.Value("7"), Method: "ping",
			Params: jsontext.Value(`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}`)}},
	{"method that 2026-07-28 has no more", request("resources/subscribe", `{`+modernMeta+`}`),
		message.Call{Kind: message.Request, Era: message.Era2026, Version: "2026-07-28", ID: jsontext.Value("7"), Method: "resources/subscribe",
			Params: jsontext.Value(`{` + modernMeta + `}`)}},
	{"initialize", request("initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}`),
		message.Call{Kind: message.Request, Era: message.Era2025, Version: "2025-06-18", ID: jsontext.Value("7"), Method: "initialize",
			Params: jsontext.Value(`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}`)}},
	{"initialize proposing a modern revision", request("initialize", `{"protocolVersion":"2026-07-28"}`),
		message.Call{Kind: message.Request, Era: message.Era2025, Version: "2026-07-28", ID: jsontext.Value("7"), Method: "initialize",
			Params: jsontext.Value(`{"protocolVersion":"2026-07-28"}`)}},
	{"server/discover", request("server/discover", `{`+modernMeta+`}`),
		message.Call{Kind: message.Request, Era: message.Era2026, Version: "2026-07-28", ID: jsontext.Value("7"), Method: "server/discover",
			Params: jsontext.Value(`{` + modernMeta + `}`)}},
	{"string id and members in any order", `{"params":{"uri":"note://a"},"method":"resources/read","id":"a\u0062","jsonrpc":"2.0"}`,
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value(`"a\u0062"`), Method: "resources/read", URI: "note://a",
			Params: jsontext.Value(`{"uri":"note://a"}`)}},
	{"id beyond float64", `{"jsonrpc":"2.0","id":-9007199254740993,"method":"ping"}`,
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("-9007199254740993"), Method: "ping"}},
	{"escapes in names and values", `{"jsonrpc":"2\u002e0","id":7,"m\u0065thod":"tools\/call","params":{"n\u0061me":"caf\u00e9"}}`,
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "tools/call", Name: "café",
			Params: jsontext.Value(`{"n\u0061me":"caf\u00e9"}`)}},
	{"space around", "\r\n\t {\"jsonrpc\":\"2.0\", \"id\" : 7 ,\"method\":\"ping\"} \n",
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "ping"}},
	{"subscribe", request("resources/subscribe", `{"uri":"note://a"}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "resources/subscribe", URI: "note://a",
			Params: jsontext.Value(`{"uri":"note://a"}`)}},
	{"completion of a prompt", request("completion/complete", `{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":""}}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "completion/complete", RefType: "ref/prompt",
			Name: "p", Params: jsontext.Value(`{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":""}}`)}},
	{"completion of a resource", request("completion/complete", `{"ref":{"uri":"note://{id}","type":"ref/resource"}}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "completion/complete", RefType: "ref/resource",
			Name: "note://{id}", Params: jsontext.Value(`{"ref":{"uri":"note://{id}","type":"ref/resource"}}`)}},
	{"task", request("tasks/get", `{"taskId":"t-1"}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "tasks/get", TaskID: "t-1",
			Params: jsontext.Value(`{"taskId":"t-1"}`)}},
	{"listen", request("subscriptions/listen", `{`+modernMeta+`,"notifications":{"resourceSubscriptions":["note://a","note://\u0062"],"toolsListChanged":true}}`),
		message.Call{Kind: message.Request, Era: message.Era2026, Version: "2026-07-28", ID: jsontext.Value("7"), Method: "subscriptions/listen",
			Listen: []string{"note://a", "note://b"},
			Params: jsontext.Value(`{` + modernMeta + `,"notifications":{"resourceSubscriptions":["note://a","note://\u0062"],"toolsListChanged":true}}`)}},
	{"notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		message.Call{Kind: message.Notification, Era: message.Era2025, Method: "notifications/initialized"}},
	{"unknown method", request("acme/x", `{"name":5,"uri":null,"ref":{"Type":1},"notifications":7,"taskId":{}}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "acme/x",
			Params: jsontext.Value(`{"name":5,"uri":null,"ref":{"Type":1},"notifications":7,"taskId":{}}`)}},
	{"result", `{"jsonrpc":"2.0","id":"s1","result":{"roots":[]}}`,
		message.Call{Kind: message.Response, Era: message.Era2025, ID: jsontext.Value(`"s1"`)}},
	{"error", `{"jsonrpc":"2.0","id":3,"error":{"code":-1,"message":"no"}}`,
		message.Call{Kind: message.Response, Era: message.Era2025, ID: jsontext.Value("3")}},
	{"arguments may hold anything", call(`{"name":"a","arguments":{"name":"x","Name":"y","METHOD":null,"a\u0000":"\u0000"}}`),
		message.Call{Kind: message.Request, Era: message.Era2025, ID: jsontext.Value("7"), Method: "tools/call", Name: "a",
			Args:   jsontext.Value(`{"name":"x","Name":"y","METHOD":null,"a\u0000":"\u0000"}`),
			Params: jsontext.Value(`{"name":"a","arguments":{"name":"x","Name":"y","METHOD":null,"a\u0000":"\u0000"}}`)}},
}

func TestReadAccepts(t *testing.T) {
	for _, tt := range accepted {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			got, err := message.Read(body)
			if err != nil {
				t.Fatalf("refused: %d %s", err.Code, err.Message)
			}
			want := tt.want
			want.Body = body
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if string(body) != tt.body {
				t.Errorf("the body was changed to %q", body)
			}
		})
	}
}

// refused holds every refusal: its code, a part of its message, and the id.
var refused = []struct {
	name string
	body string
	code int
	text string
	id   string
}{
	// The parser table: what other parsers read differently.
	{"duplicate name", call(`{"name":"safe","name":"danger"}`), -32600, "twice", "7"},
	{"duplicate name, escaped", call(`{"name":"safe","n\u0061me":"danger"}`), -32600, "twice", "7"},
	{"two params", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"safe"},"params":{"name":"danger"}}`, -32600, "twice", "7"},
	{"name and Name", call(`{"name":"danger","Name":"safe"}`), -32602, "differs from name only in case", "7"},
	{"only NAME", call(`{"NAME":"danger"}`), -32602, "differs from name only in case", "7"},
	{"long s", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"safe\"},\"param\u017f\":{\"name\":\"danger\"}}",
		-32600, "differs from params only in case", "7"},
	{"long s, escaped", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"safe"},"param\u017f":{"name":"danger"}}`,
		-32600, "differs from params only in case", "7"},
	{"second value", `{"jsonrpc":"2.0","id":7,"method":"ping"}{"jsonrpc":"2.0","id":8,"method":"ping"}`, -32700, "after the message", ""},
	{"invalid UTF-8 in name", call("{\"name\":\"a\xff\"}"), -32700, "UTF-8", "7"},
	{"raw control character", call("{\"name\":\"a\x01\"}"), -32700, "control character", ""},

	// The same at other levels.
	{"duplicate in root", `{"jsonrpc":"2.0","id":7,"method":"ping","x":1,"x":2}`, -32600, "twice", "7"},
	{"duplicate id", `{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}`, -32600, "twice", ""},
	{"duplicate id, escaped", `{"jsonrpc":"2.0","id":7,"\u0069d":8,"method":"ping"}`, -32600, "twice", ""},
	{"duplicate, then broken", `{"jsonrpc":"2.0","id":7,"method":"ping","x":1,"x":2`, -32600, "twice", ""},
	{"duplicate and ID", `{"jsonrpc":"2.0","id":7,"ID":8,"method":"ping","x":1,"x":2}`, -32600, "twice", ""},
	{"duplicate and fractional id", `{"jsonrpc":"2.0","id":7.5,"method":"ping","x":1,"x":2}`, -32600, "twice", ""},
	{"duplicate deep in arguments", call(`{"name":"a","arguments":{"a":[{"b":{"c":1,"c":1}}]}}`), -32600, "twice", "7"},
	{"duplicate in _meta", call(`{"name":"a","_meta":{"x":1,"x":1}}`), -32600, "twice", "7"},
	{"duplicate in an unknown member", `{"x":{"a":1,"a":2},"jsonrpc":"2.0","id":"z","method":"ping"}`, -32600, "twice", `"z"`},
	{"duplicate in the second of two", `{"jsonrpc":"2.0","id":7,"method":"ping","x":1,"x":2}{}`, -32600, "twice", ""},
	{"invalid UTF-8 in arguments", call("{\"name\":\"a\",\"arguments\":{\"x\":\"\xc0\xaf\"}}"), -32700, "UTF-8", "7"},
	{"invalid UTF-8 in a root name", "{\"jsonrpc\":\"2.0\",\"id\":7,\"i\xffd\":8,\"method\":\"ping\"}", -32700, "UTF-8", ""},
	{"invalid UTF-8 in the id", "{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"ping\"}", -32700, "UTF-8", ""},
	{"invalid UTF-8 outside", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\xff", -32700, "after the message", ""},
	{"unpaired surrogate", call(`{"name":"a\ud800"}`), -32700, "surrogate", "7"},
	{"unpaired surrogate in the id", `{"jsonrpc":"2.0","id":"\uDFFF","method":"ping"}`, -32700, "surrogate", ""},
	{"byte order mark", "\ufeff" + `{"jsonrpc":"2.0","id":7,"method":"ping"}`, -32700, "not valid JSON at byte 0", ""},
	{"raw NUL", call("{\"name\":\"a\x00\"}"), -32700, "control character", ""},
	{"trailing brace", `{"jsonrpc":"2.0","id":7,"method":"ping"}}`, -32700, "after the message", ""},
	{"trailing comma", `{"jsonrpc":"2.0","id":7,"method":"ping",}`, -32700, "not valid JSON at byte", ""},
	{"trailing NUL", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\x00", -32700, "after the message", ""},

	// Not JSON, or not a message.
	{"empty", "", -32700, "empty", ""},
	{"only space", " \r\n\t", -32700, "empty", ""},
	{"cut off", `{"jsonrpc":"2.0","id":7,"method":"pi`, -32700, "ends before", ""},
	{"cut off after a member", `{"jsonrpc":"2.0","id":7`, -32700, "ends before", ""},
	{"comment", `{"jsonrpc":"2.0",/**/"id":7,"method":"ping"}`, -32700, "not valid JSON at byte 17", ""},
	{"unquoted name", `{jsonrpc:"2.0"}`, -32700, "not valid JSON", ""},
	{"number as a name", `{1:2}`, -32700, "not valid JSON", ""},
	{"not an object", `"ping"`, -32600, "must be a JSON object", ""},
	{"null", `null`, -32600, "must be a JSON object", ""},
	{"not an object and cut off", `"ping`, -32700, "ends before", ""},
	{"batch", `[{"jsonrpc":"2.0","id":7,"method":"ping"}]`, -32600, "batches", ""},
	{"empty batch", " \n[]", -32600, "batches", ""},
	{"batch cut off", `[{`, -32600, "batches", ""},

	// The envelope.
	{"no jsonrpc", `{"id":7,"method":"ping"}`, -32600, "jsonrpc must be", "7"},
	{"jsonrpc 1.0", `{"jsonrpc":"1.0","id":7,"method":"ping"}`, -32600, "jsonrpc must be", "7"},
	{"jsonrpc a number", `{"jsonrpc":2.0,"id":7,"method":"ping"}`, -32600, "jsonrpc must be", "7"},
	{"JSONRPC", `{"JSONRPC":"2.0","id":7,"method":"ping"}`, -32600, "differs from jsonrpc", "7"},
	{"null id", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, -32600, "id must be", ""},
	{"fractional id", `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, -32600, "id must be", ""},
	{"id with a zero fraction", `{"jsonrpc":"2.0","id":1.0,"method":"ping"}`, -32600, "id must be", ""},
	{"id with an exponent", `{"jsonrpc":"2.0","id":1e3,"method":"ping"}`, -32600, "id must be", ""},
	{"id an object", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, -32600, "id must be", ""},
	{"id true", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, -32600, "id must be", ""},
	{"only Id", `{"jsonrpc":"2.0","Id":7,"method":"ping"}`, -32600, "differs from id", ""},
	{"id and ID", `{"jsonrpc":"2.0","id":7,"ID":8,"method":"ping"}`, -32600, "differs from id", ""},
	{"dotless i", `{"jsonrpc":"2.0","id":7,"\u0131d":8,"method":"ping"}`, -32600, "differs from id", ""},
	{"__proto__", `{"jsonrpc":"2.0","id":7,"method":"tools/list","__proto__":{"params":{}}}`, -32600, "is called __proto__", ""},
	{"NUL after a name", `{"jsonrpc":"2.0","id":7,"method":"ping","method\u0000":"tools/call"}`, -32600, "control character", ""},
	{"method a number", `{"jsonrpc":"2.0","id":7,"method":1}`, -32600, "method must be a string", "7"},
	{"method null", `{"jsonrpc":"2.0","id":7,"method":null}`, -32600, "method must be a string", "7"},
	{"method empty", `{"jsonrpc":"2.0","id":7,"method":""}`, -32600, "method must not be empty", "7"},
	{"method with NUL", `{"jsonrpc":"2.0","id":7,"method":"tools/call\u0000"}`, -32600, "method holds a control", "7"},
	{"method with DEL", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\x7f\"}", -32600, "method holds a control", "7"},
	{"METHOD beside method", `{"jsonrpc":"2.0","id":7,"method":"ping","METHOD":"tools/call"}`, -32600, "differs from method", "7"},
	{"method and result", `{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}`, -32600, "request or a response", "7"},
	{"method and error", `{"jsonrpc":"2.0","id":7,"method":"ping","error":{}}`, -32600, "request or a response", "7"},
	{"neither", `{"jsonrpc":"2.0","id":7}`, -32600, "no method, no result", "7"},
	{"result and error", `{"jsonrpc":"2.0","id":7,"result":{},"error":{}}`, -32600, "not both", "7"},
	{"response without id", `{"jsonrpc":"2.0","result":{}}`, -32600, "must have an id", ""},
	{"response with null id", `{"jsonrpc":"2.0","id":null,"error":{}}`, -32600, "id must be", ""},
	{"result a list", `{"jsonrpc":"2.0","id":7,"result":[]}`, -32600, "result must be", "7"},
	{"error a string", `{"jsonrpc":"2.0","id":7,"error":"no"}`, -32600, "error must be", "7"},
	{"Result", `{"jsonrpc":"2.0","id":7,"Result":{}}`, -32600, "differs from result", "7"},
	{"request without id", `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a"}}`, -32600, "must have an id", ""},
	{"notification with id", `{"jsonrpc":"2.0","id":7,"method":"notifications/initialized"}`, -32600, "must not have an id", "7"},

	// Params.
	{"params a list", call(`["a"]`), -32602, "params must be", "7"},
	{"params null", call(`null`), -32602, "params must be", "7"},
	{"no params", `{"jsonrpc":"2.0","id":7,"method":"tools/call"}`, -32602, "params.name is missing", "7"},
	{"no name", call(`{}`), -32602, "params.name is missing", "7"},
	{"name a number", call(`{"name":1}`), -32602, "params.name must be a string", "7"},
	{"name null", call(`{"name":null}`), -32602, "params.name must be a string", "7"},
	{"name empty", call(`{"name":""}`), -32602, "params.name must not be empty", "7"},
	{"name with NUL", call(`{"name":"a\u0000"}`), -32602, "params.name holds a control", "7"},
	{"name with U+001F", call(`{"name":"\u001fa"}`), -32602, "params.name holds a control", "7"},
	{"name with newline", call(`{"name":"a\nb"}`), -32602, "params.name holds a control", "7"},
	{"name with DEL", call(`{"name":"a\u007f"}`), -32602, "params.name holds a control", "7"},
	{"name with raw DEL", call("{\"name\":\"a\x7f\"}"), -32602, "params.name holds a control", "7"},
	{"name with C1", call(`{"name":"a\u0085"}`), -32602, "params.name holds a control", "7"},
	{"name with raw C1", call("{\"name\":\"a\u009f\"}"), -32602, "params.name holds a control", "7"},
	{"name with NUL in its name", call(`{"name":"a","name\u0000":"b"}`), -32602, "control character", "7"},
	{"arguments a list", call(`{"name":"a","arguments":[]}`), -32602, "params.arguments must be", "7"},
	{"arguments null", call(`{"name":"a","arguments":null}`), -32602, "params.arguments must be", "7"},
	{"arguments a string", request("prompts/get", `{"name":"a","arguments":"{}"}`), -32602, "params.arguments must be", "7"},
	{"Arguments", call(`{"name":"a","Arguments":{}}`), -32602, "differs from arguments", "7"},
	{"__proto__ in params", call(`{"name":"a","__proto__":{"arguments":{}}}`), -32602, "is called __proto__", "7"},
	{"escaped __proto__ in params", call(`{"name":"a","_\u005fproto_\u005f":{"arguments":{}}}`), -32602, "is called __proto__", "7"},
	{"__proto__ in _meta", call(`{"name":"a","_meta":{"__proto__":{}}}`), -32602, "is called __proto__", "7"},
	{"prompt without name", request("prompts/get", `{}`), -32602, "params.name is missing", "7"},
	{"read without uri", request("resources/read", `{"name":"a"}`), -32602, "params.uri is missing", "7"},
	{"prompt argument null", request("prompts/get", `{"name":"a","arguments":{"x":"y","z":null}}`), -32602, "each of params.arguments of prompts/get must be a string", "7"},
	{"prompt argument object", request("prompts/get", `{"name":"a","arguments":{"x":{}}}`), -32602, "each of params.arguments of prompts/get must be a string", "7"},
	{"subscribe without uri", request("resources/subscribe", `{}`), -32602, "params.uri is missing", "7"},
	{"unsubscribe without uri", request("resources/unsubscribe", `{}`), -32602, "params.uri is missing", "7"},
	{"uri a list", request("resources/read", `{"uri":["a"]}`), -32602, "params.uri must be a string", "7"},
	{"uri with newline", request("resources/read", `{"uri":"note://a\r\n"}`), -32602, "params.uri holds a control", "7"},
	{"URI", request("resources/read", `{"uri":"note://a","URI":"note://b"}`), -32602, "differs from uri", "7"},
	{"Turkish uri", request("resources/read", `{"uri":"note://a","UR\u0130":"note://b"}`), -32602, "differs from uri", "7"},
	{"task without id", request("tasks/get", `{}`), -32602, "params.taskId is missing", "7"},
	{"task id a number", request("tasks/cancel", `{"taskId":1}`), -32602, "params.taskId must be a string", "7"},
	{"task id with NUL", request("tasks/update", `{"taskId":"a\u0000"}`), -32602, "params.taskId holds a control", "7"},
	{"taskID", request("tasks/result", `{"taskID":"a"}`), -32602, "differs from taskId", "7"},
	{"kelvin sign", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tasks/get\",\"params\":{\"taskId\":\"a\",\"tas\u212aId\":\"b\"}}", -32602, "differs from taskId", "7"},

	// params.ref.
	{"no ref", request("completion/complete", `{"argument":{}}`), -32602, "must have params.ref", "7"},
	{"ref a string", request("completion/complete", `{"ref":"p"}`), -32602, "params.ref must be an object", "7"},
	{"ref without type", request("completion/complete", `{"ref":{"name":"p"}}`), -32602, "params.ref.type is missing", "7"},
	{"ref of another type", request("completion/complete", `{"ref":{"type":"ref/tool","name":"p"}}`), -32602, "must be ref/prompt or ref/resource", "7"},
	{"ref without name", request("completion/complete", `{"ref":{"type":"ref/prompt"}}`), -32602, "params.ref.name is missing", "7"},
	{"ref without uri", request("completion/complete", `{"ref":{"type":"ref/resource"}}`), -32602, "params.ref.uri is missing", "7"},
	{"ref of a prompt with uri", request("completion/complete", `{"ref":{"type":"ref/prompt","name":"p","uri":"u"}}`), -32602, "must not have a uri", "7"},
	{"ref of a resource with name", request("completion/complete", `{"ref":{"type":"ref/resource","name":"p","uri":"u"}}`), -32602, "must not have a name", "7"},
	{"ref name with NUL", request("completion/complete", `{"ref":{"type":"ref/prompt","name":"p\u0000"}}`), -32602, "params.ref.name holds a control", "7"},
	{"ref uri with NUL", request("completion/complete", `{"ref":{"type":"ref/resource","uri":"p\u0000"}}`), -32602, "params.ref.uri holds a control", "7"},
	{"ref Name", request("completion/complete", `{"ref":{"type":"ref/prompt","name":"p","Name":"q"}}`), -32602, "params.ref differs from name", "7"},

	// params.notifications.
	{"notifications a list", request("subscriptions/listen", `{`+modernMeta+`,"notifications":[]}`), -32602, "params.notifications must be", "7"},
	{"subscriptions a string", request("subscriptions/listen", `{`+modernMeta+`,"notifications":{"resourceSubscriptions":"a"}}`), -32602, "must be an array", "7"},
	{"subscription a number", request("subscriptions/listen", `{`+modernMeta+`,"notifications":{"resourceSubscriptions":["a",1]}}`), -32602, "must be a string", "7"},
	{"subscription with NUL", request("subscriptions/listen", `{`+modernMeta+`,"notifications":{"resourceSubscriptions":["a\u0000"]}}`), -32602, "control", "7"},
	{"ResourceSubscriptions", request("subscriptions/listen", `{`+modernMeta+`,"notifications":{"ResourceSubscriptions":[]}}`), -32602, "differs from resourceSubscriptions", "7"},

	// params._meta.
	{"_meta a list", call(`{"name":"a","_meta":[]}`), -32602, "params._meta must be", "7"},
	{"_meta null", call(`{"name":"a","_meta":null}`), -32602, "params._meta must be", "7"},
	{"_META", call(`{"name":"a","_META":{}}`), -32602, "differs from _meta", "7"},
	{"version a number", call(`{"name":"a","_meta":{"io.modelcontextprotocol/protocolVersion":1}}`), -32602, "must be a string", "7"},
	{"version empty", call(`{"name":"a","_meta":{"io.modelcontextprotocol/protocolVersion":""}}`), -32602, "must not be empty", "7"},
	{"version with newline", call(`{"name":"a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28\n"}}`), -32602, "control", "7"},
	{"version in other case", call(`{"name":"a","_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"}}`), -32602, "differs from io.modelcontextprotocol/protocolVersion", "7"},
	{"version with long s", call(`{"name":"a","_meta":{"io.modelcontextprotocol/protocolVer\u017fion":"2026-07-28"}}`), -32602, "differs from", "7"},
	{"capabilities a list", call(`{"name":"a","_meta":{"io.modelcontextprotocol/clientCapabilities":[]}}`), -32602, "clientCapabilities must be an object", "7"},
	{"clientInfo a string", call(`{"name":"a","_meta":{"io.modelcontextprotocol/clientInfo":"x"}}`), -32602, "clientInfo must be an object", "7"},
	{"log level a number", call(`{"name":"a","_meta":{"io.modelcontextprotocol/logLevel":1}}`), -32602, "logLevel must be a string", "7"},
	{"progress token null", call(`{"name":"a","_meta":{"progressToken":null}}`), -32602, "progressToken must be", "7"},
	{"discover without params", `{"jsonrpc":"2.0","id":7,"method":"server/discover"}`, -32602, "must have io.modelcontextprotocol/protocolVersion", "7"},
	{"discover without _meta", request("server/discover", `{}`), -32602, "must have io.modelcontextprotocol/protocolVersion", "7"},
	{"discover without capabilities", request("server/discover", `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`), -32602, "must have io.modelcontextprotocol/clientCapabilities", "7"},
	{"listen without _meta", request("subscriptions/listen", `{"notifications":{}}`), -32602, "must have io.modelcontextprotocol/protocolVersion", "7"},
	{"modern call without capabilities", call(`{"name":"a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`), -32602, "must have io.modelcontextprotocol/clientCapabilities", "7"},
	{"initialize with a number", request("initialize", `{"protocolVersion":1}`), -32602, "params.protocolVersion must be a string", "7"},

	// The id is found behind the mistake, and only a certain one is told.
	{"id behind the mistake", `{"jsonrpc":"2.0","Method":"x","method":"ping","id":"late"}`, -32600, "differs from method", `"late"`},
	{"syntax counts for more", `{"jsonrpc":"1.0","id":7,"method":}`, -32700, "not valid JSON", ""},
}

func TestReadRefuses(t *testing.T) {
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			got, err := message.Read(body)
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if got != nil {
				t.Errorf("a refused body gave a call")
			}
			if err.Status != 400 || err.Code != tt.code || !strings.Contains(err.Message, tt.text) {
				t.Errorf("got %d %d %q, want 400 %d ...%s...", err.Status, err.Code, err.Message, tt.code, tt.text)
			}
			if string(err.ID) != tt.id {
				t.Errorf("id %q, want %q", err.ID, tt.id)
			}
			if string(body) != tt.body {
				t.Errorf("the body was changed to %q", body)
			}
			for _, c := range []byte(err.Message) {
				if c < ' ' || c > '~' {
					t.Errorf("message %q is not printable ASCII", err.Message)
				}
			}
		})
	}
}

func TestReadDepth(t *testing.T) {
	object := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	array := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	inRoot := func(v string) string { return `{"jsonrpc":"2.0","id":7,"method":"ping","x":` + v + `}` }
	inArguments := func(v string) string { return call(`{"name":"a","arguments":` + v + `}`) }
	inMeta := func(v string) string { return call(`{"name":"a","_meta":{"x":` + v + `}}`) }
	long := `"` + strings.Repeat(`[{\"`, 100) + `"`
	for _, tt := range []struct {
		name string
		body string
		ok   bool
	}{
		{"63 in the root", inRoot(object(63)), true},
		{"64 in the root", inRoot(object(64)), false},
		{"63 arrays in the root", inRoot(array(63)), true},
		{"64 arrays in the root", inRoot(array(64)), false},
		{"62 in arguments", inArguments(object(62)), true},
		{"63 in arguments", inArguments(object(63)), false},
		{"61 in _meta", inMeta(array(61)), true},
		{"62 in _meta", inMeta(array(62)), false},
		{"beyond the decoder", inRoot(array(20000)), false},
		{"many side by side", inRoot("[" + strings.Repeat("[],{},", 500) + "1]"), true},
		{"brackets in strings", inRoot("[" + strings.Repeat("[],", 100) + long + "]"), true},
		{"behind strings", inRoot(`["]]]\"]",` + array(63) + "]"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := message.Read([]byte(tt.body))
			if tt.ok {
				if err != nil {
					t.Fatalf("refused: %s", err.Message)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Code != message.CodeInvalidRequest || !strings.Contains(err.Message, "deeper than 64") {
				t.Errorf("got %d %q", err.Code, err.Message)
			}
		})
	}
}

// TestReadAliases checks that nothing is copied that should not be.
func TestReadAliases(t *testing.T) {
	body := []byte(call(`{"name":"a","arguments":{"x":1}}`))
	c, err := message.Read(body)
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string][]byte{"ID": c.ID, "Args": c.Args, "Params": c.Params, "Body": c.Body} {
		at := bytes.Index(body, part)
		if at < 0 || &body[at] != &part[0] {
			t.Errorf("%s does not alias the body", name)
		}
		if name != "Body" && cap(part) != len(part) {
			t.Errorf("an append to %s would write into the body", name)
		}
	}
}

// TestReadFolds checks against the standard library that every spelling it
// takes for a known name is refused, in each object.
func TestReadFolds(t *testing.T) {
	spellings := func(name string) []string {
		out := []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], strings.ToLower(name),
			strings.ReplaceAll(name, "s", "\u017f"), strings.ReplaceAll(name, "k", "\u212a")}
		return slices.DeleteFunc(out, func(s string) bool { return s == name || !strings.EqualFold(s, name) })
	}
	for format, names := range map[string][]string{
		`{"jsonrpc":"2.0","id":1,"method":"ping",%q:0}`:            {"jsonrpc", "id", "method", "params", "result", "error"},
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":{%q:0}}`: {"name", "uri", "arguments", "_meta", "ref", "notifications", "taskId", "protocolVersion"},
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{%q:0}}}`: {"io.modelcontextprotocol/protocolVersion",
			"io.modelcontextprotocol/clientCapabilities", "io.modelcontextprotocol/clientInfo", "progressToken"},
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{%q:0}}}`: {"type", "name", "uri"},
	} {
		for _, name := range names {
			for _, s := range spellings(name) {
				body := fmt.Sprintf(format, s)
				if _, err := message.Read([]byte(body)); err == nil || !strings.Contains(err.Message, "only in case") {
					t.Errorf("%s: %v", body, err)
				}
			}
		}
	}
}

// TestReadConcurrently shares the pool between goroutines; the race detector
// and the comparison would see a scanner used twice.
func TestReadConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				want := fmt.Sprintf("tool-%d-%d", i, j)
				if j%3 == 0 {
					message.Read([]byte(call(`{"name":"x","name":"y"}`)))
				}
				c, err := message.Read([]byte(call(`{"name":"` + want + `","arguments":{}}`)))
				if err != nil || c.Name != want {
					t.Errorf("got %v %v, want %s", c, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}
