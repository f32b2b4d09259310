// Package message answers WHAT: it reads one JSON-RPC message of the Model
// Context Protocol in a single strict pass over the whole body and says which
// operation it asks for. The bytes are kept as they came; nothing is decoded
// and encoded again.
package message

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// Era is the generation of the protocol a message belongs to.
type Era uint8

const (
	// Era2025 is every revision up to 2025-11-25: initialize, sessions, a GET stream.
	Era2025 Era = iota + 1
	// Era2026 is 2026-07-28 and what follows: every request stands alone and
	// carries its revision in params._meta.
	Era2026
)

// Kind is what a message is in JSON-RPC terms.
type Kind uint8

const (
	// Request has a method and an id.
	Request Kind = iota + 1
	// Notification has a method and no id.
	Notification
	// Response has an id and a result or an error (2025 revisions only).
	Response
	// Stream is no message at all: the GET that opens a 2025 stream.
	Stream
	// Close is no message at all: the DELETE that ends a 2025 session.
	Close
)

// Call is one message as the rest of the pipeline sees it. All byte slices
// alias Body and must not be changed.
type Call struct {
	Kind Kind
	Era  Era
	// Version is params._meta["io.modelcontextprotocol/protocolVersion"], or
	// for an initialize without that params.protocolVersion; empty when the body
	// names none.
	Version string
	// ID is the raw JSON of the id (a string or a number); nil when there is none.
	ID jsontext.Value
	// Method is the JSON-RPC method; empty for Response, Stream and Close.
	Method string
	// Name is what the method acts on when that is named: params.name of
	// tools/call and prompts/get, and for completion/complete the name or URI
	// of params.ref.
	Name string
	// RefType is params.ref.type of completion/complete ("ref/prompt",
	// "ref/resource"), empty elsewhere.
	RefType string
	// URI is params.uri of resources/read, resources/subscribe and
	// resources/unsubscribe.
	URI string
	// Args is the raw JSON object params.arguments of tools/call and
	// prompts/get; nil when absent.
	Args jsontext.Value
	// Params is the raw JSON of params; nil when absent.
	Params jsontext.Value
	// TaskID is params.taskId of tasks/* requests.
	TaskID string
	// Listen holds params.notifications.resourceSubscriptions of
	// subscriptions/listen.
	Listen []string
	// Body is the message exactly as it came.
	Body []byte
}

// Error is why a body or its headers were refused.
type Error struct {
	// Status is the HTTP status: 400, or 413 for a body over the limit.
	Status int
	// Code is the JSON-RPC error code: -32700, -32600, -32602 or -32020.
	Code int
	// Message says what is wrong and what was expected. Printable ASCII.
	Message string
	// ID is the raw id of the message where one could be read without doubt;
	// nil otherwise, and for a notification.
	ID jsontext.Value
	// Err is the cause when a body could not be read, such as a timeout; nil
	// elsewhere. It is for the log, not for the client.
	Err error
}

// Error returns the message, and the cause where there is one.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause, so that errors.Is can tell a timeout from a client
// that went away.
func (e *Error) Unwrap() error { return e.Err }

// The JSON-RPC error codes of a refused message.
const (
	// CodeParse is for bytes that are not one JSON text.
	CodeParse = -32700
	// CodeInvalidRequest is for JSON that is not one JSON-RPC message of MCP.
	CodeInvalidRequest = -32600
	// CodeInvalidParams is for params without the shape the method demands, and
	// for a missing required _meta entry (REQ-29).
	CodeInvalidParams = -32602
	// CodeHeaderMismatch is for headers that are missing, malformed or differ
	// from the body (REQ-25, REQ-26).
	CodeHeaderMismatch = -32020
)

// badRequest is a refusal with status 400.
func badRequest(code int, text string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: code, Message: text}
}
