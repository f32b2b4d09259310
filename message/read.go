package message

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Read reads one JSON-RPC message of MCP from a whole HTTP body. It refuses
// whatever two readers could understand differently: duplicate names at any
// level, invalid UTF-8 and unpaired surrogates, raw control characters, data
// after the message, members that equal a known one but for case or are called
// __proto__, control characters in what a policy decides on, wrong JSON kinds, more than MaxDepth
// levels, and batches (REQ-21, DES-25). What is not JSON gets code -32700, a
// message of the wrong shape -32600, params of the wrong shape -32602; all with
// status 400.
//
// A request of the specification without an id, and a notifications/ method
// with one, are refused as well: some servers would run the former unanswered.
// A method outside the specification without an id is a Notification; what it
// may do is for the policy to say by its name.
//
// A modern request without a required _meta entry is refused here too (REQ-29);
// the headers are CheckHeaders' part.
//
// The Call aliases body, which is only read. Read may be called concurrently.
func Read(body []byte) (*Call, *Error) {
	if isBatch(body) {
		return nil, badRequest(CodeInvalidRequest, "batches are not accepted: send one message a request")
	}
	s := newScanner(body)
	defer s.release()
	if err := s.scan(); err != nil {
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

func isBatch(body []byte) bool {
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '['
		}
	}
	return false
}

// assemble fills the call from what the scan found. Mistakes go to s.first.
func (s *scanner) assemble(c *Call) {
	s.envelope(c)
	if s.first != nil || c.Kind == Response {
		return
	}
	s.params(c)
	if s.first != nil {
		return
	}
	op := operations[c.Method]
	s.era(c, op)
	if op == nil || s.first != nil {
		return
	}
	s.operand(c, op)
}

// envelope judges the members of JSON-RPC itself and tells the kind.
func (s *scanner) envelope(c *Call) {
	f := &s.found
	if v := f[slotJSONRPC]; v.Kind() != '"' || string(unquote(v)) != "2.0" {
		s.refuse(CodeInvalidRequest, `jsonrpc must be the string "2.0"`)
		return
	}
	if id := f[slotID]; id != nil && !isID(id) {
		s.refuse(CodeInvalidRequest, "id must be a string or an integer")
		return
	}
	c.ID = f[slotID]
	if f[slotMethod] == nil {
		s.response(c)
		return
	}
	c.Method = s.method(f[slotMethod])
	if f[slotResult] != nil || f[slotError] != nil {
		s.refuse(CodeInvalidRequest, "a message is a request or a response: method stands beside result or error")
	}
	notification := strings.HasPrefix(c.Method, "notifications/")
	switch {
	case c.ID != nil && notification:
		s.refuse(CodeInvalidRequest, "a notification must not have an id")
	case c.ID != nil:
		c.Kind = Request
	case operations[c.Method] != nil:
		// Some servers would run it all the same, without an answer.
		s.refuse(CodeInvalidRequest, c.Method+" is a request and must have an id")
	default:
		c.Kind = Notification
	}
}

// method decodes the method; the known ones cost no allocation.
func (s *scanner) method(raw jsontext.Value) string {
	if raw.Kind() != '"' {
		s.refuse(CodeInvalidRequest, "method must be a string")
		return ""
	}
	text := unquote(raw)
	if op := operations[string(text)]; op != nil {
		return op.method
	}
	switch {
	case len(text) == 0:
		s.refuse(CodeInvalidRequest, "method must not be empty")
	case len(text) > MaxName:
		s.refuse(CodeInvalidRequest, "method is longer than "+strconv.Itoa(MaxName)+" bytes")
	case hasControl(text):
		s.refuse(CodeInvalidRequest, "method holds a control character")
	case isMisspelt(text):
		s.refuse(CodeInvalidRequest, "method differs from one of the specification only in case")
	}
	return string(text)
}

// isMisspelt reports whether a server that ignores case would take a method for
// another one than a policy does, which knows it by its exact name.
func isMisspelt(method []byte) bool {
	for known := range operations {
		if foldsTo(method, known) {
			return true
		}
	}
	return false
}

