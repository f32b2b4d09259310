package era

import (
	"context"

	"github.com/stile-mcp/stile/internal/mirror"
)

// learnAll asks the server for its tools, whose calls may repeat arguments in headers
// (2026-07-28 streamable-http "Custom Headers from Tool Parameters").
func (l *Legacy) learnAll(ctx context.Context) {
	cursor := ""
	for range mirror.MaxPages {
		params := object{}
		if cursor != "" {
			params = params.with("cursor", quote(cursor))
		}
		answer, _, err := l.server.ask(ctx, l.header(ctx, "tools/list", nil),
			requestLine(l.nextID(), "tools/list", l.wrapping().wrap(params).bytes()))
		if err != nil || answer.result == nil {
			return
		}
		if cursor = l.tools.Learn(answer.result); cursor == "" {
			return
		}
	}
}
