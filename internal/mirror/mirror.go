// Package mirror knows the arguments of tools that are repeated in headers,
// Mcp-Param-NAME, for intermediaries to route by (2026-07-28 streamable-http "Custom
// Headers from Tool Parameters"; REQ-28).
package mirror

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/message"
)

// Argument is an argument that a header repeats.
type Argument struct {
	// Header is the name of the header in Go's canonical form.
	Header string
	// Path are the names of the properties that lead to it.
	Path []string
}

// maxDepth is how deep the properties of a schema are followed.
const maxDepth = 32

// schema is what matters of a JSON Schema. Only what is reached by properties alone
// may be mirrored.
type schema struct {
	Header     jsontext.Value            `json:"x-mcp-header"`
	Properties map[string]jsontext.Value `json:"properties"`
}

// lenient reads what servers say: the last of several members counts.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// In returns the arguments that the inputSchema of a tool wants repeated.
func In(inputSchema jsontext.Value) []Argument { return in(inputSchema, nil) }

func in(raw jsontext.Value, path []string) []Argument {
	var s schema
	if raw.Kind() != '{' || len(path) > maxDepth || json.Unmarshal(raw, &s, lenient) != nil {
		return nil
	}
	var found []Argument
	if s.Header.Kind() == '"' && len(path) > 0 {
		var name string
		if json.Unmarshal(s.Header, &name, lenient) == nil && isToken(name) {
			found = append(found, Argument{http.CanonicalHeaderKey("Mcp-Param-" + name), path})
		}
	}
	for name, sub := range s.Properties {
		found = append(found, in(sub, append(path[:len(path):len(path)], name))...)
	}
	return found
}

// isToken reports whether a name can be part of that of a header (RFC 9110
// section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// Value is the argument among those of a call, nil when there is none.
func (a *Argument) Value(arguments jsontext.Value) jsontext.Value {
	raw := arguments
	for _, name := range a.Path {
		var object map[string]jsontext.Value
		if raw.Kind() != '{' || json.Unmarshal(raw, &object) != nil {
			return nil
		}
		raw = object[name]
	}
	return raw
}

// Text is what a header says of a value, before it is encoded; false for what has no
// header: null, nothing, and what is no text, number or truth value.
func Text(value jsontext.Value) (string, bool) {
	switch value.Kind() {
	case '"':
		var text string
		err := json.Unmarshal(value, &text)
		return text, err == nil
	case 't', 'f', '0':
		return string(value), true
	}
	return "", false
}

// Mismatch says what is wrong with the header of a value as it was sent, empty when
// nothing is.
func (a *Argument) Mismatch(sent []string, value jsontext.Value) string {
	at := strings.Join(a.Path, ".")
	if len(value) == 0 || value.Kind() == 'n' {
		if len(sent) > 0 {
			return "was sent, but the argument " + at + " has no value"
		}
		return ""
	}
	switch len(sent) {
	case 0:
		return "is missing: it must repeat the argument " + at
	case 1:
	default:
		return "was sent more than once"
	}
	text, err := message.DecodeHeaderValue(sent[0])
	if err != nil {
		return "is malformed"
	}
	if !sameValue(text, value) {
		return "differs from the argument " + at
	}
	return ""
}

// sameValue compares a header with an argument; numbers by what they mean.
func sameValue(text string, value jsontext.Value) bool {
	want, ok := Text(value)
	return ok && (text == want || value.Kind() == '0' && sameNumber(text, want))
}

func sameNumber(a, b string) bool {
	const safe = 1<<53 - 1 // beyond, two numbers may read as one
	if strings.Trim(a, "0123456789.-+eE") != "" {
		return false // what strconv reads besides: "Inf", "0x1p0", "1_0"
	}
	x, err := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err == nil && err2 == nil && x == y && math.Abs(x) <= safe
}
