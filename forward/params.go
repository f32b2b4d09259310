package forward

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/mirror"
	"github.com/stile-mcp/stile/message"
)

// A tool of 2026-07-28 may have arguments repeated in headers, Mcp-Param-NAME, for
// intermediaries to route by. There are none on stdio, so whether they agree with
// the body is for Stile to see (REQ-28; 2026-07-28 streamable-http "Custom Headers
// from Tool Parameters").

type mirroredArgument = mirror.Argument

const (
	// maxTools is how many tools of a child are remembered.
	maxTools = 10_000
	// maxPages is how many pages of a list of tools are asked for.
	maxPages = 100
)

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
		found := mirror.In(tool.Schema)
		switch {
		case len(found) == 0:
			delete(k.mirrored, tool.Name)
		case len(k.mirrored) < maxTools:
			k.mirrored[tool.Name] = found
		}
	}
	return list.Result.Next
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
		if text := m.Mismatch(q.r.Header[m.Header], m.Value(body.Params.Arguments)); text != "" {
			return &refusal{status: http.StatusBadRequest, code: message.CodeHeaderMismatch, text: m.Header + " " + text}
		}
	}
	return nil
}

// learn looks at what is answered to a client's own tools/list.
func (k *child) learn(x *call, m *envelope.Message) {
	if x.tools && !m.Failed {
		k.learnTools(m.Raw)
	}
}
