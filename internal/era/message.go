// Package era lets a client of one generation of MCP use a server of the other:
// one of 2026-07-28, where every request stands alone, and one of the 2024 and 2025
// revisions, which begin with initialize and have sessions.
//
// It translates messages and knows nothing of the transport on the client's side:
// Modern and Legacy are given one message at a time, as a child process would be on
// its standard input, and hand back one message at a time. The server is reached
// over Streamable HTTP, by an http.RoundTripper.
//
// What both generations have passes as the bytes it was: name, uri and arguments of
// a call, the content of a result. Only what envelops them is added, dropped or
// replaced. docs/eras.md lists what cannot cross.
package era

import (
	"errors"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
)

// The revisions that are spoken here.
const (
	// Modern2026 is the revision without sessions.
	Modern2026 = "2026-07-28"
	// Latest2025 is the last one with them.
	Latest2025 = "2025-11-25"
)

// The members of _meta that envelop a request, a result or a notification of
// 2026-07-28 (basic/index "_meta").
const (
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaClient       = "io.modelcontextprotocol/clientInfo"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	metaLevel        = "io.modelcontextprotocol/logLevel"
	metaServer       = "io.modelcontextprotocol/serverInfo"
	metaSubscription = "io.modelcontextprotocol/subscriptionId"
	metaToken        = "progressToken"
)

// JSON-RPC error codes.
const (
	codeInvalidRequest = -32600
	codeNoMethod       = -32601
	codeInvalidParams  = -32602
	codeInternal       = -32603
	codeOwn            = -32000 // of an implementation
	codeNotFound       = -32002 // resource, before 2026-07-28
	codeURLNeeded      = -32042 // 2025-11-25 only
	codeMissing        = -32021 // client capability
	codeVersion        = -32022
)

// packet is one JSON-RPC message, taken apart at its first level.
type packet struct {
	all    object
	kind   envelope.Kind
	id     jsontext.Value
	method string
	params jsontext.Value
	result jsontext.Value
	failed jsontext.Value // error
}

var errShape = errors.New("no JSON-RPC message")

// readPacket takes a message apart.
func readPacket(line []byte) (*packet, error) {
	all, err := readObject(line)
	if err != nil {
		return nil, err
	}
	p := &packet{all: all, id: all.get("id"), method: all.text("method"), params: all.get("params"),
		result: all.get("result"), failed: all.get("error")}
	if len(p.id) > 0 && p.id[0] == 'n' {
		p.id = nil
	}
	switch {
	case p.method != "" && p.id != nil:
		p.kind = envelope.Request
	case p.method != "":
		p.kind = envelope.Notification
	case (p.result != nil) != (p.failed != nil):
		p.kind = envelope.Response
	default:
		return nil, errShape
	}
	return p, nil
}

// key is the id in a form that can be compared.
func (p *packet) key() string { return envelope.Key(p.id) }

// failure is an answer that says no.
type failure struct {
	code int
	text string
	data jsontext.Value // nil: none
}

func (f *failure) Error() string { return f.text }

// line is the failure as an answer to a request.
func (f *failure) line(id jsontext.Value) []byte {
	e := object{}.with("code", strconv.AppendInt(nil, int64(f.code), 10)).with("message", quote(f.text))
	if f.data != nil {
		e = e.with("data", f.data)
	}
	return errorLine(id, e.bytes())
}

// asFailure makes a failure of any error. What was not meant for clients is only
// called an internal error.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{code: codeInternal, text: "internal error"}
}

func errorLine(id, e jsontext.Value) []byte {
	if id == nil {
		id = jsontext.Value("null")
	}
	return base().with("id", id).with("error", e).bytes()
}

func resultLine(id, result jsontext.Value) []byte {
	return base().with("id", id).with("result", result).bytes()
}

func requestLine(id jsontext.Value, method string, params jsontext.Value) []byte {
	o := base().with("id", id).with("method", quote(method))
	if params != nil {
		o = o.with("params", params)
	}
	return o.bytes()
}

func notificationLine(method string, params jsontext.Value) []byte {
	o := base().with("method", quote(method))
	if params != nil {
		o = o.with("params", params)
	}
	return o.bytes()
}

func base() object { return object{}.with("jsonrpc", []byte(`"2.0"`)) }

// codeOf is error.code, 0 when it is no integer.
func codeOf(e jsontext.Value) int {
	n, err := strconv.Atoi(string(lenient(e).get("code")))
	if err != nil {
		return 0
	}
	return n
}
