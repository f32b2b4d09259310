package message

import (
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// syntaxFault turns what the decoder said into a refusal that says which rule
// was broken. Duplicate names and depth are well-formed JSON (RFC 8259 section
// 4 only warns of the former), so they are no parse errors.
func (s *scanner) syntaxFault(err error) *Error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, errTrailing):
		return badRequest(CodeParse, "there is data after the message")
	case errors.Is(err, jsontext.ErrDuplicateName):
		f := badRequest(CodeInvalidRequest, "a member name occurs twice in one object")
		f.ID = s.lenientID()
		return f
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest(CodeParse, "the body ends before the message does")
	case errors.Is(err, io.EOF):
		return badRequest(CodeParse, "the body is empty")
	case !errors.As(err, &syntax):
		return badRequest(CodeParse, "the body is not valid JSON")
	}
	return s.brokenAt(min(int(syntax.ByteOffset), len(s.body)))
}

// brokenAt names the fault of a body that stops being JSON at an offset.
func (s *scanner) brokenAt(at int) *Error {
	if nestsDeeper(s.body[:at], MaxDepth) {
		return badRequest(CodeInvalidRequest, depthText)
	}
	rest := s.body[at:]
	where := " at byte " + strconv.Itoa(at)
	switch {
	case !utf8.Valid(s.body):
		f := badRequest(CodeParse, "the body is not valid UTF-8")
		f.ID = s.lenientID()
		return f
	case isSurrogate(rest):
		f := badRequest(CodeParse, "unpaired surrogate"+where+": the body does not stand for valid UTF-8")
		f.ID = s.lenientID()
		return f
	case len(rest) > 0 && rest[0] < ' ':
		return badRequest(CodeParse, "raw control character"+where)
	}
	return badRequest(CodeParse, "the body is not valid JSON"+where)
}

// isSurrogate reports whether b begins with an escaped half of a surrogate pair.
func isSurrogate(b []byte) bool {
	return len(b) > 3 && b[0] == '\\' && b[1] == 'u' && (b[2] == 'd' || b[2] == 'D') && b[3] >= '8'
}

// lenientID looks for the id of a body that the strict scan refused half way:
// it must be well-formed to its end when duplicates and invalid UTF-8 are let
// pass, and hold exactly one root member that any reader could take for the id.
func (s *scanner) lenientID() jsontext.Value {
	s.rewind(s.body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if t, err := s.dec.ReadToken(); err != nil || t.Kind() != '{' {
		return nil
	}
	var id jsontext.Value
	for s.dec.PeekKind() != '}' {
		quoted, err := s.dec.ReadValue()
		if err != nil {
			return nil
		}
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil || hasControl(name) {
			return nil
		}
		v, err := s.dec.ReadValue()
		if err != nil {
			return nil
		}
		if !foldsTo(name, "id") {
			continue
		}
		if id != nil || string(name) != "id" {
			return nil
		}
		end := int(s.dec.InputOffset())
		id = s.body[end-len(v) : end : end]
	}
	if _, err := s.dec.ReadToken(); err != nil || s.end() != nil || !isID(id) {
		return nil
	}
	return id
}

// knownID is the id of a message that is well-formed but refused.
func (s *scanner) knownID() jsontext.Value {
	if id := s.found[slotID]; !s.doubtfulID && isID(id) {
		return id
	}
	return nil
}

// isID reports whether raw is what MCP takes for an id: a string or an integer
// written as one (2026-07-28 basic/index "Requests"), never null.
func isID(raw jsontext.Value) bool {
	if len(raw) == 0 {
		return false
	}
	if raw[0] == '"' {
		_, err := jsontext.AppendUnquote(nil, raw)
		return err == nil && utf8.Valid(raw)
	}
	digits := raw
	if digits[0] == '-' {
		digits = digits[1:]
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(digits) > 0
}