// response judges the answer to a request of the server (2025 revisions only).
func (s *scanner) response(c *Call) {
	result, failure := s.found[slotResult], s.found[slotError]
	c.Kind, c.Era = Response, Era2025
	switch {
	case result == nil && failure == nil:
		s.refuse(CodeInvalidRequest, "the message has no method, no result and no error")
	case result != nil && failure != nil:
		s.refuse(CodeInvalidRequest, "a response has a result or an error, not both")
	case result != nil && result.Kind() != '{':
		s.refuse(CodeInvalidRequest, "result must be an object")
	case failure != nil && failure.Kind() != '{':
		s.refuse(CodeInvalidRequest, "error must be an object")
	case c.ID == nil:
		s.refuse(CodeInvalidRequest, "a response must have an id")
	}
}

// params judges params and params._meta, whose shape no method changes.
func (s *scanner) params(c *Call) {
	f := &s.found
	c.Params = f[slotParams]
	if c.Params != nil && c.Params.Kind() != '{' {
		s.refuse(CodeInvalidParams, "params must be an object")
	}
	s.expect(slotMeta, '{', "params._meta must be an object")
	s.expect(slotVersion, '"', "params._meta "+metaVersion+" must be a string")
	s.expect(slotCapabilities, '{', "params._meta "+metaCapabilities+" must be an object")
	s.expect(slotClientInfo, '{', "params._meta "+metaClientInfo+" must be an object")
	s.expect(slotLogLevel, '"', "params._meta io.modelcontextprotocol/logLevel must be a string")
	if t := f[slotProgressToken]; t != nil && t.Kind() != '"' && t.Kind() != '0' {
		s.refuse(CodeInvalidParams, "params._meta progressToken must be a string or a number")
	}
}

// expect refuses a member that is there with another JSON kind.
func (s *scanner) expect(at slot, kind jsontext.Kind, text string) {
	if v := s.found[at]; v != nil && v.Kind() != kind {
		s.refuse(CodeInvalidParams, text)
	}
}

// era tells the generation from the message alone: a request that carries its
// revision in _meta is modern, and so are the methods that only modern servers
// have (2026-07-28 basic/versioning "Backward Compatibility").
func (s *scanner) era(c *Call, op *operation) {
	c.Era = Era2025
	if v := s.found[slotVersion]; v != nil {
		c.Version = s.revision(v, "params._meta "+metaVersion)
		if legacyRevisions[c.Version] == "" {
			c.Era = Era2026
		}
	}
	if op != nil && op.modern {
		c.Era = Era2026
	}
	if c.Era == Era2026 && c.Kind == Request {
		s.require(slotVersion, "params._meta must have "+metaVersion)
		s.require(slotCapabilities, "params._meta must have "+metaCapabilities)
		return
	}
	if c.Method == "initialize" && c.Version == "" && s.found[slotProposed] != nil {
		s.expect(slotProposed, '"', "params.protocolVersion must be a string")
		if s.first == nil {
			c.Version = s.revision(s.found[slotProposed], "params.protocolVersion")
		}
	}
}

// revision decodes the name of a revision; known ones cost no allocation.
func (s *scanner) revision(raw jsontext.Value, where string) string {
	text := unquote(raw)
	if known := legacyRevisions[string(text)]; known != "" {
		return known
	}
	if string(text) == firstModern {
		return firstModern
	}
	if len(text) == 0 {
		s.refuse(CodeInvalidParams, where+" must not be empty")
	}
	s.printable(text, where)
	return string(text)
}

func (s *scanner) require(at slot, text string) {
	if s.found[at] == nil {
		s.refuse(CodeInvalidParams, text)
	}
}

// operand fills in what the method acts on.
func (s *scanner) operand(c *Call, op *operation) {
	switch op.target {
	case targetName:
		c.Name = s.text(slotName, "params.name")
		s.expect(slotArguments, '{', "params.arguments must be an object")
		c.Args = s.found[slotArguments]
		if op.texts {
			s.texts(c.Args)
		}
	case targetURI:
		if op.legacy && c.Era == Era2026 && s.found[slotURI] == nil {
			return
		}
		c.URI = s.text(slotURI, "params.uri")
	case targetTask:
		c.TaskID = s.text(slotTaskID, "params.taskId")
	case targetRef:
		s.reference(c)
	case targetListen:
		s.listen(c)
	}
}

