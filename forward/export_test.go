package forward

import (
	"context"
	"io"
	"net"
	"net/http"
)

// Wrap lets tests watch the connections to a plain http URL.
func (h *HTTP) Wrap(each func(net.Conn) net.Conn) {
	w := h.transport.(*wire)
	dial := w.dial
	w.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err == nil {
			c = each(c)
		}
		return c, err
	}
}

// Modern reports whether the server is found to speak 2026-07-28.
func (e *Era) Modern(ctx context.Context) bool { return e.speaks(ctx).modern == yes }

// Lend returns body as the transport gets it when it belongs to a server.
func Lend(body io.Reader) io.ReadCloser { return &lentBody{r: body} }

// RoundTrip sends a request as it is sent for ServeHTTP.
func (h *HTTP) RoundTrip(r *http.Request) (*http.Response, error) {
	return h.transport.RoundTrip(h.request(r))
}

// HostPort is what is dialled for a URL.
var HostPort = hostPort
