package challenge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/scope"
)

// insufficientScope is the error code that asks for more scopes (RFC 6750 §3.1).
const insufficientScope = "insufficient_scope"

// metaKey is where ChatGPT's servers put a challenge in a result (DES-35).
const metaKey = "mcp/www_authenticate"

// maxMessage is the longest message that FromMessage reads, in bytes.
const maxMessage = 1 << 20

// FromHeader recognises an upstream's own 403 for want of scopes: a Bearer
// challenge whose error is insufficient_scope, wherever it stands in however
// many WWW-Authenticate fields. One with a scope and no error counts as well,
// which is what servers made with the go-sdk send.
//
// It reads more than Parse does, since it is not for us to teach an upstream
// grammar: a field it cannot read hides no other field, a comma may follow the
// scheme (as npm mcp-proxy writes it), and values need no quotes.
func FromHeader(status int, h http.Header) (Need, bool) {
	if status != http.StatusForbidden {
		return Need{}, false
	}
	need, ok := fromFields(h.Values("WWW-Authenticate"), insufficientScope)
	if !ok {
		need, ok = fromFields(h.Values("WWW-Authenticate"), "")
		ok = ok && len(need.Scopes) > 0
	}
	if !ok {
		return Need{}, false
	}
	return need, true
}

// fromFields looks for a Bearer challenge with an error code.
func fromFields(values []string, code string) (Need, bool) {
	for _, value := range values {
		if len(value) > maxFields {
			continue
		}
		p := parser{s: value, lenient: true}
		if p.run() != nil {
			continue
		}
		if c, ok := Find(p.parsed, scheme, code); ok {
			names, _ := c.Get("scope")
			description, _ := c.Get("error_description")
			return Need{Scopes: askable(strings.Fields(names)), Description: description}, true
		}
	}
	return Need{}, false
}

// askable returns the scopes that CheckScope lets through, once each.
func askable(names []string) scope.Set {
	kept, _ := writable(names, 0)
	return kept
}

// MayRefuse reports, at a small cost, whether FromMessage could recognise msg. It
// is true for every message that FromMessage recognises and false for nearly
// every other.
func MayRefuse(msg []byte) bool {
	if bytes.IndexByte(msg, '_') >= 0 && // in both words, and in few messages
		(bytes.Contains(msg, []byte(insufficientScope)) || bytes.Contains(msg, []byte("www_authenticate"))) {
		return true
	}
	// Either word can be spelled with escapes. Its letters and the underscore
	// are U+005F and U+0061 to U+007A.
	for rest := msg; ; {
		i := bytes.Index(rest, []byte(`\u00`))
		if i < 0 || i+4 >= len(rest) {
			return false
		}
		if c := rest[i+4]; '5' <= c && c <= '7' {
			return true
		}
		rest = rest[i+4:]
	}
}

// FromMessage recognises an upstream's own refusal inside a JSON-RPC response:
// an error whose data.error is insufficient_scope, with the scopes in
// data.required_scopes, data.requiredScopes or data.scope; or a result with
// isError whose _meta["mcp/www_authenticate"], one string or an array, holds a
// Bearer challenge with that error.
//
// Names are compared exactly. What is not one strict JSON object of at most
// 1 MiB, without duplicate names and invalid UTF-8, is not
// recognised, and neither is a request. Scopes that could not stand in a
// challenge of ours are left out of the Need. msg is not kept.
func FromMessage(msg []byte) (Need, bool) {
	if len(msg) > maxMessage || !MayRefuse(msg) {
		return Need{}, false
	}
	var r response
	in := reader{jsontext.NewDecoder(bytes.NewBuffer(msg))}
	if in.object(r.member(in)) != nil {
		return Need{}, false
	}
	if _, err := in.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return Need{}, false
	}
	return r.need()
}

// response is what of a message matters here.
type response struct {
	id                           jsontext.Value
	isRequest                    bool
	hasError, hasResult          bool
	message                      string // error.message
	code, description            string // of error.data
	requiredSnake, requiredCamel []string
	scope                        string
	isError                      bool     // of result
	challenges                   []string // of result._meta
}

