package forward

import (
	"context"
	"io"
	"net/http"
)

// Transport lets tests watch the connections.
func (h *HTTP) Transport() *http.Transport { return h.transport }

// Modern reports whether the server is found to speak 2026-07-28.
func (e *Era) Modern(ctx context.Context) bool { return e.speaks(ctx).modern == yes }

// Lend returns body as the transport gets it when it belongs to a server.
func Lend(body io.Reader) io.ReadCloser { return &lentBody{r: body} }
