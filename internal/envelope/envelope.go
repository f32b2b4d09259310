// Package envelope reads the outside of a JSON-RPC message of MCP: what says where
// it belongs, and nothing else. Its bytes stay as they came; a member can be
// replaced in them without touching the rest.
//
// It is for messages of a server, which are passed on whatever they hold, and for
// those of a client that were read strictly before (package message).
package envelope

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

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

// Read reads one message, a JSON object that fills line but for white space. Of
// members that occur twice the last counts, as for most readers.
func Read(line []byte) (*Message, error) {
	r := readers.Get().(*reader)
	defer r.release()
	m := &Message{Raw: line}
	if err := r.read(m); err != nil {
		return nil, err
	}
	return m, nil
}

// Split returns the messages of a batch, which servers of 2025-03-26 may send.
func Split(line []byte) ([][]byte, error) {
	r := readers.Get().(*reader)
	defer r.release()
	r.reset(line)
	if t, err := r.dec.ReadToken(); err != nil || t.Kind() != '[' {
		return nil, errShape
	}
	var all [][]byte
	for r.dec.PeekKind() != ']' {
		s, err := r.value()
		if err != nil {
			return nil, err
		}
		all = append(all, line[s.Start:s.End])
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, err
	}
	return all, r.end()
}

// reader is pooled for its decoder's tables.
type reader struct {
	dec     jsontext.Decoder
	buf     bytes.Buffer
	line    []byte
	result  bool
	failure bool
}

var readers = sync.Pool{New: func() any { return new(reader) }}

func (r *reader) reset(line []byte) {
	r.line, r.result, r.failure = line, false, false
	r.buf = *bytes.NewBuffer(line)
	r.dec.Reset(&r.buf, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

func (r *reader) release() {
	r.reset(nil)
	readers.Put(r)
}

func (r *reader) end() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

func (r *reader) read(m *Message) error {
	r.reset(m.Raw)
	if r.dec.PeekKind() != '{' {
		return errShape
	}
	if err := r.object(m, r.root); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	switch {
	case m.Method != "" && m.ID.Exists():
		m.Kind = Request
	case m.Method != "":
		m.Kind = Notification
	case r.result != r.failure && (m.ID.Exists() || r.failure):
		m.Kind = Response
	default:
		return errShape
	}
	return nil
}

// object reads an object and hands the name of each member to visit, which reads
// the value. What is no object is skipped.
func (r *reader) object(m *Message, visit func(*Message, string) error) error {
	if r.dec.PeekKind() != '{' {
		return r.dec.SkipValue()
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != '}' {
		quoted, err := r.dec.ReadValue()
		if err != nil {
			return err
		}
		if err := visit(m, known(quoted)); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// names are the members that are looked at. Anything else is "".
var names = func() map[string]string {
	all := map[string]string{}
	for _, name := range []string{"id", "method", "params", "result", "error", "_meta", "progressToken", "requestId", "uri",
		"level", "protocolVersion", subscriptionID, logLevel, "code"} {
		all[name] = name
	}
	return all
}()

const (
	subscriptionID = "io.modelcontextprotocol/subscriptionId"
	logLevel       = "io.modelcontextprotocol/logLevel"
)

// known is the name of a member if it is one of names.
func known(quoted jsontext.Value) string {
	if bytes.IndexByte(quoted, '\\') >= 0 {
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return ""
		}
		return names[string(name)]
	}
	return names[string(quoted[1:len(quoted)-1])]
}

func (r *reader) root(m *Message, name string) error {
	switch name {
	case "id":
		return r.id(&m.ID)
	case "method":
		return r.text(&m.Method)
	case "params":
		return r.object(m, r.params)
	case "result":
		r.result = true
		return r.object(m, r.resultMember)
	case "error":
		r.failure, m.Failed = true, true
		return r.object(m, r.errorMember)
	default:
		return r.dec.SkipValue()
	}
}

func (r *reader) params(m *Message, name string) error {
	switch name {
	case "_meta":
		return r.object(m, r.meta)
	case "progressToken":
		return r.id(&m.Token)
	case "requestId":
		return r.id(&m.RequestID)
	case "uri":
		return r.text(&m.URI)
	case "level":
		return r.text(&m.Level)
	case "protocolVersion":
		return r.id(&m.Version)
	default:
		return r.dec.SkipValue()
	}
}

func (r *reader) meta(m *Message, name string) error {
	switch name {
	case "progressToken":
		return r.id(&m.Token)
	case subscriptionID:
		return r.id(&m.Subscription)
	case logLevel:
		m.LogLevel = true
	}
	return r.dec.SkipValue()
}

func (r *reader) resultMember(m *Message, name string) error {
	switch name {
	case "_meta":
		return r.object(m, r.meta)
	case "protocolVersion":
		return r.id(&m.Version)
	default:
		return r.dec.SkipValue()
	}
}

func (r *reader) errorMember(m *Message, name string) error {
	if name != "code" {
		return r.dec.SkipValue()
	}
	s, err := r.value()
	if err == nil {
		m.Code, _ = strconv.Atoi(string(r.line[s.Start:s.End]))
	}
	return err
}

// value reads any value and says where it stands.
func (r *reader) value() (Span, error) {
	v, err := r.dec.ReadValue()
	if err != nil {
		return Span{}, err
	}
	end := int(r.dec.InputOffset())
	return Span{end - len(v), end}, nil
}

// id reads a string or a number; anything else, null above all, is none.
func (r *reader) id(to *Span) error {
	*to = Span{}
	kind := r.dec.PeekKind()
	s, err := r.value()
	if err == nil && (kind == '"' || kind == '0') {
		*to = s
	}
	return err
}

// text reads a string; anything else reads as empty.
func (r *reader) text(to *string) error {
	*to = ""
	kind := r.dec.PeekKind()
	v, err := r.dec.ReadValue()
	if err != nil || kind != '"' {
		return err
	}
	if bytes.IndexByte(v, '\\') < 0 {
		*to = string(v[1 : len(v)-1])
		return nil
	}
	plain, err := jsontext.AppendUnquote(nil, v)
	*to = string(plain)
	return err
}

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