// need draws the conclusion.
func (r *response) need() (Need, bool) {
	var need Need
	switch {
	case r.isRequest || r.hasError == r.hasResult:
		return Need{}, false
	case r.hasError:
		if r.code != insufficientScope {
			return Need{}, false
		}
		names := slices.Concat(r.requiredSnake, r.requiredCamel)
		if len(names) == 0 {
			names = strings.Fields(r.scope)
		}
		need = Need{Scopes: askable(names), Description: r.description}
		if need.Description == "" {
			need.Description = r.message
		}
	default:
		var ok bool
		if need, ok = fromFields(r.challenges, insufficientScope); !ok || !r.isError {
			return Need{}, false
		}
	}
	need.ID = r.id
	return need, true
}

// member reads one member of the message.
func (r *response) member(in reader) func(string) error {
	return func(name string) error {
		switch name {
		case "id":
			return in.id(&r.id)
		case "method":
			r.isRequest = true
		case "error":
			r.hasError = true
			return in.object(r.errorMember(in))
		case "result":
			r.hasResult = true
			return in.object(r.resultMember(in))
		}
		return in.dec.SkipValue()
	}
}

func (r *response) errorMember(in reader) func(string) error {
	return func(name string) error {
		switch name {
		case "message":
			return in.text(&r.message)
		case "data":
			return in.object(r.dataMember(in))
		}
		return in.dec.SkipValue()
	}
}

func (r *response) dataMember(in reader) func(string) error {
	return func(name string) error {
		switch name {
		case "error":
			return in.text(&r.code)
		case "error_description":
			return in.text(&r.description)
		case "scope":
			return in.text(&r.scope)
		case "required_scopes":
			return in.texts(&r.requiredSnake)
		case "requiredScopes":
			return in.texts(&r.requiredCamel)
		}
		return in.dec.SkipValue()
	}
}

func (r *response) resultMember(in reader) func(string) error {
	return func(name string) error {
		switch name {
		case "isError":
			r.isError = in.dec.PeekKind() == 't'
		case "_meta":
			return in.object(func(name string) error {
				if name == metaKey {
					return in.texts(&r.challenges)
				}
				return in.dec.SkipValue()
			})
		}
		return in.dec.SkipValue()
	}
}

// reader reads values of expected kinds and skips those of other kinds: a
// message that is odd in one place is not to be misread in another.
type reader struct{ dec *jsontext.Decoder }

// object calls member for each member of an object, positioned at its value,
// which member must consume.
func (in reader) object(member func(name string) error) error {
	if in.dec.PeekKind() != '{' {
		return in.dec.SkipValue()
	}
	if _, err := in.dec.ReadToken(); err != nil {
		return err
	}
	for in.dec.PeekKind() != '}' {
		name, err := in.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := in.dec.ReadToken()
	return err
}

// text reads a string.
func (in reader) text(into *string) error {
	if in.dec.PeekKind() != '"' {
		return in.dec.SkipValue()
	}
	token, err := in.dec.ReadToken()
	if err == nil {
		*into = token.String()
	}
	return err
}

// texts reads an array of strings, or one string as an array of one.
func (in reader) texts(into *[]string) error {
	if in.dec.PeekKind() != '[' {
		var one string
		err := in.text(&one)
		if one != "" {
			*into = []string{one}
		}
		return err
	}
	if _, err := in.dec.ReadToken(); err != nil {
		return err
	}
	for in.dec.PeekKind() != ']' {
		var one string
		if err := in.text(&one); err != nil {
			return err
		}
		*into = append(*into, one)
	}
	_, err := in.dec.ReadToken()
	return err
}

// id reads a request id: a string or a number.
func (in reader) id(into *jsontext.Value) error {
	kind := in.dec.PeekKind()
	if kind != '"' && kind != '0' {
		return in.dec.SkipValue()
	}
	value, err := in.dec.ReadValue()
	if err == nil {
		*into = value.Clone()
	}
	return err
}
