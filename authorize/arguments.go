package authorize

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json/jsontext"
)

// errNumber is a number that could not be compared without guessing.
var errNumber = errors.New("a number is too large to be compared exactly")

// decodeObject reads a JSON object for conditions: integers as int64, other
// numbers as float64. A number that fits neither exactly becomes an error value,
// so that only a condition that reads it fails.
func decodeObject(raw jsontext.Value) (map[string]any, error) {
	if len(raw) == 0 {
		return map[string]any{}, nil
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	value, err := decodeValue(dec)
	if err != nil {
		return nil, errors.New("the arguments are not valid JSON")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("the arguments are not a JSON object")
	}
	return object, nil
}

func decodeValue(dec *jsontext.Decoder) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		object := map[string]any{}
		for dec.PeekKind() != '}' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String()
			if object[key], err = decodeValue(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.ReadToken()
		return object, err
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			item, err := decodeValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		_, err = dec.ReadToken()
		return list, err
	case '"':
		return token.String(), nil
	case '0':
		return decodeNumber(token.String()), nil
	case 'n':
		return types.NullValue, nil
	default:
		return token.Bool(), nil
	}
}

// maxExact is the largest integer that no reader of doubles takes for another
// one, nor another one for it (RFC 7493 section 2.2). What lies beyond could be
// one number here and another in the server.
const maxExact = 1<<53 - 1

func decodeNumber(text string) any {
	if !strings.ContainsAny(text, ".eE") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n > maxExact || n < -maxExact {
			return types.WrapErr(errNumber)
		}
		return n
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return types.WrapErr(errNumber)
	case f != math.Trunc(f):
		return f
	case math.Abs(f) > maxExact:
		return types.WrapErr(errNumber)
	default:
		return int64(f)
	}
}

// lookalike is a member that only some server would take for the one a rule
// reads.
type lookalike struct{ name string }

func (e *lookalike) Error() string {
	return fmt.Sprintf("the arguments have a member that some servers would take for %q", e.name)
}

// check looks for members of value that read like a guarded one, and for those
// that are of another kind than they are compared with.
func (m *members) check(value any) error {
	if m == nil {
		return nil
	}
	if err := m.checkLoose(value); err != nil {
		return err
	}
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			for name := range m.names {
				if looksLike(key, name) {
					return &lookalike{name}
				}
			}
			child := m.names[key]
			if child != nil && !child.fits(item) {
				return &wrongKind{key}
			}
			if err := child.check(item); err != nil {
				return err
			}
			if err := m.each.check(item); err != nil {
				return err
			}
		}
	case []any:
		for _, item := range v {
			if err := m.each.check(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkLoose looks for lookalikes of the loose names at any depth.
func (m *members) checkLoose(value any) error {
	if len(m.loose) == 0 {
		return nil
	}
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			for _, name := range m.loose {
				if looksLike(key, name) {
					return &lookalike{name}
				}
			}
			if err := m.checkLoose(item); err != nil {
				return err
			}
		}
	case []any:
		for _, item := range v {
			if err := m.checkLoose(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// looksLike reports whether some reader could take key for name though they
// differ: without regard to case, with the dotless and dotted i of Turkish, up to
// a NUL, or because key stands for any name at all: the members of "__proto__"
// become those of an object that a program in JavaScript copies by assignment.
func looksLike(key, name string) bool {
	if key == name {
		return false
	}
	if key == "__proto__" {
		return true
	}
	before, _, _ := strings.Cut(key, "\x00")
	return strings.EqualFold(dotless.Replace(before), dotless.Replace(name))
}

var dotless = strings.NewReplacer("\u0130", "i", "\u0131", "i")

// argumentText is the value of a top-level argument as it stands in a scope:
// text, a boolean or an integer.
func argumentText(args map[string]any, name string) (string, bool) {
	switch v := args[name].(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	default:
		return "", false
	}
}

// asValue makes a CEL value of decoded JSON.
func asValue(v any) ref.Val { return types.DefaultTypeAdapter.NativeToValue(v) }
