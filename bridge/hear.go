package bridge

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
)

// hearing is whose answer a message of the server came in.
type hearing struct {
	b    *bridge
	call *call // nil for the stream on which the server speaks unasked
	// asked takes note of a request of the server; nil where there must be none.
	asked func(m *envelope.Message)
	// answered sees the answer to the call before the client does. Optional.
	answered func(m *envelope.Message)
}

// take takes a message of the server.
func (h *hearing) take(line []byte) {
	if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '[' { // a batch, which servers of 2025-03-26 may send
		parts, err := envelope.Split(line)
		for _, part := range parts {
			h.takeOne(part)
		}
		if err != nil {
			h.b.complain("message of the MCP server skipped", "error", err)
		}
		return
	}
	h.takeOne(line)
}

func (h *hearing) takeOne(line []byte) {
	m, err := envelope.Read(line)
	switch {
	case err != nil:
		h.b.complain("message of the MCP server skipped", "error", err)
	case m.Kind == envelope.Response:
		h.response(m)
	case h.call != nil && h.call.isCancelled():
	case m.Kind == envelope.Request && h.asked == nil:
		h.b.complain("request of the MCP server skipped: 2026-07-28 has none", "method", m.Method)
	case m.Kind == envelope.Request:
		h.asked(m)
		h.b.pass(line)
	default:
		if m.Method == "notifications/cancelled" {
			h.b.old.takenBack(m)
		}
		h.b.pass(line)
	}
}

// response takes an answer to whom it is for. On the stream of a call that is the
// call; elsewhere its id tells.
func (h *hearing) response(m *envelope.Message) {
	c := h.call
	switch {
	case c == nil && m.ID.Exists():
		c = h.b.desk.find(envelope.Key(m.At(m.ID)))
		if c != nil && c.isModern() {
			c = nil // which has a stream of its own
		}
	case c != nil && m.ID.Exists() && envelope.Key(m.At(m.ID)) != c.key:
		c = nil
	}
	if c == nil {
		h.b.complain("answer of the MCP server skipped: nobody waits for it")
		return
	}
	if c == h.call && h.answered != nil {
		h.answered(m)
	}
	c.answer(m.Raw)
}

// incomplete answers a call whose answer ended without one.
func (c *call) incomplete(a *remote.Reply, err error) {
	host := c.b.far.host()
	media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	switch {
	case c.over() || c.ctx.Err() != nil:
	case isTooLarge(err):
		c.fail(http.StatusBadGateway, fmt.Sprintf("the answer of the MCP server at %s is longer than this bridge takes: %s; the call may have been carried out", host, err))
	case err != nil || a.IsStream():
		c.b.log.Warn("an answer of the MCP server broke off", "method", c.m.Method, "error", err)
		c.fail(http.StatusBadGateway, fmt.Sprintf("the MCP server at %s broke off before it answered; the call may have been carried out, repeat it if that is safe", host))
	case a.Status == http.StatusAccepted || a.Status == http.StatusNoContent:
		c.fail(http.StatusBadGateway, fmt.Sprintf("the MCP server at %s took the request and gave no answer", host))
	default:
		c.fail(http.StatusBadGateway, fmt.Sprintf("the MCP server at %s answered with %s that is no MCP message; see that the URL is that of an MCP endpoint", host, plain(mediaName(media))))
	}
}

func mediaName(media string) string {
	if media == "" {
		return "something"
	}
	return media
}
