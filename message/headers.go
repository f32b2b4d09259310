package message

import (
	"net/http"
	"strings"
)

// The headers that mirror the body, in Go's canonical form.
const (
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
)

// mirrors are the values found for the mirrored headers of one request.
type mirrors struct {
	version, method, name mirrorValue
}

// mirrorValue is one header: how often it was sent, and its value without
// surrounding spaces and tabs.
type mirrorValue struct {
	label string
	count int
	value string
}

// CheckHeaders holds MCP-Protocol-Version, Mcp-Method and Mcp-Name against the
// message; the body decides, a header only has to agree. A missing, repeated,
// malformed or different value is refused with status 400, code -32020 and the
// message's id (REQ-25, REQ-26, REQ-27).
//
//   - A modern request must carry all that the specification demands of it,
//     Mcp-Name on tools/call, prompts/get, resources/read and (SEP-2663)
//     tasks/get, tasks/update and tasks/cancel. For notifications the headers
//     are not defined, so that only what is sent has to agree.
//   - On a message of the 2025 revisions headers may be absent. When
//     MCP-Protocol-Version names a modern revision, a request lacks the _meta
//     entry that every modern request must have and is refused with -32602
//     (REQ-29; so do the conformance suite and the go-sdk), any other message
//     but a notification with -32020.
//   - Mcp-Name on a method outside the specification is left to the upstream,
//     and so is every Mcp-Param-* header (REQ-28).
//
// It reads h and c only and may be called concurrently.
func CheckHeaders(h http.Header, c *Call) *Error {
	m := collect(h)
	for _, v := range []*mirrorValue{&m.version, &m.method, &m.name} {
		if v.count > 1 {
			return c.mismatch(v.label + " was sent more than once")
		}
	}
	if err := c.checkVersion(m.version); err != nil {
		return err
	}
	if err := c.checkMethod(m.method); err != nil {
		return err
	}
	return c.checkName(m.name)
}

// collect finds the mirrored headers. An underscore counts as a hyphen, because
// servers behind CGI-like interfaces cannot tell the two apart.
func collect(h http.Header) mirrors {
	m := mirrors{
		version: mirrorValue{label: "MCP-Protocol-Version"},
		method:  mirrorValue{label: headerMethod},
		name:    mirrorValue{label: headerName},
	}
	for name, values := range h {
		switch {
		case sameHeader(name, headerVersion):
			m.version.add(values)
		case sameHeader(name, headerMethod):
			m.method.add(values)
		case sameHeader(name, headerName):
			m.name.add(values)
		}
	}
	return m
}

func (v *mirrorValue) add(values []string) {
	v.count += len(values)
	if len(values) > 0 {
		v.value = strings.Trim(values[0], " \t")
	}
}

// sameHeader compares field names without regard to case, and to hyphen or
// underscore.
func sameHeader(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldHeader(a[i]) != foldHeader(b[i]) {
			return false
		}
	}
	return true
}

func foldHeader(c byte) byte {
	switch {
	case c == '_':
		return '-'
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	}
	return c
}

// mismatch is a refusal by reason of a header.
func (c *Call) mismatch(text string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: CodeHeaderMismatch, Message: text, ID: c.ID}
}

func (c *Call) checkVersion(v mirrorValue) *Error {
	if v.count == 0 {
		if c.Era == Era2026 && c.Kind == Request {
			return c.mismatch(v.label + " is missing: a request that names its revision in _meta must repeat it there")
		}
		return nil
	}
	if c.Era == Era2026 || c.namesRevision() {
		if v.value != c.Version {
			return c.mismatch(differs(v, c.Version))
		}
		return nil
	}
	if v.value < firstModern || c.Kind == Notification {
		return nil
	}
	if c.Kind == Request {
		return &Error{Status: http.StatusBadRequest, Code: CodeInvalidParams, ID: c.ID,
			Message: v.label + " is " + show(v.value) + ", but params._meta lacks " + metaVersion}
	}
	return c.mismatch(v.label + " is " + show(v.value) + ", but the message belongs to a revision before " + firstModern)
}

// namesRevision reports whether a message of the 2025 era names its revision in
// params._meta all the same. The one initialize proposes is not meant to be
// mirrored: nothing has been agreed on then.
func (c *Call) namesRevision() bool {
	return c.Version != "" && c.Method != "initialize"
}

func (c *Call) checkMethod(v mirrorValue) *Error {
	switch {
	case v.count == 0 && c.Era == Era2026 && c.Kind == Request:
		return c.mismatch(v.label + " is missing")
	case v.count == 0 || v.value == c.Method:
		return nil
	}
	return c.mismatch(differs(v, c.Method))
}

func (c *Call) checkName(v mirrorValue) *Error {
	op := operations[c.Method]
	if op == nil {
		return nil
	}
	if v.count == 0 {
		if op.mirrored && c.Era == Era2026 && c.Kind == Request {
			return c.mismatch(v.label + " is missing: " + c.Method + " must repeat " + op.source() + " there")
		}
		return nil
	}
	if op.target == targetNone || op.target == targetListen {
		return c.mismatch(v.label + " was sent, but " + c.Method + " has nothing that it could repeat")
	}
	value, err := DecodeHeaderValue(v.value)
	if err != nil {
		return c.mismatch(v.label + " is malformed: " + show(v.value))
	}
	if want := c.mirror(op); value != want {
		return c.mismatch(differs(mirrorValue{label: v.label, value: value}, want))
	}
	return nil
}

// mirror is what Mcp-Name repeats of this call.
func (c *Call) mirror(op *operation) string {
	switch op.target {
	case targetURI:
		return c.URI
	case targetTask:
		return c.TaskID
	}
	return c.Name
}

// source names the member of params that Mcp-Name repeats.
func (op *operation) source() string {
	switch op.target {
	case targetURI:
		return "params.uri"
	case targetTask:
		return "params.taskId"
	}
	return "params.name"
}

// differs says that a header and the body disagree.
func differs(v mirrorValue, want string) string {
	if want == "" {
		return v.label + " is " + show(v.value) + ", but the body has none"
	}
	return v.label + " is " + show(v.value) + ", but the body says " + show(want)
}

// show cuts a value to what may stand in a message: 80 characters, the
// printable ones.
func show(value string) string {
	const limit = 80
	if value == "" {
		return "empty"
	}
	b := make([]byte, 0, limit+3)
	for i := range len(value) {
		if i == limit {
			return string(append(b, "..."...))
		}
		if c := value[i]; c >= ' ' && c <= '~' && c != '"' && c != '\\' {
			b = append(b, c)
		} else {
			b = append(b, '?')
		}
	}
	return string(b)
}
