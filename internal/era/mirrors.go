package era

import (
	"context"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/mirror"
	"github.com/stile-mcp/stile/message"
)

// mirrors are the arguments that calls of tools repeat in headers (2026-07-28
// streamable-http "Custom Headers from Tool Parameters"), as far as the server has
// told.
type mirrors struct {
	mu    sync.Mutex
	tools map[string][]mirror.Argument
}

// maxTools is how many tools with such arguments are remembered, and maxPages how
// many pages of a list are asked for.
const (
	maxTools = 10_000
	maxPages = 100
)

// learn takes over what a list says of its tools.
func (m *mirrors) learn(list jsontext.Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range elements(list) {
		tool := lenient(one)
		name := tool.text("name")
		found := mirror.In(tool.get("inputSchema"))
		switch {
		case len(found) == 0:
			delete(m.tools, name)
		case len(m.tools) < maxTools:
			if m.tools == nil {
				m.tools = map[string][]mirror.Argument{}
			}
			m.tools[name] = found
		}
	}
}

// set sets the headers of a call.
func (m *mirrors) set(h http.Header, params object) {
	m.mu.Lock()
	all := m.tools[params.text("name")]
	m.mu.Unlock()
	for _, a := range all {
		if text, ok := mirror.Text(a.Value(params.get("arguments"))); ok {
			h.Set(a.Header, message.EncodeHeaderValue(text))
		}
	}
}

// learnAll asks the server for its tools.
func (l *Legacy) learnAll(ctx context.Context) {
	cursor := jsontext.Value(nil)
	for range maxPages {
		params := object{}
		if cursor != nil {
			params = params.with("cursor", cursor)
		}
		answer, _, err := l.remote.ask(ctx, l.header(ctx, "tools/list", nil),
			requestLine(l.nextID(), "tools/list", l.wrapping().wrap(params).bytes()))
		if err != nil || answer.result == nil {
			return
		}
		result := lenient(answer.result)
		l.tools.learn(result.get("tools"))
		if cursor = result.get("nextCursor"); textOf(cursor) == "" {
			return
		}
	}
}
