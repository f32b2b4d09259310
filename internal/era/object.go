package era

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// member is one member of a JSON object. Its bytes are those of the object it was
// read from.
type member struct {
	name  string
	raw   []byte // name and value
	value jsontext.Value
}

// object is the members of a JSON object in order. Values stay the bytes they were:
// translating is dropping, adding and replacing members, and nothing else.
type object []member

var errNoObject = errors.New("not a JSON object")

// readObject reads the members of the object that fills raw. Values are looked at
// no further than their ends.
func readObject(raw []byte) (object, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if dec.PeekKind() != '{' {
		return nil, errNoObject
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	var o object
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		start := int(dec.InputOffset()) - len(quoted)
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil && name == nil {
			return nil, err
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		end := int(dec.InputOffset())
		o = append(o, member{name: string(name), raw: raw[start:end], value: raw[end-len(value) : end]})
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errNoObject
	}
	return o, nil
}

// lenient is readObject for what may be missing: no object has no members.
func lenient(raw []byte) object {
	o, err := readObject(raw)
	if err != nil {
		return nil
	}
	return o
}

// get is the value of a member, the last of several; nil when there is none.
func (o object) get(name string) jsontext.Value {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].name == name {
			return o[i].value
		}
	}
	return nil
}

// text is a member that is a string, empty otherwise.
func (o object) text(name string) string { return textOf(o.get(name)) }

// without returns o less every member of those names.
func (o object) without(names ...string) object {
	var out object
	for _, m := range o {
		keep := true
		for _, name := range names {
			keep = keep && m.name != name
		}
		if keep {
			out = append(out, m)
		}
	}
	return out
}

// with returns o with one member of that name, in the place of the first that there
// was, or at the end.
func (o object) with(name string, value []byte) object {
	quoted := quote(name)
	fresh := member{name: name, raw: append(append(quoted, ':'), value...), value: value}
	out := make(object, 0, len(o)+1)
	placed := false
	for _, m := range o {
		switch {
		case m.name != name:
			out = append(out, m)
		case !placed:
			out, placed = append(out, fresh), true
		}
	}
	if !placed {
		out = append(out, fresh)
	}
	return out
}

// bytes writes the object.
func (o object) bytes() jsontext.Value {
	size := 2
	for _, m := range o {
		size += len(m.raw) + 1
	}
	out := append(make([]byte, 0, size), '{')
	for i, m := range o {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, m.raw...)
	}
	return append(out, '}')
}

// quote writes a string as JSON. Text that is no UTF-8 is mended.
func quote(s string) []byte {
	out, _ := jsontext.AppendQuote(nil, s)
	return out
}

// textOf reads a JSON string; anything else is empty.
func textOf(v jsontext.Value) string {
	if len(v) == 0 || v[0] != '"' {
		return ""
	}
	plain, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(plain)
}

// isTrue reports whether a value is true.
func isTrue(v jsontext.Value) bool { return string(v) == "true" }

// isObject reports whether a value is an object.
func isObject(v jsontext.Value) bool { return len(v) > 0 && v[0] == '{' }
