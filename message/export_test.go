package message

import (
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ReadWhole is Read without the shortening of long strings.
func ReadWhole(body []byte) (*Call, *Error) {
	s := newScanner(body)
	defer s.release()
	s.view, s.cuts = s.body, s.cuts[:0]
	if isBatch(body) {
		return Read(body)
	}
	if err := s.scanText(); err != nil {
		return nil, s.syntaxFault(err)
	}
	call := &Call{Body: body}
	if s.first == nil {
		s.assemble(call)
	}
	if s.first != nil {
		s.first.ID = s.knownID()
		return nil, s.first
	}
	return call, nil
}

// StringEnd is where a string ends whose inside begins at i, as the scanner sees
// it; -1 when it is not valid.
func StringEnd(b []byte, i int) int {
	if !utf8.Valid(b) {
		return -1
	}
	return stringEnd(b, i)
}

// DecoderTakes reports whether the decoder takes b for one JSON string.
func DecoderTakes(b []byte) bool { return jsontext.Value(b).IsValid() }
