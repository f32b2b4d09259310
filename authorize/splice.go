package authorize

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// span is a part of a text: the bytes from start up to end.
type span struct{ start, end int }

func (s span) of(raw []byte) []byte { return raw[s.start:s.end] }

// jsonMember is one member of an object and where its value stands.
type jsonMember struct {
	name  string
	value span
}

var errTrailing = errors.New("there is data after the JSON value")

// decoderOf reads raw itself, without a copy, which is what jsontext promises for
// a bytes.Buffer, and never writes to it.
func decoderOf(raw []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(raw))
}

// membersOf reads the members of a JSON object that is all of raw but for white
// space. Duplicate names at any level and invalid JSON are errors.
func membersOf(raw []byte) ([]jsonMember, error) {
	dec := decoderOf(raw)
	if kind := dec.PeekKind(); kind != '{' {
		return nil, fmt.Errorf("expected a JSON object, not %v", kind)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	var all []jsonMember
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		end := int(dec.InputOffset())
		all = append(all, jsonMember{key, span{end - len(value), end}})
	}
	return all, closing(dec)
}

// elementsOf reads where the elements of a JSON array stand that is all of raw.
func elementsOf(raw []byte) ([]span, error) {
	dec := decoderOf(raw)
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	var all []span
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		end := int(dec.InputOffset())
		all = append(all, span{end - len(value), end})
	}
	return all, closing(dec)
}

// closing reads the closing bracket, after which nothing may follow.
func closing(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// lookup finds a member of an object that stands at base in a larger text. A
// member that only some reader would take for it is an error.
func lookup(members []jsonMember, name string) (span, bool, error) {
	found, at := false, span{}
	for _, m := range members {
		if m.name == name {
			found, at = true, m.value
		}
		if looksLike(m.name, name) {
			return span{}, false, fmt.Errorf("a member differs from %q only in case", name)
		}
	}
	return at, found, nil
}

// splice replaces parts of a text.
type splice struct {
	raw   []byte
	edits []edit
}

type edit struct {
	span
	text []byte
}

// replace puts text in the place of a part.
func (s *splice) replace(at span, text []byte) {
	if !bytes.Equal(at.of(s.raw), text) {
		s.edits = append(s.edits, edit{at, text})
	}
}

// insert adds a member at the end of the object that stands at.
func (s *splice) insert(at span, empty bool, name string, value []byte) {
	text := []byte(`,"` + name + `":`)
	if empty {
		text = text[1:]
	}
	end := at.end - 1
	s.edits = append(s.edits, edit{span{end, end}, append(text, value...)})
}

// bytes is the text with everything replaced, or the same slice when nothing is.
func (s *splice) bytes() []byte {
	if len(s.edits) == 0 {
		return s.raw
	}
	slices.SortStableFunc(s.edits, func(a, b edit) int { return a.start - b.start })
	out, at := make([]byte, 0, len(s.raw)+64*len(s.edits)), 0
	for _, e := range s.edits {
		out = append(out, s.raw[at:e.start]...)
		out = append(out, e.text...)
		at = e.end
	}
	return append(out, s.raw[at:]...)
}

// array writes elements, as they are, between brackets.
func array(elements [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(elements, []byte{','})...), ']')
}

// text decodes a JSON string.
func text(raw []byte) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	decoded, err := jsontext.AppendUnquote(nil, raw)
	return string(decoded), err == nil
}