// texts refuses arguments that are not all strings. Servers that decode into
// strings read null as an empty one, which is not what was judged.
func (s *scanner) texts(args jsontext.Value) {
	if s.first != nil || args == nil {
		return
	}
	s.rewind(args)
	if _, err := s.dec.ReadToken(); err != nil {
		return // not reached: the arguments have been read once
	}
	for s.dec.PeekKind() != '}' && s.first == nil {
		if _, err := s.dec.ReadToken(); err != nil {
			return // not reached either
		}
		if s.dec.PeekKind() != '"' {
			s.refuse(CodeInvalidParams, "each of params.arguments of prompts/get must be a string")
			return
		}
		if err := s.dec.SkipValue(); err != nil {
			return // nor this
		}
	}
}

// reference reads params.ref of completion/complete: a prompt by name or a
// resource by URI. Both at once would leave open which of them is meant.
func (s *scanner) reference(c *Call) {
	s.require(slotRef, "completion/complete must have params.ref")
	s.expect(slotRef, '{', "params.ref must be an object")
	if s.first == nil {
		s.first = s.foreign[slotRef]
	}
	if s.first != nil {
		return
	}
	c.RefType = s.text(slotRefType, "params.ref.type")
	switch {
	case s.first != nil:
	case c.RefType == "ref/prompt":
		c.Name = s.text(slotRefName, "params.ref.name")
		s.forbid(slotRefURI, "params.ref of type ref/prompt must not have a uri")
	case c.RefType == "ref/resource":
		c.Name = s.text(slotRefURI, "params.ref.uri")
		s.forbid(slotRefName, "params.ref of type ref/resource must not have a name")
	default:
		s.refuse(CodeInvalidParams, "params.ref.type must be ref/prompt or ref/resource")
	}
}

func (s *scanner) forbid(at slot, text string) {
	if s.found[at] != nil {
		s.refuse(CodeInvalidParams, text)
	}
}

// listen reads the resources that subscriptions/listen asks for (REQ-33).
func (s *scanner) listen(c *Call) {
	s.expect(slotNotifications, '{', "params.notifications must be an object")
	if s.first == nil {
		s.first = s.foreign[slotNotifications]
	}
	s.expect(slotSubscriptions, '[', "params.notifications.resourceSubscriptions must be an array")
	list := s.found[slotSubscriptions]
	if s.first != nil || list == nil {
		return
	}
	s.rewind(list)
	if _, err := s.dec.ReadToken(); err != nil {
		return // not reached: the list has been read once
	}
	for s.dec.PeekKind() != ']' && s.first == nil {
		v, err := s.dec.ReadValue()
		if err != nil {
			return // not reached either
		}
		c.Listen = append(c.Listen, s.decode(v, "each of params.notifications.resourceSubscriptions"))
	}
}

// text is a required string of params.
func (s *scanner) text(at slot, where string) string {
	raw := s.found[at]
	if raw == nil {
		s.refuse(CodeInvalidParams, where+" is missing")
		return ""
	}
	return s.decode(raw, where)
}

// decode turns a value into the string that a policy decides on. An empty one
// is refused: it would read as absent.
func (s *scanner) decode(raw jsontext.Value, where string) string {
	if raw.Kind() != '"' {
		s.refuse(CodeInvalidParams, where+" must be a string")
		return ""
	}
	text := unquote(raw)
	if len(text) == 0 {
		s.refuse(CodeInvalidParams, where+" must not be empty")
	}
	s.printable(text, where)
	return string(text)
}

func (s *scanner) printable(text []byte, where string) {
	if len(text) > MaxName {
		s.refuse(CodeInvalidParams, where+" is longer than "+strconv.Itoa(MaxName)+" bytes")
	}
	if hasControl(text) {
		s.refuse(CodeInvalidParams, where+" holds a control character")
	}
}
