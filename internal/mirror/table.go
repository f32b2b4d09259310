package mirror

import (
	"net/http"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/message"
)

// MaxTools is how many tools with such arguments a Table remembers, and MaxPages how
// many pages of a list of tools are worth asking for.
const (
	MaxTools = 10_000
	MaxPages = 100
)

// Table knows the tools of one server as far as it has told of them. The zero Table
// is empty and ready. It is safe for concurrent use.
type Table struct {
	mu    sync.Mutex
	tools map[string][]Argument
}

// Learn takes over what the result of a tools/list says of its tools, and returns
// where the next page is, empty after the last.
func (t *Table) Learn(result jsontext.Value) (next string) {
	var list struct {
		Tools []struct {
			Name   string         `json:"name"`
			Schema jsontext.Value `json:"inputSchema"`
		} `json:"tools"`
		Next string `json:"nextCursor"`
	}
	if result.Kind() != '{' || json.Unmarshal(result, &list, lenient) != nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tool := range list.Tools {
		found := In(tool.Schema)
		switch {
		case len(found) == 0:
			delete(t.tools, tool.Name)
		case len(t.tools) < MaxTools:
			if t.tools == nil {
				t.tools = map[string][]Argument{}
			}
			t.tools[tool.Name] = found
		}
	}
	return list.Next
}

// Set sets the headers that repeat the body of a request of 2026-07-28: Mcp-Method,
// Mcp-Name where the method has one, and those of arguments (2026-07-28
// streamable-http "Request Metadata"; REQ-26, REQ-28).
func (t *Table) Set(h http.Header, method string, params jsontext.Value) {
	h.Set("Mcp-Method", method)
	var p struct {
		Name      string         `json:"name"`
		URI       string         `json:"uri"`
		TaskID    string         `json:"taskId"`
		Arguments jsontext.Value `json:"arguments"`
	}
	if params.Kind() == '{' {
		_ = json.Unmarshal(params, &p, lenient) // what cannot be read has no header
	}
	switch method {
	case "tools/call":
		h.Set("Mcp-Name", message.EncodeHeaderValue(p.Name))
		t.setArguments(h, p.Name, p.Arguments)
	case "prompts/get":
		h.Set("Mcp-Name", message.EncodeHeaderValue(p.Name))
	case "resources/read":
		h.Set("Mcp-Name", message.EncodeHeaderValue(p.URI))
	case "tasks/get", "tasks/update", "tasks/cancel": // SEP-2663
		h.Set("Mcp-Name", message.EncodeHeaderValue(p.TaskID))
	}
}

func (t *Table) setArguments(h http.Header, tool string, arguments jsontext.Value) {
	t.mu.Lock()
	all := t.tools[tool]
	t.mu.Unlock()
	for _, a := range all {
		if text, ok := Text(a.Value(arguments)); ok {
			h.Set(a.Header, message.EncodeHeaderValue(text))
		}
	}
}
