package forward

import (
	"net/http"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/message"
)

// postStateless takes a message of the 2025 revisions to a child that was greeted
// before, without a session: every request stands alone, and what only a session
// can carry is answered here.
func (c *Command) postStateless(q *request) error {
	m := q.message
	if q.version != "" && !message.IsLegacy(q.version) {
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "MCP-Protocol-Version names no known revision"}
	}
	switch m.Kind {
	case envelope.Response:
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "nothing was asked: there are no sessions here"}
	case envelope.Notification:
		// All that the revisions have are about a session: a call is cancelled by the
		// end of its connection.
		q.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	switch m.Method {
	case "logging/setLevel":
		q.writeJSON(event{data: emptyResult(m), status: http.StatusOK})
		return nil
	case "resources/subscribe", "resources/unsubscribe":
		q.writeJSON(event{data: errorLine(m.At(m.ID), -32601, "not available without sessions"), status: http.StatusOK})
		return nil
	}
	k, err := c.pooled(q.r.Context(), q.owner, false)
	if err != nil {
		return err
	}
	if m.Method == "initialize" {
		answer, _ := k.welcomeTo(q)
		q.writeJSON(answer)
		return nil
	}
	x := &call{stream: newMailbox(&c.config, false).open()}
	defer k.cancel(x) // unless it has been answered
	return c.relay(q, k, x)
}

// welcomeTo is what a server that was greeted before said then, for a client that
// greets it now: with the older of the two revisions, which is returned too.
func (k *child) welcomeTo(q *request) (event, string) {
	edits := []envelope.Edit{{At: k.welcome.ID, With: q.message.At(q.message.ID)}}
	version := k.welcome.Text(k.welcome.Version)
	if asked := q.message.Text(q.message.Version); !k.welcome.Failed && message.IsLegacy(asked) && asked < version {
		version = asked
		edits = append(edits, envelope.Edit{At: k.welcome.Version, With: []byte(`"` + asked + `"`)})
	}
	return event{data: k.welcome.Replace(edits...), status: http.StatusOK}, version
}
