package forward

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/message"
)

// A tool of 2026-07-28 may have arguments repeated in headers, Mcp-Param-NAME, for
// intermediaries to route by. There are none on stdio, so whether they agree with
// the body is for Stile to see (REQ-28; 2026-07-28 streamable-http "Custom Headers
// from Tool Parameters").

// mirroredArgument is an argument that a header repeats.
type mirroredArgument struct {
	header string // in Go's canonical form
	path   []string
}

const (
	// maxTools is how many tools of a child are remembered.
	maxTools = 10_000
	// maxPages is how many pages of a list of tools are asked for.
	maxPages = 100
	// maxSchemaDepth is how deep the properties of a schema are followed.
	maxSchemaDepth = 32
)

// schema is what matters of a JSON Schema. Only what is reached by properties alone
// may be mirrored.
type schema struct {
	Header     jsontext.Value            `json:"x-mcp-header"`
	Properties map[string]jsontext.Value `json:"properties"`
}

// lenient reads what servers say: the last of several members counts.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// learnTools takes over what an answer to tools/list says of mirrored arguments,
// and returns where the next page is.
func (k *child) learnTools(answer []byte) (next string) {
	var list struct {
		Result struct {
			Tools []struct {
				Name   string         `json:"name"`
				Schema jsontext.Value `json:"inputSchema"`
			} `json:"tools"`
			Next string `json:"nextCursor"`
		} `json:"result"`
	}
	if json.Unmarshal(answer, &list, lenient) != nil {
		return ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mirrored == nil {
		k.mirrored = map[string][]mirroredArgument{}
	}
	for _, tool := range list.Result.Tools {
		found := mirroredIn(tool.Schema, nil)
		switch {
		case len(found) == 0:
			delete(k.mirrored, tool.Name)
		case len(k.mirrored) < maxTools:
			k.mirrored[tool.Name] = found
		}
	}
	return list.Result.Next
}

func mirroredIn(raw jsontext.Value, path []string) []mirroredArgument {
	var s schema
	if raw.Kind() != '{' || len(path) > maxSchemaDepth || json.Unmarshal(raw, &s, lenient) != nil {
		return nil
	}
	var found []mirroredArgument
	if s.Header.Kind() == '"' && len(path) > 0 {
		var name string
		if json.Unmarshal(s.Header, &name, lenient) == nil && isToken(name) {
			found = append(found, mirroredArgument{http.CanonicalHeaderKey("Mcp-Param-" + name), path})
		}
	}
	for name, sub := range s.Properties {
		found = append(found, mirroredIn(sub, append(path[:len(path):len(path)], name))...)
	}
	return found
}

// askTools asks a child that speaks 2026-07-28 for its tools. A server without
// tools answers with an error, which is as good as none.
func (k *child) askTools(ctx context.Context) {
	cursor := ""
	for range maxPages {
		params := ownMeta
		if cursor != "" {
			quoted, err := jsontext.AppendQuote(nil, cursor)
			if err != nil {
				return
			}
			params += `,"cursor":` + string(quoted)
		}
		answer, err := k.ask(ctx, `{"jsonrpc":"2.0","id":0,"method":"tools/list","params":{`+params+`}}`)
		if err != nil || answer.Failed {
			return
		}
		if cursor = k.learnTools(answer.Raw); cursor == "" {
			return
		}
	}
}

// checkParams holds the headers of a tools/call that repeat arguments against them.
func (k *child) checkParams(q *request) error {
	k.mu.Lock()
	none := len(k.mirrored) == 0
	k.mu.Unlock()
	if none || q.message.Method != "tools/call" {
		return nil
	}
	var body struct {
		Params struct {
			Name      string         `json:"name"`
			Arguments jsontext.Value `json:"arguments"`
		} `json:"params"`
	}
	if err := json.Unmarshal(q.message.Raw, &body); err != nil {
		return &refusal{status: http.StatusBadRequest, code: message.CodeInvalidParams, text: "params of tools/call cannot be read", cause: err}
	}
	k.mu.Lock()
	mirrored := k.mirrored[body.Params.Name]
	k.mu.Unlock()
	for _, m := range mirrored {
		if text := m.mismatch(q.r.Header[m.header], valueAt(body.Params.Arguments, m.path)); text != "" {
			return &refusal{status: http.StatusBadRequest, code: message.CodeHeaderMismatch, text: m.header + " " + text}
		}
	}
	return nil
}

// valueAt is the argument at a path, nil when there is none.
func valueAt(raw jsontext.Value, path []string) jsontext.Value {
	for _, name := range path {
		var object map[string]jsontext.Value
		if raw.Kind() != '{' || json.Unmarshal(raw, &object) != nil {
			return nil
		}
		raw = object[name]
	}
	return raw
}

// mismatch says what is wrong with a header, empty when nothing is.
func (m *mirroredArgument) mismatch(sent []string, value jsontext.Value) string {
	if len(value) == 0 || value.Kind() == 'n' {
		if len(sent) > 0 {
			return "was sent, but the argument " + strings.Join(m.path, ".") + " has no value"
		}
		return ""
	}
	switch len(sent) {
	case 0:
		return "is missing: it must repeat the argument " + strings.Join(m.path, ".")
	case 1:
	default:
		return "was sent more than once"
	}
	text, err := message.DecodeHeaderValue(sent[0])
	if err != nil {
		return "is malformed"
	}
	if !sameValue(text, value) {
		return "differs from the argument " + strings.Join(m.path, ".")
	}
	return ""
}

// sameValue compares a header with an argument; numbers by what they mean.
func sameValue(text string, value jsontext.Value) bool {
	switch value.Kind() {
	case '"':
		var want string
		return json.Unmarshal(value, &want) == nil && text == want
	case 't', 'f':
		return text == string(value)
	case '0':
		return text == string(value) || sameNumber(text, string(value))
	default:
		return false
	}
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

// learn looks at what is answered to a client's own tools/list.
func (k *child) learn(x *call, m *envelope.Message) {
	if x.tools && !m.Failed {
		k.learnTools(m.Raw)
	}
}
