package envelope

import (
	"bytes"
	"regexp"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Read reads one message, a JSON object that fills line but for white space. Of
// members that occur twice the last counts, as for most readers.
func Read(line []byte) (*Message, error) {
	m := new(Message)
	if err := m.Read(line); err != nil {
		return nil, err
	}
	return m, nil
}

// Read is the function Read into a Message that exists. After an error its value
// is undefined.
func (m *Message) Read(line []byte) error {
	*m = Message{Raw: line}
	r := reader{scanner: scanner{b: line}, m: m}
	r.space()
	if r.peek() != '{' {
		return errShape
	}
	if err := r.object(r.root); err != nil {
		return err
	}
	if r.space(); r.at < len(line) {
		return errTrailing
	}
	switch {
	case m.Method != "" && m.ID.Exists():
		m.Kind = Request
	case m.Method != "":
		m.Kind = Notification
	case r.result != m.Failed && (m.ID.Exists() || m.Failed):
		m.Kind = Response
	default:
		return errShape
	}
	return nil
}

// Glimpse says what can be told of a message whose middle is not there: its id, by
// its first bytes or by its last. It is nil where neither tells. It reports false
// when it is no response but is seen to have a method.
func Glimpse(head, tail []byte) (id jsontext.Value, response bool) {
	m := Message{Raw: head}
	r := reader{scanner: scanner{b: head}, m: &m}
	r.space()
	if r.peek() == '{' {
		_ = r.object(r.root) // as far as it goes
	}
	response = m.Method == ""
	if m.ID.Exists() && m.ID.End < len(head) { // a number at the end may go on
		return m.At(m.ID), response
	}
	if found := lastID.FindSubmatch(tail); found != nil {
		return found[1], response
	}
	return nil, response
}

// lastID is the id of a message whose last member it is.
var lastID = regexp.MustCompile(`[,{]\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*)\s*\}\s*$`)

// Split returns the messages of a batch, which servers of 2025-03-26 may send.
func Split(line []byte) ([][]byte, error) {
	s := scanner{b: line}
	var all [][]byte
	s.space()
	if s.peek() != '[' {
		return nil, errShape
	}
	err := s.list(']', func() error {
		from := s.at
		err := s.value()
		all = append(all, line[from:s.at])
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.space(); s.at < len(line) {
		return nil, errTrailing
	}
	return all, nil
}

// reader looks at the members that say where a message belongs.
type reader struct {
	scanner
	m      *Message
	result bool
}

// object reads an object and hands the name of each member to visit, which reads
// the value. What is no object is skipped.
func (r *reader) object(visit func(name []byte) error) error {
	if r.peek() != '{' {
		return r.value()
	}
	return r.list('}', func() error {
		quoted, err := r.name()
		if err != nil {
			return err
		}
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(nil, quoted); err != nil {
				name = nil // invalid UTF-8: none of those that are looked for
			}
		}
		return visit(name)
	})
}

const (
	revision       = "io.modelcontextprotocol/protocolVersion"
	subscriptionID = "io.modelcontextprotocol/subscriptionId"
	logLevel       = "io.modelcontextprotocol/logLevel"
)

func (r *reader) root(name []byte) error {
	switch string(name) {
	case "id":
		return r.id(&r.m.ID)
	case "method":
		return r.text(&r.m.Method)
	case "params":
		return r.object(r.params)
	case "result":
		r.result = true
		return r.object(r.resultMember)
	case "error":
		r.m.Failed = true
		return r.object(r.errorMember)
	default:
		return r.value()
	}
}

func (r *reader) params(name []byte) error {
	switch string(name) {
	case "_meta":
		return r.object(r.meta)
	case "progressToken":
		return r.id(&r.m.Token)
	case "requestId":
		return r.id(&r.m.RequestID)
	case "uri":
		return r.text(&r.m.URI)
	case "level":
		return r.text(&r.m.Level)
	case "protocolVersion":
		return r.id(&r.m.Version)
	default:
		return r.value()
	}
}

func (r *reader) meta(name []byte) error {
	switch string(name) {
	case "progressToken":
		return r.id(&r.m.Token)
	case subscriptionID:
		return r.id(&r.m.Subscription)
	case revision:
		return r.id(&r.m.Revision)
	case logLevel:
		r.m.LogLevel = true
	}
	return r.value()
}

func (r *reader) resultMember(name []byte) error {
	switch string(name) {
	case "_meta":
		return r.object(r.meta)
	case "protocolVersion":
		return r.id(&r.m.Version)
	default:
		return r.value()
	}
}

func (r *reader) errorMember(name []byte) error {
	from := r.at
	err := r.value()
	if err == nil && string(name) == "code" {
		r.m.Code, _ = strconv.Atoi(string(r.b[from:r.at]))
	}
	return err
}

// id reads a string or a number; anything else, null above all, is none.
func (r *reader) id(to *Span) error {
	*to = Span{}
	from, first := r.at, r.peek()
	err := r.value()
	if err == nil && (first == '"' || first == '-' || '0' <= first && first <= '9') {
		*to = Span{from, r.at}
	}
	return err
}

// text reads a string; anything else reads as empty.
func (r *reader) text(to *string) error {
	*to = ""
	from, first := r.at, r.peek()
	if err := r.value(); err != nil || first != '"' {
		return err
	}
	v := r.b[from:r.at]
	if bytes.IndexByte(v, '\\') < 0 {
		*to = string(v[1 : len(v)-1])
		return nil
	}
	plain, err := jsontext.AppendUnquote(nil, v)
	*to = string(plain)
	return err
}
