// Package envelope reads the outside of a JSON-RPC message of MCP: what says where
// it belongs, and nothing else. Its bytes stay as they came; a member can be
// replaced in them without touching the rest.
//
// It is for messages of a server, which are passed on whatever they hold, and for
// those of a client that were read strictly before (package message).
package envelope

import (
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Kind is what a message is.
type Kind uint8

const (
	// Request has a method and an id.
	Request Kind = iota + 1
	// Notification has a method and no id.
	Notification
	// Response has an id and neither a method nor more than one of result and error.
	Response
)

// Span is a place in Message.Raw; the zero Span is nowhere.
type Span struct{ Start, End int }

// Exists reports whether it is a place.
func (s Span) Exists() bool { return s.End > 0 }

// Message is the outside of one message.
type Message struct {
	Raw    []byte
	Kind   Kind
	Method string
	// ID is the id, of a string or a number.
	ID Span
	// Token is params._meta.progressToken, which a request has, or
	// params.progressToken, which notifications/progress has.
	Token Span
	// Subscription is io.modelcontextprotocol/subscriptionId in the _meta of params
	// or result.
	Subscription Span
	// RequestID is params.requestId of notifications/cancelled.
	RequestID Span
	// Version is protocolVersion in the params or result of initialize.
	Version Span
	// Revision is io.modelcontextprotocol/protocolVersion in the _meta of params,
	// which every request of 2026-07-28 has.
	Revision Span
	// URI is params.uri, decoded.
	URI string
	// Level is params.level, decoded.
	Level string
	// LogLevel reports whether params._meta asks for log messages.
	LogLevel bool
	// Failed reports whether it is an error, and Code is error.code, 0 when that is
	// no number.
	Failed bool
	Code   int
}

// Errors of Read.
var (
	errShape    = errors.New("no JSON-RPC message")
	errTrailing = errors.New("data after the message")
)

// At returns the bytes of a place in Raw.
func (m *Message) At(s Span) jsontext.Value { return m.Raw[s.Start:s.End] }

// Text returns a string that stands at a place in Raw, or the digits of a number.
func (m *Message) Text(s Span) string {
	v := m.At(s)
	if len(v) == 0 || v[0] != '"' {
		return string(v)
	}
	plain, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(plain)
}

// Edit is a place and what is to stand there.
type Edit struct {
	At   Span
	With []byte
}

// Replace returns a copy of Raw with the edits made; those whose place is nowhere
// are left out. They must not overlap.
func (m *Message) Replace(edits ...Edit) []byte {
	size := len(m.Raw)
	for _, e := range edits {
		size += len(e.With)
	}
	out := make([]byte, 0, size)
	at := 0
	for {
		next := -1
		for i, e := range edits {
			if e.At.Exists() && e.At.Start >= at && (next < 0 || e.At.Start < edits[next].At.Start) {
				next = i
			}
		}
		if next < 0 {
			return append(out, m.Raw[at:]...)
		}
		out = append(append(out, m.Raw[at:edits[next].At.Start]...), edits[next].With...)
		at = edits[next].At.End
	}
}

// Key is the same for two ids, or progress tokens, that mean the same, however
// they are written: 1 and 1.0, "a" and "\u0061"; never for a string and a number.
func Key(id jsontext.Value) string {
	if len(id) > 0 && id[0] == '"' {
		plain, err := jsontext.AppendUnquote(nil, id)
		if err != nil {
			return string(id)
		}
		return `"` + string(plain)
	}
	text := string(id)
	if !strings.ContainsAny(text, ".eE") && text != "-0" {
		return text
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != float64(int64(f)) {
		return text
	}
	return strconv.FormatInt(int64(f), 10)
}
