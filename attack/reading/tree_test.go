package reading_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A tree is a JSON value of any decoder in one form: nil, bool, string, number,
// []any or map[string]any.

// number is a JSON number as it was written.
type number string

// absent is a member that is not there, which is not the same as null.
type absent struct{}

// spelling is how a decoder keeps numbers, and so how they can be compared.
type spelling int

const (
	asWritten spelling = iota
	asDouble
)

// canonical is a tree as text, equal for equal trees only.
func canonical(v any, s spelling) string {
	var b strings.Builder
	write(&b, v, s)
	return b.String()
}

func write(b *strings.Builder, v any, s spelling) {
	switch v := v.(type) {
	case absent:
		b.WriteString("nothing")
	case nil:
		b.WriteString("null")
	case bool:
		fmt.Fprint(b, v)
	case string:
		b.WriteString(strconv.QuoteToASCII(v))
	case number:
		b.WriteString(v.spell(s))
	case []any:
		b.WriteByte('[')
		for _, item := range v {
			write(b, item, s)
			b.WriteByte(',')
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b.WriteString(strconv.QuoteToASCII(name))
			b.WriteByte(':')
			write(b, v[name], s)
			b.WriteByte(',')
		}
		b.WriteByte('}')
	default:
		panic(fmt.Sprintf("no tree: %T", v))
	}
}

// spell is the text, or the double that every reader of doubles makes of it:
// the nearest one, and infinity beyond the largest.
func (n number) spell(s spelling) string {
	if s == asWritten {
		return string(n)
	}
	f, _ := strconv.ParseFloat(string(n), 64) // out of range: infinity, as in JavaScript
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// strictTree reads what Stile has accepted, with the decoder Stile uses.
func strictTree(raw jsontext.Value) any {
	if raw == nil {
		return absent{}
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	v, err := strictValue(dec)
	if err != nil {
		panic(fmt.Sprintf("accepted, and no JSON: %q: %v", raw, err))
	}
	return v
}

func strictValue(dec *jsontext.Decoder) (any, error) {
	t, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case '{':
		object := map[string]any{}
		for dec.PeekKind() != '}' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String()
			if object[key], err = strictValue(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.ReadToken()
		return object, err
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			item, err := strictValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		_, err = dec.ReadToken()
		return list, err
	case '"':
		return t.String(), nil
	case '0':
		return number(t.String()), nil
	case 'n':
		return nil, nil
	default:
		return t.Bool(), nil
	}
}

// stdTree turns what encoding/json and its imitations decode into a tree.
func stdTree(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case float64:
		return number(strconv.FormatFloat(v, 'g', -1, 64))
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = stdTree(v[i])
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for name := range v {
			object[name] = stdTree(v[name])
		}
		return object
	default:
		return v
	}
}

// rawTree reads raw with encoding/json, numbers as they are written.
func rawTree(raw []byte) any {
	if len(raw) == 0 {
		return absent{}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "not JSON: " + err.Error()
	}
	if _, err := dec.Token(); err != io.EOF {
		return "more than one value"
	}
	return stdTree(v)
}
